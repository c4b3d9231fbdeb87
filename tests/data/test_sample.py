import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellclf.data.sample import LABELS, SLIDES, draw_cell, stain_of_slide, write_sample


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpeg"))}


@pytest.fixture(scope="module")
def two_and_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Two pictures a label to train on, one to test on."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, train_per_label=2, test_per_label=1)
    return contents(folder)


def test_one_seed_gives_the_same_files(two_and_one: dict[str, bytes], tmp_path: Path) -> None:
    write_sample(tmp_path, train_per_label=2, test_per_label=1)
    assert contents(tmp_path) == two_and_one


def test_a_picture_does_not_depend_on_how_many_are_drawn(two_and_one: dict[str, bytes], tmp_path: Path) -> None:
    write_sample(tmp_path, train_per_label=1, test_per_label=2)
    fewer = contents(tmp_path)
    both = fewer.keys() & two_and_one.keys()
    assert len(both) == 8
    assert all(fewer[name] == two_and_one[name] for name in both)


def test_another_seed_gives_other_pictures_under_the_same_names(two_and_one: dict[str, bytes], tmp_path: Path) -> None:
    write_sample(tmp_path, train_per_label=2, test_per_label=1, seed=1)
    other = contents(tmp_path)
    assert other.keys() == two_and_one.keys()
    assert not set(other.values()) & set(two_and_one.values())


def test_no_two_pictures_are_the_same(two_and_one: dict[str, bytes]) -> None:
    assert len(set(two_and_one.values())) == len(two_and_one)


def test_every_label_has_as_many_pictures_as_asked_for_named_by_slide_and_number(two_and_one: dict[str, bytes]) -> None:
    expected = {f"TRAIN/{label}/slide{1 + number:02d}_{number:04d}.jpeg" for label in LABELS for number in range(2)}
    expected |= {f"TEST/{label}/slide13_0000.jpeg" for label in LABELS}
    assert set(two_and_one) == expected


def test_train_and_test_share_no_slide(sample_folder: Path) -> None:
    assert not set(SLIDES["TRAIN"]) & set(SLIDES["TEST"])
    drawn = {side: {re.findall(r"slide(\d+)_", path.name)[0] for path in (sample_folder / side).rglob("*.jpeg")} for side in SLIDES}
    assert not drawn["TRAIN"] & drawn["TEST"]


def test_pictures_are_small_rgb_jpegs_that_are_neither_dark_nor_blank(sample_folder: Path) -> None:
    for path in sorted(sample_folder.rglob("*_0000.jpeg")):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (160, 120))
            pixels = np.asarray(image)
        assert 80 < pixels.mean() < 245
        assert pixels.std() > 10


@pytest.mark.parametrize("label", LABELS)
def test_a_cell_is_drawn_at_any_size(label: str) -> None:
    image = draw_cell(label, stain=stain_of_slide(3, seed=0), rng=np.random.default_rng(0), width_px=48, height_px=40)
    assert (image.mode, image.size) == ("RGB", (48, 40))


def test_a_slide_has_one_look_and_another_slide_another() -> None:
    looks = [stain_of_slide(slide, seed=0) for slide in range(1, 17)]
    assert stain_of_slide(1, seed=0) == looks[0]
    assert len({look.plasma for look in looks}) == 16
    assert stain_of_slide(1, seed=1) != looks[0]


def test_each_picture_is_told_of_as_it_is_written(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_sample(tmp_path, train_per_label=1, test_per_label=0, on_image=lambda *done: told.append(done))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
