import os
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import ImageEnhance

from cellclf.data.audit import families as families_module
from cellclf.data.audit import kept
from cellclf.data.audit import pairs as pairs_module
from cellclf.data.audit.families import Families, find_families
from cellclf.data.audit.kept import recovered_families
from cellclf.storage import cache_folder, sha256_of_file
from tests.data.audit.making import augmented, copies, field, put_images
from tests.data.making import encoded, picture

ORIGINALS, COPIES = 6, 7


def contents(paths: list[Path]) -> dict[str, Path]:
    return {sha256_of_file(path): path for path in paths}


def partition(found: Families) -> set[frozenset[str]]:
    return {frozenset(members) for members in found.members.values()}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Path]]:
    folder = tmp_path_factory.mktemp("families")
    return {seed: put_images(folder / "all", copies(seed, COPIES), name=f"{seed}") for seed in range(ORIGINALS)}


@pytest.fixture(scope="module")
def found(truth: dict[int, list[Path]]) -> Families:
    return find_families(contents([path for paths in truth.values() for path in paths]))


def test_copies_of_one_original_are_one_family_and_originals_are_kept_apart(truth: dict[int, list[Path]], found: Families) -> None:
    assert partition(found) == {frozenset(contents(paths)) for paths in truth.values()}


def test_among_many_images_only_likely_pairs_are_tested_and_the_families_are_the_same(
    truth: dict[int, list[Path]], found: Families, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families_module, "_FEW", 1)
    monkeypatch.setattr(families_module, "_LONE_NEAR", 30)
    assert find_families(contents([path for paths in truth.values() for path in paths])).family_of == found.family_of


def test_a_family_is_named_by_its_smallest_content(found: Families) -> None:
    assert all(family == min(members) for family, members in found.members.items())


def test_each_copy_is_between_two_of_one_family_and_says_how_sure_it_is(found: Families) -> None:
    assert len(found.copies) >= ORIGINALS * (COPIES - 1)
    for copy in found.copies:
        assert copy.first < copy.second
        assert found.family_of[copy.first] == found.family_of[copy.second]
        assert copy.agreeing >= pairs_module.LEAST_AGREEING
        assert pairs_module.LEAST_CORRELATION <= copy.correlation <= 1
        assert pairs_module.LEAST_SHARED <= copy.shared <= 1


def test_the_result_depends_on_the_contents_alone(
    truth: dict[int, list[Path]], found: Families, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = {}
    for number, (content, path) in enumerate(sorted(contents([path for paths in truth.values() for path in paths]).items(), reverse=True)):
        moved[content] = tmp_path / f"{number}.bin"
        os.link(path, moved[content])
    monkeypatch.setattr("cellclf.data.audit.pairs.usable_cores", lambda: 1)
    monkeypatch.setattr("cellclf.data.audit.thumbnails.usable_cores", lambda: 3)
    assert find_families(moved) == found


def test_unlike_images_are_families_of_their_own(tmp_path: Path) -> None:
    paths = put_images(tmp_path, [field(seed) for seed in range(40, 60)])
    alone = find_families(contents(paths))
    assert len(alone.members) == 20
    assert not alone.copies


def test_two_copies_alone_are_found(tmp_path: Path) -> None:
    original = field(7)
    paths = put_images(tmp_path, [original, augmented(original, turn_deg=11, mirror=True), field(8), field(9)])
    assert sorted(map(len, find_families(contents(paths)).members.values())) == [1, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"turn_deg": 90},
        {"turn_deg": 180},
        {"turn_deg": 37},
        {"mirror": True},
        {"mirror": True, "turn_deg": 200},
        {"shift": (24.0, -18.0)},
        {"shear": 0.15},
        {"brightness": 0.7},
        {"brightness": 1.15},
    ],
    ids=str,
)
def test_each_kind_of_copy_is_recognised(tmp_path: Path, change: dict[str, float]) -> None:
    originals = [field(seed) for seed in range(70, 78)]
    paths = put_images(tmp_path, [*originals, *(augmented(image, **change) for image in originals)])  # type: ignore[arg-type]
    names = {content: path.name for content, path in contents(paths).items()}
    found = {frozenset(names[content] for content in members) for members in find_families(contents(paths)).members.values()}
    assert found == {frozenset({f"image_{number:03d}.jpeg", f"image_{number + 8:03d}.jpeg"}) for number in range(8)}


def test_copies_so_bright_that_colours_are_cut_off_stay_in_their_family(tmp_path: Path) -> None:
    images = []
    for seed in range(80, 86):
        made = copies(seed, 8)
        images += [*made, *(ImageEnhance.Brightness(image).enhance(1.45) for image in made[:4])]
    paths = put_images(tmp_path, images)
    numbers = {content: int(path.stem[-3:]) for content, path in contents(paths).items()}
    found = {frozenset(numbers[content] for content in members) for members in find_families(contents(paths)).members.values()}
    assert found == {frozenset(range(start, start + 12)) for start in range(0, len(images), 12)}


def test_a_file_that_cannot_be_decoded_is_named_and_alone(tmp_path: Path) -> None:
    paths = put_images(tmp_path, copies(3, 3))
    broken = tmp_path / "broken.jpeg"
    broken.write_bytes(paths[0].read_bytes()[:200])
    gone = {"f" * 64: tmp_path / "gone.jpeg"}
    found = find_families({**contents([*paths, broken]), **gone})
    assert found.unreadable == tuple(sorted([sha256_of_file(broken), "f" * 64]))
    assert sorted(map(len, found.members.values())) == [1, 1, 3]


def test_plain_and_tiny_images_have_nothing_in_common(tmp_path: Path) -> None:
    paths = []
    for number, size in enumerate([(1, 1), (2, 3), (12, 8), (300, 2), (64, 64)]):
        path = tmp_path / f"{number}.png"
        path.write_bytes(encoded(picture(number, width_px=size[0], height_px=size[1]).point(lambda value: value // 255 * 255), "PNG"))
        paths.append(path)
    assert len(find_families(contents(paths)).members) == 5


@pytest.mark.parametrize("count", [0, 1])
def test_no_file_and_one_file_are_no_problem(tmp_path: Path, count: int) -> None:
    found = find_families(contents(put_images(tmp_path, copies(1, count) if count else [])))
    assert (len(found.family_of), found.copies) == (count, ())


def test_the_family_is_found_among_images_of_other_sizes(tmp_path: Path) -> None:
    original = field(5)
    images = [original, original.rotate(90, expand=True), original.resize((320, 240)), field(6).resize((100, 200)), field(7).resize((200, 100))]
    assert sorted(map(len, find_families(contents(put_images(tmp_path, images))).members.values())) == [1, 1, 3]


def test_every_stage_is_reported_to_its_end(truth: dict[int, list[Path]]) -> None:
    stages: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    find_families(contents(truth[0]), on_progress=lambda stage, done, total: stages[stage].append((done, total)))
    assert set(stages) == {"families: looking", "families: comparing", "families: registering", "families: telling photographs apart"}
    for told in stages.values():
        assert told[-1][0] == told[-1][1]


# Kept


def test_families_are_found_once_and_kept(truth: dict[int, list[Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path))
    file_of = contents([*truth[0], *truth[1]])
    first = recovered_families(file_of)
    assert sorted(first) == sorted(file_of)
    assert len(set(first.values())) == 2
    assert all(name.startswith("family-") for name in first.values())
    monkeypatch.setattr(kept, "find_families", lambda *_, **__: pytest.fail("looked for again"))
    assert recovered_families(dict(reversed(file_of.items()))) == first
    assert [path.suffix for path in (cache_folder() / "families").iterdir()] == [".json"]


def test_other_contents_and_another_version_are_looked_at_anew(truth: dict[int, list[Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path))
    recovered_families(contents(truth[0]))
    recovered_families(contents(truth[0][:3]))
    monkeypatch.setattr(kept, "FAMILIES_VERSION", families_module.FAMILIES_VERSION + 1)
    recovered_families(contents(truth[0]))
    assert len(list((tmp_path / "families").iterdir())) == 3
