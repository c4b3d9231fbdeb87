"""The decoders' boundary and the multipart parser under fuzz: every input ends in pixels, a reason, or a 4xx."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.data.crops import View
from cellclf.serving.images import decoded
from cellclf.serving.multipart import ImageParts, boundary_of
from cellclf.serving.refusals import RefusedError
from tests.serving.conftest import picture

# The service ignores these itself; pytest replaces the filters that a module sets.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:PIL")

SIZE = (8, 8)
FORMS = {form: picture(1, size=(24, 16), form=form) for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")}


def is_pixels_or_reason(content: bytes) -> None:
    found = decoded(content, view=View(*SIZE), max_pixels=10_000)
    if isinstance(found, str):
        assert found
        assert "\n" not in found
        assert "/" not in re.sub(r"zlib/|b'.*'", "", found), "no path, but for what the file itself says"
    else:
        assert found.shape == (*SIZE, 3)
        assert found.dtype == np.uint8


@given(st.sampled_from(sorted(FORMS)), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=12), st.none() | st.integers(0, 2000))
def test_a_file_with_changed_bytes_or_a_lost_end_is_pixels_or_a_reason(form: str, changes: list[tuple[int, int]], end: int | None) -> None:
    content = bytearray(FORMS[form])
    for position, value in changes:
        content[position % len(content)] = value
    is_pixels_or_reason(bytes(content[:end]))


@given(st.sampled_from(sorted(FORMS)), st.integers(0, 60), st.binary(max_size=300))
def test_a_files_beginning_before_anything_is_pixels_or_a_reason(form: str, kept: int, rest: bytes) -> None:
    is_pixels_or_reason(FORMS[form][:kept] + rest)


names = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters='"\\'), min_size=1, max_size=20).filter(
    lambda name: name[1:3] != ":\\"
)


def fed(body: bytes, cuts: list[int], max_images: int = 10) -> list[tuple[str, bytes]]:
    """What comes of a body that arrives in pieces."""
    parts = ImageParts(b"BOUNDARY", max_images=max_images)
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        parts.feed(body[start:end])
    return parts.images()


@given(st.lists(st.tuples(names, st.binary(max_size=100)), min_size=1, max_size=5), st.lists(st.integers(0, 2000), max_size=8))
def test_parts_are_the_same_however_the_body_is_cut(files: list[tuple[str, bytes]], cuts: list[int]) -> None:
    body = b"".join(
        b'--BOUNDARY\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s\r\n' % (name.encode(), content)
        for name, content in files
    )
    assert fed(body + b"--BOUNDARY--\r\n", cuts) == files


@given(
    st.lists(st.sampled_from([b"--BOUNDARY", b"--", b"\r\n", b"\r\n\r\n", b'Content-Disposition: form-data; name="', b'"', b"x" * 50, b":", b"\0"]))
)
def test_pieces_of_multipart_in_any_order_are_images_or_a_4xx(pieces: list[bytes]) -> None:
    try:
        assert fed(b"".join(pieces), [7, 31])
    except RefusedError as error:
        assert error.status in (400, 413)


@given(st.binary(max_size=200))
def test_any_content_type_is_a_boundary_or_none_or_a_400(kind: bytes) -> None:
    try:
        found = boundary_of(kind)
        if found is not None:
            ImageParts(found, max_images=1)
    except RefusedError as error:
        assert error.status == 400
