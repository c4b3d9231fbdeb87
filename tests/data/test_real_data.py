"""The two public data sets as they really are; skipped where they are not on this machine. Nothing is decoded."""

from collections import Counter
from pathlib import Path

import pytest

from cellclf.data.scan import Scan, scan
from tests.conftest import REAL_DATA

pytestmark = pytest.mark.real_data


def real(name: str, monkeypatch: pytest.MonkeyPatch) -> Scan:
    if REAL_DATA is None:
        pytest.skip("CELLCLF_DATA is not set")
    if not (Path(REAL_DATA) / name).is_dir():
        pytest.skip(f"{REAL_DATA}/{name} is not there")
    monkeypatch.setenv("CELLCLF_DATA", REAL_DATA)
    return scan(name)


@pytest.fixture
def chest(monkeypatch: pytest.MonkeyPatch) -> Scan:
    return real("chest-xray", monkeypatch)


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Scan:
    return real("blood-cells", monkeypatch)


def groups_of(found: Scan, split: str) -> set[str]:
    return {file.group for file in found.files if file.split == split}


def test_chest_xrays_are_of_4082_groups(chest: Scan) -> None:
    assert len({file.group for file in chest.files}) == 4082


def test_no_group_of_chest_xrays_is_both_trained_and_tested_on(chest: Scan) -> None:
    assert groups_of(chest, "train") and groups_of(chest, "test")
    assert not groups_of(chest, "train") & groups_of(chest, "test")


def test_no_group_of_chest_xrays_is_under_two_labels(chest: Scan) -> None:
    labels = {(file.group, file.label) for file in chest.files}
    assert len(labels) == len({group for group, _ in labels})


def test_the_chest_xray_test_set_has_234_normal_and_390_pneumonia(chest: Scan) -> None:
    assert Counter(file.label for file in chest.files if file.split == "test") == {"NORMAL": 234, "PNEUMONIA": 390}


def test_blood_cells_are_9957_to_train_and_2487_to_test(cells: Scan) -> None:
    assert Counter(file.split for file in cells.files) == {"train": 9957, "test": 2487}


def test_blood_cells_have_four_labels_on_each_side(cells: Scan) -> None:
    assert cells.dataset is not None
    for side in ("train", "test"):
        assert {file.label for file in cells.files if file.split == side} == set(cells.dataset.labels)
