import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cellclf.documents import Document
from cellclf.errors import StoredFileError


class Point(Document):
    x: float
    y: float = 0.0


class Drawing(Document):
    name: str
    points: tuple[Point, ...]
    counts: dict[str, int]


DRAWING = Drawing(name="é “quoted”", points=(Point(x=0.1), Point(x=1e300, y=-0.0)), counts={"a": 1})


def test_a_document_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    DRAWING.write(tmp_path / "drawing.json")
    assert Drawing.read(tmp_path / "drawing.json") == DRAWING


@given(x=st.floats(allow_nan=False), y=st.floats(allow_nan=False))
def test_every_number_comes_back_to_the_last_bit(x: float, y: float) -> None:
    again = Point.parse(Point(x=x, y=y).model_dump_json(), where="here")
    assert (again.x.hex(), again.y.hex()) == (x.hex(), y.hex())


def test_not_a_number_comes_back_as_not_a_number() -> None:
    assert math.isnan(Point.parse(Point(x=math.nan).model_dump_json(), where="here").x)


@given(text=st.text(), counts=st.dictionaries(st.text(), st.integers(-(2**63), 2**63 - 1)))
def test_every_text_comes_back(text: str, counts: dict[str, int]) -> None:
    drawing = Drawing(name=text, points=(), counts=counts)
    assert Drawing.parse(drawing.model_dump_json(), where="here") == drawing


def test_a_file_is_indented_utf8_and_ends_with_a_newline(tmp_path: Path) -> None:
    DRAWING.write(tmp_path / "drawing.json")
    text = (tmp_path / "drawing.json").read_bytes().decode("utf-8")
    assert text.startswith('{\n  "name": "é “quoted”",\n')
    assert text.endswith("}\n")


def test_a_document_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DRAWING.name = "other"  # type: ignore[misc]


def test_a_field_that_is_not_known_is_refused_on_making() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Point.model_validate({"x": 1.0, "z": 2.0})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"name": "a", "points": [], "counts": {}, "colour": 1}', "colour: "),
        ('{"name": "a", "points": [{"x": 1}, {"x": "left"}], "counts": {}}', r"points\.1\.x: "),
        ('{"name": "a", "counts": {}}', "points: "),
        ('{"name": "a", "points": [', "document: "),
        ("", "document: "),
        ("[]", "document: "),
        ("null", "document: "),
    ],
)
def test_what_cannot_be_read_is_a_stored_file_error_that_names_the_place_and_the_first_wrong_field(text: str, field: str) -> None:
    with pytest.raises(StoredFileError, match=f"^the card of m.onnx cannot be read: {field}"):
        Drawing.parse(text, where="the card of m.onnx")


@given(text=st.text())
def test_arbitrary_text_is_a_stored_file_error(text: str) -> None:
    with pytest.raises(StoredFileError):
        Drawing.parse(text, where="here")


def test_a_missing_file_is_a_stored_file_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoredFileError, match=r"gone\.json cannot be read"):
        Point.read(tmp_path / "gone.json")


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"", b"\x00" * 8, b'{"x": 1'])
def test_a_damaged_file_is_a_stored_file_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "point.json").write_bytes(content)
    with pytest.raises(StoredFileError, match=r"point\.json cannot be read"):
        Point.read(tmp_path / "point.json")


def test_a_folder_in_the_files_place_is_a_stored_file_error(tmp_path: Path) -> None:
    with pytest.raises(StoredFileError, match="cannot be read"):
        Point.read(tmp_path)


def test_a_documents_validator_is_built_when_it_is_first_used() -> None:
    class Unused(Document):
        value: int

    assert not Unused.__pydantic_complete__
    assert Unused(value=1).value == 1
    assert Unused.__pydantic_complete__
