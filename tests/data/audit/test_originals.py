from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from cellclf.data.audit.families import find_families
from cellclf.data.audit.kept import recovered_families
from cellclf.data.audit.originals import Evidence, looks_mixed, photographs
from cellclf.storage import sha256_of_file
from tests.data.audit.making import HEIGHT_PX, WIDTH_PX, copies_of, field, put_images

SAME = Evidence(frame_difference=0.01, detail=0.93)
OTHER_FRAME = Evidence(frame_difference=0.1, detail=0.9)
OTHER_FOCUS = Evidence(frame_difference=0.01, detail=0.8)


def photographed_twice(seed: int) -> tuple[Image.Image, Image.Image]:
    """A drawn field, and the same field after the stage moved a little and the focus changed."""
    wide = field(seed, width_px=WIDTH_PX + 20, height_px=HEIGHT_PX + 14)
    first = wide.crop((0, 0, WIDTH_PX, HEIGHT_PX))
    return first, wide.crop((20, 14, WIDTH_PX + 20, HEIGHT_PX + 14)).filter(ImageFilter.GaussianBlur(0.8))


def test_photographs_of_one_field_are_two_families_and_one_group(tmp_path: Path) -> None:
    first, second = photographed_twice(21)
    images = [*copies_of(first, 9, seed=1), *copies_of(second, 9, seed=2), *copies_of(field(22), 9, seed=3)]
    paths = put_images(tmp_path, images)
    contents = [sha256_of_file(path) for path in paths]
    found = find_families(dict(zip(contents, paths, strict=True)))
    families, groups = ([of[content] for content in contents] for of in (found.family_of, found.group_of))
    assert [len(set(families[start : start + 9])) for start in (0, 9, 18)] == [1, 1, 1]
    assert len(set(families)) == 3
    assert [len(set(groups[:18])), len(set(groups))] == [1, 2]
    recovered = recovered_families(dict(zip(contents, paths, strict=True)))
    assert [recovered[content] for content in contents] == [f"family-{group[:16]}" for group in groups]


@pytest.mark.parametrize("other", [OTHER_FRAME, OTHER_FOCUS], ids=["frame", "focus"])
@given(halves=st.tuples(st.integers(3, 8), st.integers(3, 8)))
def test_members_are_divided_where_pairs_between_two_parts_differ(other: Evidence, halves: tuple[int, int]) -> None:
    first, second = range(halves[0]), range(halves[0], sum(halves))
    evidence = {pair: SAME for part in (first, second) for pair in combinations(part, 2)}
    evidence |= {(a, b): other for a in first for b in second}
    assert photographs(range(sum(halves)), evidence) == dict.fromkeys(first, 0) | dict.fromkeys(second, halves[0])


LOST = Evidence(frame_difference=0.01, detail=None)


def test_lost_detail_tells_nothing() -> None:
    assert LOST.weight(0.9) == 0
    assert not LOST.against(0.9)
    assert Evidence(frame_difference=0.1, detail=None).against(0.9)
    assert not looks_mixed([LOST] * 10)


@pytest.mark.parametrize("cut", [2, 4])
def test_copies_without_detail_neither_divide_one_photograph_nor_join_two(cut: int) -> None:
    """Eight copies of each photograph, the last `cut` of them too bright to have kept their detail."""
    first, second = range(8), range(8, 16)

    def told(a: int, b: int) -> Evidence:
        if any(member % 8 >= 8 - cut for member in (a, b)):
            return LOST
        return SAME if (a < 8) == (b < 8) else OTHER_FOCUS

    one = photographs(first, {(a, b): told(a, b) for a, b in combinations(first, 2)})
    assert {one[member] for member in first} == {0}
    both = photographs([*first, *second], {(a, b): told(a, b) for a, b in combinations(range(16), 2)})
    with_detail = [member for member in range(16) if member % 8 < 8 - cut]
    assert {member: both[member] for member in with_detail} == {member: 0 if member < 8 else 8 for member in with_detail}


def test_a_badly_registered_member_makes_no_photograph() -> None:
    evidence = {(a, b): OTHER_FOCUS if b == 7 else SAME for a, b in combinations(range(8), 2)}
    assert set(photographs(range(8), evidence).values()) == {0}


def test_a_pair_of_two_has_one_photograph() -> None:
    assert photographs([3, 5], {(3, 5): OTHER_FRAME}) == {3: 3, 5: 3}


def test_one_sign_of_another_photograph_is_too_little() -> None:
    usual = [SAME] * 50
    assert not looks_mixed([])
    assert not looks_mixed([*usual, OTHER_FRAME])
    assert not looks_mixed([*usual * 8, OTHER_FOCUS, OTHER_FOCUS])
    assert looks_mixed([*usual, OTHER_FRAME, OTHER_FRAME])
    assert looks_mixed([*usual, OTHER_FOCUS, OTHER_FOCUS])
