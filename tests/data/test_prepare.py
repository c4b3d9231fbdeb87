import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cellclf.data.crops import View
from cellclf.data.datasets import DATASETS
from cellclf.data.decoding import decode_file
from cellclf.data.leaks import IGNORES_GROUPS
from cellclf.data.manifest import SPLITS, Entry, Manifest
from cellclf.data.prepare import (
    RECOVERED_GROUPS,
    TEST_FAMILIES,
    UNKNOWN_GROUPS,
    DataRequest,
    Prepared,
    has_test_set,
    list_images,
    prepare,
    reopen,
)
from cellclf.errors import BadImagesError, DataError
from cellclf.storage import cache_folder
from tests.data.audit.making import augmented, copies, put_images
from tests.data.making import put, put_csv, put_tree

SIZE = 4
PATIENT = r"/(p\d+)_"


def prepared(data: Path | str, **choices: Any) -> Prepared:
    return prepare(DataRequest(data=str(data), **choices), view=View(SIZE, SIZE))


def put_patients(root: Path, *, patients: int = 6, images: int = 2) -> Path:
    """Two labels, so many patients each, so many images of each patient: A/p03_1.png."""
    for number, label in enumerate("AB"):
        for patient in range(patients):
            for image in range(images):
                put(root / label / f"p{number * patients + patient:02d}_{image}.png")
    return root


def put_official(root: Path, train: int = 8, test: int = 3) -> Path:
    return put_tree(root, {f"{split}/{label}": count for split, count in (("train", train), ("test", test)) for label in "AB"})


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small set in the place of the blood cells: four copies of each of 4 + 2 originals a label, and nothing says which belong together."""
    monkeypatch.setenv("CELLCLF_DATA", str(tmp_path / "data"))
    root, seed = tmp_path / "data" / "blood-cells", 0
    for split, originals in (("TRAIN", 4), ("TEST", 2)):
        for label in DATASETS["blood-cells"].labels:
            for original in range(originals):
                put_images(root / split / label, copies(seed := seed + 1, 4), name=f"original_{original}")
    return root


def groups_by_split(manifest: Manifest) -> dict[str, set[str]]:
    return {split: set(manifest.group_keys(split)) for split in SPLITS}


def leaks(found: Prepared) -> dict[str, str]:
    return {leak.split: leak.reason for leak in found.record.leaks}


def total(manifest: Manifest) -> dict[str, int]:
    return {split: len(manifest.split(split)) for split in SPLITS}


# Which protocol


def test_a_source_with_a_test_set_is_divided_officially_unless_told_otherwise(tmp_path: Path) -> None:
    found = prepared(put_official(tmp_path))
    assert found.record.protocol == "official"
    assert {entry.path.split("/")[0] for entry in found.manifest.split("test")} == {"test"}
    assert {entry.path.split("/")[0] for entry in found.manifest.split("train") + found.manifest.split("validation")} == {"train"}


def test_a_source_without_a_test_set_is_divided_by_group_unless_told_otherwise(tmp_path: Path) -> None:
    assert prepared(put_patients(tmp_path), group_rule=PATIENT).record.protocol == "grouped"


def test_official_without_a_test_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no test set of its own, so the protocol 'official' cannot be; use grouped"):
        prepared(put_patients(tmp_path), protocol="official")


def test_whether_a_source_has_a_test_set_is_told_without_dividing_it(tmp_path: Path) -> None:
    assert has_test_set(DataRequest(data=str(put_official(tmp_path / "a"))))
    assert not has_test_set(DataRequest(data=str(put_patients(tmp_path / "b"))))


# official


def test_official_cuts_validation_from_train_in_the_ratio_of_the_first_two_fractions(tmp_path: Path) -> None:
    found = prepared(put_official(tmp_path, train=10, test=3))
    assert total(found.manifest) == {"train": 16, "validation": 4, "test": 6}


def test_official_keeps_the_validation_set_of_the_source(tmp_path: Path) -> None:
    put_tree(tmp_path, {f"{split}/{label}": 2 for split in ("train", "val", "test") for label in "AB"})
    found = prepared(tmp_path)
    assert {(entry.path.split("/")[0], entry.split) for entry in found.manifest.entries} == {
        ("train", "train"),
        ("val", "validation"),
        ("test", "test"),
    }


def test_official_cuts_validation_by_group(tmp_path: Path) -> None:
    put_patients(tmp_path / "train", patients=6, images=3)
    put_tree(tmp_path / "test", {"A/p90_x": 2, "B/p91_x": 2})
    found = prepared(tmp_path, group_rule=PATIENT)
    sides = groups_by_split(found.manifest)
    assert not sides["train"] & sides["validation"]
    assert sides["test"] == {"p90", "p91"}
    assert not found.record.leaks


# grouped


def test_grouped_divides_no_group_and_leaves_nothing_out(tmp_path: Path) -> None:
    found = prepared(put_patients(tmp_path, patients=10, images=3), group_rule=PATIENT)
    sides = groups_by_split(found.manifest)
    assert sum(map(len, sides.values())) == len(set().union(*sides.values())) == 20
    assert len(found.manifest.entries) == 60
    assert found.record.groups_known
    assert not found.record.leaks


def test_grouped_ignores_the_sources_own_split(tmp_path: Path) -> None:
    found = prepared(put_official(tmp_path, train=20, test=20), protocol="grouped")
    assert {entry.path.split("/")[0] for entry in found.manifest.split("test")} == {"train", "test"}
    assert "the source's own division (test, train) is not used: protocol grouped divides all images anew" in found.record.notes


def test_a_validation_folder_without_a_test_folder_is_not_used_and_that_is_said(tmp_path: Path) -> None:
    found = prepared(put_tree(tmp_path, {"train/A": 12, "train/B": 12, "val/A": 5, "val/B": 5}))
    assert found.record.protocol == "grouped"
    said = "the source's own division (train, validation) is not used: protocol grouped divides all images anew, for want of a test set of its own"
    assert said in found.record.notes


def test_without_groups_each_file_is_its_own_and_the_record_says_so(tmp_path: Path) -> None:
    found = prepared(put_patients(tmp_path))
    assert (found.record.groups, found.record.groups_known, found.record.notes) == (24, False, (UNKNOWN_GROUPS,))


def test_identical_files_of_unknown_group_are_on_one_side(tmp_path: Path) -> None:
    for number in range(12):
        for label in "AB":
            put(tmp_path / label / f"{number}.png", seed=f"{label}{number % 4}")
    for seed in range(5):
        found = prepared(tmp_path, split_seed=seed)
        sides = [{entry.sha256 for entry in found.manifest.split(split)} for split in SPLITS]
        assert sum(map(len, sides)) == len(set().union(*sides)) == 8
        assert not found.record.leaks


def test_another_seed_is_another_division_and_the_same_seed_the_same(tmp_path: Path) -> None:
    put_patients(tmp_path, patients=10)
    assert prepared(tmp_path, split_seed=1).manifest == prepared(tmp_path, split_seed=1).manifest
    assert prepared(tmp_path, split_seed=1).manifest.fingerprint != prepared(tmp_path, split_seed=2).manifest.fingerprint


def test_the_division_does_not_depend_on_where_the_images_are(tmp_path: Path) -> None:
    put_patients(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there" / "here")
    here, there = prepared(tmp_path / "here"), prepared(tmp_path / "there")
    assert here.manifest.fingerprint == there.manifest.fingerprint
    assert here.record.root != there.record.root


# Families that nothing names


def test_families_that_nothing_names_are_recovered_and_official_validation_is_cut_by_them(cells: Path) -> None:
    assert cells.is_dir()
    found = prepared("blood-cells")
    assert (found.record.groups_source, found.record.groups_known, found.record.groups) == ("recovered", True, 24)
    assert found.record.notes == (RECOVERED_GROUPS,)
    assert not found.record.leaks
    sides = groups_by_split(found.manifest)
    assert not sides["train"] & sides["validation"]
    assert total(found.manifest) == {"train": 48, "validation": 16, "test": 32}
    of_original = {(entry.path.split("_")[-2], entry.label, entry.path.split("/")[0]): entry.group for entry in found.manifest.entries}
    assert len(set(of_original.values())) == len(of_original)


def test_grouped_divides_no_recovered_family(cells: Path) -> None:
    assert cells.is_dir()
    for fold in ("1/3", "2/3"):
        found = prepared("blood-cells", protocol="grouped", fold=fold)
        sides = groups_by_split(found.manifest)
        assert sum(map(len, sides.values())) == len(set().union(*sides.values())) == 24
        assert not found.record.leaks


def test_random_leaks_also_where_families_are_recovered(cells: Path) -> None:
    assert cells.is_dir()
    assert leaks(prepared("blood-cells", protocol="random")) == {"validation": IGNORES_GROUPS, "test": IGNORES_GROUPS}


@pytest.mark.parametrize("choice", [{"limit_per_label": 9}, {"images_fraction": 0.7}], ids=str)
def test_a_part_of_the_files_has_the_families_of_all_of_them(cells: Path, choice: dict[str, float]) -> None:
    assert cells.is_dir()
    groups = {entry.path: entry.group for entry in prepared("blood-cells").manifest.entries}
    part = list_images(DataRequest(data="blood-cells", **choice), divided=True).entries
    assert 0 < len(part) < len(groups)
    assert {entry.path: entry.group for entry in part}.items() <= groups.items()


def test_training_files_that_show_a_test_image_are_left_out_and_it_is_said(cells: Path) -> None:
    shown_in_test = Image.open(next((cells / "TEST" / "MONOCYTE").iterdir()))
    put_images(cells / "TRAIN" / "MONOCYTE", [augmented(shown_in_test, turn_deg=15), augmented(shown_in_test, mirror=True)], name="copy")
    found = prepared("blood-cells")
    assert not [entry.path for entry in found.manifest.entries if "copy" in entry.path]
    assert found.record.notes == (RECOVERED_GROUPS, TEST_FAMILIES.format(2))
    assert not found.record.leaks
    assert total(found.manifest) == {"train": 48, "validation": 16, "test": 32}


def test_evaluating_all_files_gives_them_their_families_and_leaves_nothing_out(cells: Path) -> None:
    broken = cells / "TEST" / "MONOCYTE" / "broken.jpeg"
    broken.symlink_to(cells / "nowhere.jpeg")
    manifest = list_images(DataRequest(data="blood-cells"), divided=False)
    assert len(manifest.entries) == 97
    assert {entry.path for entry in manifest.entries if not entry.group} == {"TEST/MONOCYTE/broken.jpeg"}


def test_what_a_rule_names_is_not_looked_for(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cells.is_dir()
    monkeypatch.setattr("cellclf.data.listing.recovered_families", lambda *_, **__: pytest.fail("looked for"))
    found = prepared("blood-cells", protocol="grouped", group_rule=r"(\w+/\w+/original_\d+)_")
    assert (found.record.groups_source, found.record.groups) == ("given", 24)
    assert not found.record.leaks


# Leaks


def test_random_always_leaks_into_validation_and_test(tmp_path: Path) -> None:
    found = prepared(put_patients(tmp_path), protocol="random", group_rule=PATIENT)
    assert leaks(found) == {"validation": IGNORES_GROUPS, "test": IGNORES_GROUPS}
    assert sum(total(found.manifest).values()) == 24


def test_random_leaks_even_where_every_file_is_its_own_group(tmp_path: Path) -> None:
    assert set(leaks(prepared(put_patients(tmp_path, patients=12, images=1), protocol="random", group_rule=PATIENT))) == {"validation", "test"}


def csv_rows(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    """A .csv of (label, group, split), one picture a row."""
    lines = [f"{put(folder / f'{number}.png').name},{label},{group},{split}" for number, (label, group, split) in enumerate(rows)]
    return put_csv(folder / "list.csv", "path,label,group,split", *lines)


def test_a_group_on_both_sides_of_an_official_split_leaks_and_is_named(tmp_path: Path) -> None:
    rows = [(label, f"{label}{number}", "train") for label in "AB" for number in range(4)]
    rows += [("A", "A1", "test"), ("B", "B9", "test")]
    found = prepared(csv_rows(tmp_path, rows))
    assert leaks(found) == {"test": "1 groups are also in train or validation, for example A1"}


def test_a_group_in_train_and_in_the_sources_validation_set_leaks_into_validation(tmp_path: Path) -> None:
    rows = [(label, f"{label}{split}", split) for label in "AB" for split in ("train", "validation", "test")]
    rows += [("A", "Atrain", "validation")]
    assert leaks(prepared(csv_rows(tmp_path, rows))) == {"validation": "1 groups are also in train, for example Atrain"}


def test_a_copy_of_a_trained_image_in_the_test_set_leaks_where_groups_are_known(tmp_path: Path) -> None:
    for label in "AB":
        for number in range(4):
            put(tmp_path / "train" / label / f"p{label}{number}.png")
        put(tmp_path / "test" / label / f"q{label}.png")
    put(tmp_path / "test" / "A" / "qAcopy.png", seed=tmp_path / "train" / "A" / "pA0.png")
    found = prepared(tmp_path, group_rule=r"/([pq]\w+)\.png")
    assert leaks(found) == {"test": "1 images are also in train or validation, byte for byte"}


def test_a_copy_of_a_trained_image_in_the_test_set_leaks_where_groups_are_unknown(tmp_path: Path) -> None:
    put_official(tmp_path)
    put(tmp_path / "test" / "A" / "copy.png", seed=tmp_path / "train" / "A" / "00.png")
    assert leaks(prepared(tmp_path)) == {"test": "1 images are also in train or validation, byte for byte"}


# Bad images


def test_bad_images_stop_everything_before_training_and_five_are_shown(tmp_path: Path) -> None:
    put_patients(tmp_path)
    for number in range(7):
        (tmp_path / "A" / f"p00_bad{number}.png").write_bytes(f"not an image {number}".encode())
    with pytest.raises(BadImagesError) as caught:
        prepared(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"7 images cannot be used: {tmp_path / 'A' / 'p00_bad0.png'}: ")
    assert "p00_bad4.png" in message
    assert "p00_bad5.png" not in message
    assert message.endswith("; and 2 more. Mend or remove them, or leave them out with --on-bad-image skip")


def test_bad_images_are_left_out_and_recorded_where_that_was_asked_for(tmp_path: Path) -> None:
    put_patients(tmp_path)
    (tmp_path / "A" / "p00_0.png").write_bytes(b"")
    cut = tmp_path / "B" / "p06_0.png"
    cut.write_bytes(cut.read_bytes()[:50])
    found = prepared(tmp_path, on_bad_image="skip")
    assert {(image.path, image.reason.split(":")[0]) for image in found.record.skipped} == {
        ("A/p00_0.png", "empty file"),
        ("B/p06_0.png", "damaged image"),
    }
    assert len(found.manifest.entries) == 22
    assert not {"A/p00_0.png", "B/p06_0.png"} & {entry.path for entry in found.manifest.entries}


def test_a_label_none_of_whose_files_can_be_opened_is_not_lost_without_a_word(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 6, "B": 6})
    rows = [f"{label}/{number:02d}.png,{label}" for label in "ABC" for number in range(6)]
    table = put_csv(tmp_path / "m.csv", "path,label", *rows)
    with pytest.raises(BadImagesError, match=r"^no image of C can be used, so no network can learn it\. 6 images cannot be used: .*no such file"):
        prepared(table, on_bad_image="skip")


def test_where_leaving_images_out_makes_the_division_impossible_they_are_named(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 4, "B": 8})
    for number in range(3):
        (tmp_path / "A" / f"{number:02d}.png").write_bytes(b"")
    with pytest.raises(BadImagesError, match=r"has no image of A: too few .*\. 3 images cannot be used: .*A/00\.png: empty file"):
        prepared(tmp_path, on_bad_image="skip")


def test_the_same_image_under_two_labels_is_refused(tmp_path: Path) -> None:
    put_patients(tmp_path)
    for label in "AB":
        put(tmp_path / label / "twice.png", seed="one picture")
    with pytest.raises(
        BadImagesError, match=r"^2 images cannot be used: .*A/twice\.png: the same image stands under two labels: A, B; .*B/twice\.png"
    ):
        prepared(tmp_path)
    found = prepared(tmp_path, on_bad_image="skip")
    assert [image.path for image in found.record.skipped] == ["A/twice.png", "B/twice.png"]
    assert len(found.manifest.entries) == 24


def test_an_empty_file_under_each_label_is_reported_once(tmp_path: Path) -> None:
    put_patients(tmp_path)
    for label in "AB":
        (tmp_path / label / "empty.png").write_bytes(b"")
    found = prepared(tmp_path, on_bad_image="skip")
    assert [(image.path, image.reason) for image in found.record.skipped] == [("A/empty.png", "empty file"), ("B/empty.png", "empty file")]


def test_files_of_a_csv_that_cannot_be_opened_are_bad_images_with_a_reason(tmp_path: Path) -> None:
    put_patients(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")
    sound = [f"{label}/p{number:02d}_{image}.png,{label}" for number in range(12) for label in ["AB"[number // 6]] for image in range(2)]
    put_csv(tmp_path / "list.csv", "path,label", *sound, "gone.png,A", "folder.png,A", "link.png,B")
    found = prepared(tmp_path / "list.csv", on_bad_image="skip")
    assert {image.path: image.reason for image in found.record.skipped} == {
        "gone.png": "no such file",
        "folder.png": "a folder, not a file",
        "link.png": "a link to nothing",
    }
    with pytest.raises(BadImagesError, match="3 images cannot be used"):
        prepared(tmp_path / "list.csv")
    with pytest.raises(BadImagesError, match="3 images cannot be used"):
        list_images(DataRequest(data=str(tmp_path / "list.csv")), divided=True)
    undivided = list_images(DataRequest(data=str(tmp_path / "list.csv")), divided=False)
    assert {entry.path for entry in undivided.entries if not entry.sha256} == {"gone.png", "folder.png", "link.png"}


def test_where_every_image_is_bad_nothing_is_left_to_divide(tmp_path: Path) -> None:
    put_csv(tmp_path / "list.csv", "path,label", "a.png,A", "b.png,B")
    with pytest.raises(DataError, match=r"2 images cannot be used: .*no such file"):
        prepared(tmp_path / "list.csv", on_bad_image="skip")


def test_a_name_that_is_not_utf8_is_used_or_is_a_users_error(tmp_path: Path) -> None:
    """Archives packed on Windows unpack to such names."""
    put_patients(tmp_path)
    (tmp_path / "A" / "p00_0.png").rename(os.fsdecode(os.fsencode(tmp_path / "A") + b"/p00_\xe9.png"))
    try:
        found = prepared(tmp_path, on_bad_image="skip")
    except DataError:
        return
    assert len(found.manifest.entries) + len(found.record.skipped) == 24


# Too little to divide


def test_one_label_alone_is_refused(tmp_path: Path) -> None:
    put_csv(tmp_path / "list.csv", "path,label", *(f"{put(tmp_path / f'{number}.png').name},A" for number in range(6)))
    with pytest.raises(DataError, match="at least two labels are needed; found A"):
        prepared(tmp_path / "list.csv")


def test_a_label_that_cannot_be_on_every_side_is_refused_by_name(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 12, "B": 2})
    with pytest.raises(DataError, match="set has no image of B: too few images or groups of that label to divide"):
        prepared(tmp_path)


def test_a_label_that_is_only_tested_on_is_refused_by_name(tmp_path: Path) -> None:
    put_official(tmp_path)
    put_tree(tmp_path, {"test/C": 2})
    with pytest.raises(DataError, match="the train set has no image of C"):
        prepared(tmp_path)


# Fractions, folds, limits


def test_the_fractions_are_the_shares_of_the_files(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 20, "B": 10})
    found = prepared(tmp_path, fractions=(0.5, 0.2, 0.3))
    assert {split: dict(found.manifest.counts(split)) for split in SPLITS} == {
        "train": {"A": 10, "B": 5},
        "validation": {"A": 4, "B": 2},
        "test": {"A": 6, "B": 3},
    }


@pytest.mark.parametrize(
    "fractions", [(0.6, 0.2, 0.3), (0.5, 0.2, 0.2), (1.0, 0.0, 0.0), (0.8, -0.2, 0.4), (float("inf"), 0.2, 0.2), (float("nan"), 0.2, 0.2)]
)
def test_fractions_that_are_not_three_positive_shares_of_one_are_refused(tmp_path: Path, fractions: tuple[float, float, float]) -> None:
    with pytest.raises(DataError, match="must be three positive numbers that add up to 1"):
        prepared(put_patients(tmp_path), fractions=fractions)


def test_each_file_is_tested_in_exactly_one_fold(tmp_path: Path) -> None:
    put_patients(tmp_path, patients=8, images=2)
    tested: Counter[str] = Counter()
    for fold in range(1, 5):
        manifest = prepared(tmp_path, fold=f"{fold}/4", group_rule=PATIENT).manifest
        assert len(manifest.entries) == 32
        sides = groups_by_split(manifest)
        assert sum(map(len, sides.values())) == 16
        tested.update(entry.path for entry in manifest.split("test"))
    assert set(tested.values()) == {1}
    assert len(tested) == 32


@pytest.mark.parametrize(
    ("fold", "reason"),
    [
        ("1", "fold '1' must be K/N, for example 1/5"),
        ("a/b", "must be K/N"),
        ("1/", "must be K/N"),
        ("1.0/5", "must be K/N"),
        ("-1/5", "must be K/N"),
        ("", "fold '' must be K/N"),
        ("²/5", "must be K/N"),
        ("0/5", "fold 0/5 cannot be"),
        ("6/5", "fold 6/5 cannot be"),
        ("1/2", "N at least 3"),
    ],
)
def test_a_fold_that_cannot_be_is_refused(tmp_path: Path, fold: str, reason: str) -> None:
    with pytest.raises(DataError, match=re.escape(reason)):
        prepared(put_patients(tmp_path), fold=fold)


def test_a_fold_and_fractions_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--fold and --fractions both say how large the test set is"):
        prepared(put_patients(tmp_path), fold="1/5", fractions=(0.5, 0.2, 0.3))


@pytest.mark.parametrize("protocol", ["official", "random"])
def test_a_fold_goes_with_grouped_alone(tmp_path: Path, protocol: str) -> None:
    with pytest.raises(DataError, match="--fold goes with the protocol 'grouped'"):
        prepared(put_official(tmp_path), fold="1/5", protocol=protocol)


def test_more_folds_than_groups_of_a_label_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="set has no image of A"):
        prepared(put_patients(tmp_path, patients=3), fold="1/9", group_rule=PATIENT)


def test_a_limit_keeps_so_many_files_of_each_label_and_source_split(tmp_path: Path) -> None:
    put_official(tmp_path, train=9, test=3)
    manifest = list_images(DataRequest(data=str(tmp_path), limit_per_label=5), divided=False)
    assert Counter((entry.path.split("/")[0], entry.label) for entry in manifest.entries) == {
        ("train", "A"): 5,
        ("train", "B"): 5,
        ("test", "A"): 3,
        ("test", "B"): 3,
    }


def test_a_smaller_limit_keeps_a_part_of_a_larger_and_the_seed_draws_which(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 12, "B": 12})

    def kept(limit: int, seed: int) -> set[str]:
        request = DataRequest(data=str(tmp_path), limit_per_label=limit, split_seed=seed)
        return {entry.path for entry in list_images(request, divided=False).entries}

    assert kept(3, 0) < kept(5, 0)
    assert kept(5, 0) == kept(5, 0) != kept(5, 1)
    assert len(kept(100, 0)) == 24


def test_a_fraction_keeps_that_share_of_each_label_and_source_split(tmp_path: Path) -> None:
    put_official(tmp_path, train=20, test=6)
    manifest = list_images(DataRequest(data=str(tmp_path), images_fraction=0.3), divided=True)
    assert manifest.counts("test") == Counter(A=2, B=2)
    assert manifest.counts("train") + manifest.counts("validation") == Counter(A=6, B=6)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5])
def test_a_fraction_that_is_none_is_refused(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(DataError, match="fraction of images"):
        prepared(put_patients(tmp_path), images_fraction=fraction)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nothing_is_refused(tmp_path: Path, limit: int) -> None:
    with pytest.raises(DataError, match="must be at least 1"):
        prepared(put_patients(tmp_path), limit_per_label=limit)


# What is given back


def test_the_pixels_are_those_of_the_manifests_files(tmp_path: Path) -> None:
    found = prepared(put_patients(tmp_path))
    rows = found.pixels.rows(entry.sha256 for entry in found.manifest.entries)
    for entry, row in zip(found.manifest.entries, rows, strict=True):
        np.testing.assert_array_equal(found.pixels.pixels[row], decode_file(found.manifest.file(entry), View(SIZE, SIZE)))


def test_the_record_says_what_was_used(tmp_path: Path) -> None:
    request = DataRequest(data=str(put_patients(tmp_path / "cells", patients=10)), group_rule=PATIENT)
    found = prepare(request, view=View(SIZE, SIZE))
    record = found.record
    assert (record.name, record.root, record.request) == ("cells", str(tmp_path / "cells"), request)
    assert (record.fingerprint, record.labels, record.groups) == (found.manifest.fingerprint, ("A", "B"), 20)
    assert record.counts == {split: dict(found.manifest.counts(split)) for split in SPLITS}
    assert (record.augmentation, record.notes, record.skipped) == ("light", (), ())


def test_the_record_of_a_named_set_has_its_rows_words(cells: Path) -> None:
    assert cells.is_dir()
    record, row = prepared("blood-cells").record, DATASETS["blood-cells"]
    assert (record.name, record.licence, record.intended_use, record.augmentation) == (row.name, row.licence, row.intended_use, row.augmentation)


@pytest.mark.parametrize("choices", [{}, {"protocol": "random"}, {"protocol": "grouped", "fold": "2/4"}, {"limit_per_label": 6}, {"split_seed": 9}])
def test_listing_divides_as_preparing_does(tmp_path: Path, choices: dict[str, Any]) -> None:
    put_official(tmp_path, train=9, test=4)
    request = DataRequest(data=str(tmp_path), **choices)
    assert list_images(request, divided=True) == prepare(request, view=View(SIZE, SIZE)).manifest


def test_listing_undivided_makes_every_image_test(tmp_path: Path) -> None:
    put_official(tmp_path)
    manifest = list_images(DataRequest(data=str(tmp_path)), divided=False)
    assert total(manifest) == {"train": 0, "validation": 0, "test": 22}


def test_listing_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    list_images(DataRequest(data=str(put_official(tmp_path / "set"))), divided=True)
    assert not cache_folder().exists()


# Reopening


def again(found: Prepared, manifest: Manifest | None = None) -> Prepared:
    return reopen(manifest or found.manifest, found.record, view=View(SIZE, SIZE))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_reopening_gives_the_same_pixels_from_the_cache_or_decoded_anew(own_cache: Path, tmp_path: Path) -> None:
    found = prepared(put_patients(tmp_path / "set"))
    first = np.array(found.pixels.pixels)
    np.testing.assert_array_equal(again(found).pixels.pixels, first)
    shutil.rmtree(own_cache)
    np.testing.assert_array_equal(again(found).pixels.pixels, first)


def test_reopening_refuses_a_manifest_that_was_changed(tmp_path: Path) -> None:
    found = prepared(put_patients(tmp_path))
    first, *others = found.manifest.entries
    changed = Entry(first.path, first.sha256, "B" if first.label == "A" else "A", first.group, first.split)
    for entries in ((changed, *others), tuple(others)):
        with pytest.raises(DataError, match=f"does not match its recorded fingerprint {found.record.fingerprint[:12]}: it was changed"):
            again(found, Manifest(found.manifest.root, entries))


def test_reopening_refuses_files_that_changed(own_cache: Path, tmp_path: Path) -> None:
    found = prepared(put_patients(tmp_path / "set"))
    shutil.rmtree(own_cache)
    put(tmp_path / "set" / "A" / "p00_0.png", seed="another picture")
    with pytest.raises(DataError, match=r"p00_0\.png is no longer the file that the manifest names"):
        again(found)


def test_reopening_refuses_files_that_are_gone(own_cache: Path, tmp_path: Path) -> None:
    found = prepared(put_patients(tmp_path / "set"))
    shutil.rmtree(own_cache)
    shutil.rmtree(tmp_path / "set" / "A")
    with pytest.raises(DataError, match=r"an image of the manifest cannot be read: .*/A/p0\d_\d\.png: No such file"):
        again(found)


def test_a_run_with_skipped_images_reopens(tmp_path: Path) -> None:
    put_patients(tmp_path)
    (tmp_path / "A" / "p00_0.png").write_bytes(b"")
    found = prepared(tmp_path, on_bad_image="skip")
    assert len(again(found).pixels.pixels) == 23


# Laws


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 files a label, of 16 contents: the last eight are copies of the first."""
    folder = tmp_path_factory.mktemp("shelf")
    for label in "AB":
        for number in range(24):
            put(folder / f"{label}{number}.png", seed=f"{label}{number % 16}")
    return folder


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000), fold=st.sampled_from([None, "1/3", "3/4"]))
def test_grouped_never_has_a_group_or_a_content_on_two_sides(shelf: Path, data: st.DataObject, seed: int, fold: str | None) -> None:
    names = data.draw(st.lists(st.sampled_from([f"{label}{number}" for label in "AB" for number in range(24)]), min_size=24, unique=True))
    lines = [f"{name}.png,{name[0]},{name[0]}-{data.draw(st.integers(0, 9))}" for name in names]
    put_csv(shelf / "list.csv", "path,label,group", *lines)
    request = DataRequest(data=str(shelf / "list.csv"), split_seed=seed, fold=fold)
    try:
        manifest = list_images(request, divided=True)
    except DataError as error:
        assert "too few images or groups" in str(error) or "at least two labels" in str(error)
        return
    assert sorted(entry.path for entry in manifest.entries) == sorted(f"{name}.png" for name in names)
    for keys in (groups_by_split(manifest), {split: {entry.sha256 for entry in manifest.split(split)} for split in SPLITS}):
        assert sum(map(len, keys.values())) == len(set().union(*keys.values()))
