import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from cellclf.data.datasets import DATASETS
from cellclf.data.scan import Scan, scan
from cellclf.errors import DataError
from tests.data.making import encoded, picture, put, put_csv, put_tree

CELLS = DATASETS["blood-cells"].labels


def counted(found: Scan) -> Counter[tuple[str | None, str]]:
    return Counter((file.split, file.label) for file in found.files)


def paths(found: Scan) -> list[str]:
    return [file.path for file in found.files]


def groups(found: Scan) -> dict[str, str]:
    return {file.path: file.group for file in found.files}


# Folders


def test_one_folder_a_label_gives_labelled_files_of_no_split_and_no_group(tmp_path: Path) -> None:
    found = scan(str(put_tree(tmp_path / "cells", {"B": 1, "A": 2})))
    assert [(file.path, file.label, file.group, file.split) for file in found.files] == [
        ("A/00.png", "A", "", None),
        ("A/01.png", "A", "", None),
        ("B/00.png", "B", "", None),
    ]
    assert (found.name, found.root, found.dataset) == ("cells", tmp_path / "cells", None)


def test_images_below_a_label_folder_belong_to_that_label(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A/slide1/left": 1, "A/slide2": 1, "B": 1})
    assert [(file.path, file.label) for file in scan(str(tmp_path)).files] == [
        ("A/slide1/left/00.png", "A"),
        ("A/slide2/00.png", "A"),
        ("B/00.png", "B"),
    ]


def test_a_trailing_slash_or_a_dot_changes_nothing(tmp_path: Path) -> None:
    put_tree(tmp_path / "cells", {"A": 1, "B": 1})
    plain = scan(str(tmp_path / "cells"))
    assert scan(f"{tmp_path}/cells/") == plain
    assert scan(f"{tmp_path}/./cells/../cells") == plain


def test_a_folder_may_be_named_from_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put_tree(tmp_path / "cells", {"A": 1, "B": 1})
    assert len(scan("~/cells").files) == 2


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("TRAIN", "VAL", "TEST"), ("Training", "Validation", "Testing"), ("train", "valid", "test")],
)
def test_split_folders_are_known_by_name_in_any_case(tmp_path: Path, train: str, validation: str, test: str) -> None:
    put_tree(tmp_path, {f"{split}/{label}": count for split, count in ((train, 3), (validation, 2), (test, 1)) for label in "AB"})
    expected = {(split, label): count for split, count in (("train", 3), ("validation", 2), ("test", 1)) for label in "AB"}
    assert counted(scan(str(tmp_path))) == expected


def test_split_folders_beside_others_are_refused_because_the_others_would_be_lost(tmp_path: Path) -> None:
    put_tree(tmp_path, {"train/A": 1, "test/A": 1, "extra/A": 1})
    with pytest.raises(DataError, match=r"mixes split folders \(test, train\) with others \(extra\); move the others away"):
        scan(str(tmp_path))


def test_lone_folders_of_unpacked_archives_are_stepped_into(tmp_path: Path) -> None:
    put_tree(tmp_path / "archive" / "dataset-master" / "images", {"train/A": 1, "train/B": 1, "test/A": 1, "test/B": 1})
    found = scan(str(tmp_path))
    assert found.root == tmp_path / "archive" / "dataset-master" / "images"
    assert found.name == "images"
    assert len(found.files) == 4


def test_what_archives_and_systems_leave_behind_is_ignored(tmp_path: Path) -> None:
    put_tree(tmp_path / "cells", {"A": 1, "B": 1, "__MACOSX/cells": 1, ".git": 1, ".ipynb_checkpoints": 1})
    put_tree(tmp_path, {"__MACOSX": 1, ".Trash": 1})
    (tmp_path / ".DS_Store").touch()
    put(tmp_path / "cells" / "A" / "._00.png")
    put(tmp_path / "cells" / "A" / ".hidden.png")
    (tmp_path / "cells" / "A" / "Thumbs.db").touch()
    (tmp_path / "cells" / "A" / "notes.txt").write_text("text")
    put(tmp_path / "cells" / "A" / ".ipynb_checkpoints" / "00-checkpoint.png")
    found = scan(str(tmp_path))
    assert paths(found) == ["A/00.png", "B/00.png"]
    assert found.notes == ("1 files in label folders are of a kind that is not read and are not used, for example A/notes.txt",)


@pytest.mark.parametrize(("folders", "loose"), [({"A": 1, "B": 1}, "loose.png"), ({"train/A": 1, "test/A": 1}, "train/loose.png")])
def test_images_beside_the_label_folders_are_not_used_and_that_is_said(tmp_path: Path, folders: dict[str, int], loose: str) -> None:
    put_tree(tmp_path, folders)
    assert scan(str(tmp_path)).notes == ()
    put(tmp_path / loose)
    found = scan(str(tmp_path))
    assert paths(found) == sorted(f"{folder}/00.png" for folder in folders)
    assert found.notes == (f"1 files lie outside the label folders and are not used, for example {loose}",)


def test_a_link_to_a_folder_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    put_tree(tmp_path / "data", {"A": 1, "B": 1})
    put_tree(tmp_path, {"elsewhere": 3})
    (tmp_path / "data" / "B" / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="linked is a link to a folder, which is not followed"):
        scan(str(tmp_path / "data"))


def test_jpegs_by_their_rarer_names_are_images(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 1, "B": 1})
    for name in ("x.jfif", "y.JPE"):
        (tmp_path / "A" / name).write_bytes(encoded(picture(), "JPEG"))
    assert paths(scan(str(tmp_path))) == ["A/00.png", "A/x.jfif", "A/y.JPE", "B/00.png"]


def test_a_folder_of_a_named_sets_name_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    put_tree(tmp_path / "sample", {"A": 1, "B": 1})
    monkeypatch.chdir(tmp_path)
    assert scan("sample").notes == ("sample is the named set; the folder of that name here is meant by ./sample",)
    assert paths(scan("./sample")) == ["A/00.png", "B/00.png"]


def test_a_folder_named_like_an_image_is_no_image(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 1, "B": 1})
    (tmp_path / "A" / "folder.png").mkdir()
    assert paths(scan(str(tmp_path))) == ["A/00.png", "B/00.png"]


def test_a_label_folder_without_images_is_an_error_that_names_it(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 1})
    (tmp_path / "B").mkdir()
    with pytest.raises(DataError, match=r"label folder .*/B holds no images"):
        scan(str(tmp_path))


def test_a_folder_without_labels_is_an_error_that_says_what_is_expected(tmp_path: Path) -> None:
    put(tmp_path / "loose.png")
    with pytest.raises(DataError, match="holds no labelled images: one folder a label is expected, with images inside"):
        scan(str(tmp_path))


def test_a_link_to_nothing_among_the_images_is_not_lost_without_a_word(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 1, "B": 1})
    (tmp_path / "A" / "moved.png").symlink_to(tmp_path / "unmounted" / "moved.png")
    assert "A/moved.png" in paths(scan(str(tmp_path)))


# What is neither a folder nor a list


def test_a_name_that_is_nothing_suggests_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no folder or \.csv file 'blood-cell', and unknown data set 'blood-cell'; did you mean blood-cells\?"):
        scan("blood-cell")


def test_a_file_that_is_no_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"00\.png is neither a folder nor a \.csv file"):
        scan(str(put(tmp_path / "00.png")))


# CSV


def test_a_csv_gives_paths_and_labels_relative_to_itself(tmp_path: Path) -> None:
    found = scan(str(put_csv(tmp_path / "lists" / "cells.csv", "path,label", "a.png,A", "deep/b.png,B", "/else/c.png,A")))
    assert [(file.path, file.label, file.group, file.split) for file in found.files] == [
        ("a.png", "A", "", None),
        ("deep/b.png", "B", "", None),
        ("/else/c.png", "A", "", None),
    ]
    assert (found.name, found.root) == ("cells", tmp_path / "lists")


def test_a_csv_may_name_group_and_split(tmp_path: Path) -> None:
    found = scan(str(put_csv(tmp_path / "a.csv", "split,group,label,path,age", "Train,p1,A,a.png,3", "VAL,p2,B,b.png,4", "testing,p3,A,c.png,5")))
    assert [(file.group, file.split) for file in found.files] == [("p1", "train"), ("p2", "validation"), ("p3", "test")]


def test_a_csv_of_a_spreadsheet_is_read_with_its_byte_order_mark_line_ends_and_blanks(tmp_path: Path) -> None:
    (tmp_path / "a.CSV").write_bytes('\ufeffpath,label\r\n"a, b.png", A \r\n\r\nc.png,B\r\n'.encode())
    assert [(file.path, file.label) for file in scan(str(tmp_path / "a.CSV")).files] == [("a, b.png", "A"), ("c.png", "B")]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "has no column label or path; path and label are needed, group and split are optional"),
        (("file,label", "a.png,A"), "has no column path;"),
        (("path;label", "a.png;A"), "has no column label or path"),
        (("path,label",), "has no rows"),
        (("path,label", "a.png,A", "b.png,"), "line 3: path and label must not be empty"),
        (("path,label", " ,A"), "line 2: path and label must not be empty"),
        (("path,label", "a.png"), "line 2: path and label must not be empty"),
        (("path,label,split", "a.png,A,trian"), "line 2: unknown split 'trian'; train, validation and test are known"),
        (("path,label", "a.png,A", "b.png,A", "a.png,A"), "names a.png twice"),
        (("path,label,label", "a.png,A,B", "b.png,B,A"), "has the column label more than once"),
        (("path,label", "a.png,A", "b.png,B,C"), "line 3: more fields than columns"),
        (("path,label", "a.png,A", "./a.png,B"), "names a.png twice"),
        (("path,label,group", "a.png,A,g", "b.png,A,", "c.png,A,"), "column group is empty in 2 of 3 rows; fill all of it or none"),
        (("path,label,split", "a.png,A,train", "b.png,A,"), "column split is empty in 1 of 2 rows"),
    ],
)
def test_a_csv_that_cannot_be_used_is_an_error_that_says_where(tmp_path: Path, lines: tuple[str, ...], reason: str) -> None:
    path = put_csv(tmp_path / "list.csv", *lines)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + re.escape(reason)):
        scan(str(path))


@pytest.mark.parametrize("column", ["group", "split"])
def test_a_column_that_is_empty_throughout_is_no_column(tmp_path: Path, column: str) -> None:
    found = scan(str(put_csv(tmp_path / "a.csv", f"path,label,{column}", "a.png,A,", "b.png,B, ")))
    assert {(file.group, file.split) for file in found.files} == {("", None)}


def test_a_csv_that_is_no_text_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"path,label\n\xff\xfe.png,A\n")
    with pytest.raises(DataError, match=r"a\.csv cannot be read"):
        scan(str(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_text("path,label\n" + "x" * 200_000 + ",A\n")
    with pytest.raises(DataError, match=r"b\.csv cannot be read: field larger than field limit"):
        scan(str(tmp_path / "b.csv"))


# Group rules


def test_a_group_rule_names_the_group_by_its_groups_joined(tmp_path: Path) -> None:
    put_csv(tmp_path / "a.csv", "path,label", "p1_left_1.png,A", "p1_left_2.png,A", "p1_right_1.png,B", "p2_left_1.png,B")
    found = scan(str(tmp_path / "a.csv"), group_rule=r"(p\d+)_(left|right)")
    assert list(groups(found).values()) == ["p1/left", "p1/left", "p1/right", "p2/left"]


def test_a_group_rule_without_groups_names_the_group_by_what_it_finds(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A/p1": 2, "B/p2": 1})
    assert set(groups(scan(str(tmp_path), group_rule=r"p\d")).values()) == {"p1", "p2"}


def test_a_group_rule_sees_the_path_below_the_root_with_a_slash_before_it(tmp_path: Path) -> None:
    put_tree(tmp_path / "p9", {"A": 1, "B": 1})
    assert groups(scan(str(tmp_path / "p9"), group_rule=r"^/([AB])/")) == {"A/00.png": "A", "B/00.png": "B"}


def test_a_group_rule_wins_over_the_group_column(tmp_path: Path) -> None:
    put_csv(tmp_path / "a.csv", "path,label,group", "x1.png,A,g1", "x2.png,B,g2")
    assert set(groups(scan(str(tmp_path / "a.csv"), group_rule="x")).values()) == {"x"}


def test_a_group_rule_that_misses_a_file_is_an_error_that_names_one(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A/p1": 1, "B": 2})
    with pytest.raises(DataError, match=r"finds no group in 2 of 3 paths, for example B/00\.png"):
        scan(str(tmp_path), group_rule=r"/(p\d)/")


def test_a_group_rule_that_is_no_regular_expression_is_an_error(tmp_path: Path) -> None:
    put_tree(tmp_path, {"A": 1, "B": 1})
    with pytest.raises(DataError, match=r"group rule '\(' is no regular expression"):
        scan(str(tmp_path), group_rule="(")


# Kaggle's own layouts


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where named sets are looked for; empty."""
    monkeypatch.setenv("CELLCLF_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def put_blood_cells(root: Path) -> None:
    """As kaggle.com gives it: two nested sets, of which the second has the four labels."""
    inner = root / "dataset2-master" / "dataset2-master" / "images"
    put_tree(inner, {f"{split}/{label}": count for split, count in (("TRAIN", 3), ("TEST", 2), ("TEST_SIMPLE", 1)) for label in CELLS})
    put_tree(root / "dataset-master" / "dataset-master", {"JPEGImages": 2})
    put_csv(root / "dataset2-master" / "dataset2-master" / "labels.csv", ",Image,Category", "0,0,NEUTROPHIL")


def put_chest_xray(root: Path) -> None:
    """As kaggle.com gives it: the set, a second copy inside, and what macOS left."""
    names = {
        "NORMAL": ["IM-0115-0001.jpeg", "IM-0115-0002.jpeg", "NORMAL2-IM-0115-0001.jpeg"],
        "PNEUMONIA": ["person1_bacteria_1.jpeg", "person1_bacteria_2.jpeg", "person1_virus_6.jpeg"],
    }
    for copy in (root / "chest_xray", root / "chest_xray" / "chest_xray", root / "chest_xray" / "__MACOSX" / "chest_xray"):
        for number, split in enumerate(("train", "val", "test")):
            for label, files in names.items():
                for name in files:
                    put(copy / split / label / re.sub(r"(person|IM-0)1", rf"\g<1>{number + 1}", name), seed=f"{split}/{name}")


def test_blood_cells_as_kaggle_gives_them_are_train_and_test_of_four_labels(data_folder: Path) -> None:
    put_blood_cells(data_folder / "blood-cells")
    found = scan("blood-cells")
    expected: dict[tuple[str | None, str], int] = {(split, label): count for split, count in (("train", 3), ("test", 2)) for label in CELLS}
    assert counted(found) == expected
    assert found.root.name == "images"
    assert found.dataset is DATASETS["blood-cells"]
    assert {file.group for file in found.files} == {""}


def test_chest_xrays_as_kaggle_gives_them_are_taken_once_with_val_as_part_of_train(data_folder: Path) -> None:
    put_chest_xray(data_folder / "chest-xray")
    found = scan("chest-xray")
    assert found.root == data_folder / "chest-xray" / "chest_xray"
    assert counted(found) == {("train", "NORMAL"): 6, ("train", "PNEUMONIA"): 6, ("test", "NORMAL"): 3, ("test", "PNEUMONIA"): 3}


def test_chest_xrays_without_a_val_folder_are_taken_too(data_folder: Path) -> None:
    put_chest_xray(data_folder / "chest-xray")
    shutil.rmtree(data_folder / "chest-xray" / "chest_xray" / "val")
    assert counted(scan("chest-xray"))["train", "NORMAL"] == 3


def test_the_chest_xray_rule_keeps_patients_together_and_persons_of_bacteria_and_virus_apart(data_folder: Path) -> None:
    put_chest_xray(data_folder / "chest-xray")
    by_name = {Path(path).name: group for path, group in groups(scan("chest-xray")).items() if path.startswith("train/")}
    assert by_name == {
        "IM-0115-0001.jpeg": "IM-0115",
        "IM-0115-0002.jpeg": "IM-0115",
        "NORMAL2-IM-0115-0001.jpeg": "NORMAL2-IM-0115",
        "person1_bacteria_1.jpeg": "person1_bacteria",
        "person1_bacteria_2.jpeg": "person1_bacteria",
        "person1_virus_6.jpeg": "person1_virus",
    }


def test_a_users_rule_wins_over_the_sets_own(data_folder: Path) -> None:
    put_chest_xray(data_folder / "chest-xray")
    assert {file.group for file in scan("chest-xray", group_rule="NORMAL|PNEUMONIA").files} == {"NORMAL", "PNEUMONIA"}


def test_label_folders_that_a_named_set_does_not_have_are_left_out(data_folder: Path) -> None:
    put_blood_cells(data_folder / "blood-cells")
    images = data_folder / "blood-cells" / "dataset2-master" / "dataset2-master" / "images"
    put_tree(images, {"TRAIN/BASOPHIL": 2})
    assert {file.label for file in scan("blood-cells").files} == set(CELLS)


def test_a_folder_given_by_its_path_is_no_named_set(data_folder: Path) -> None:
    put_chest_xray(data_folder / "chest-xray")
    shutil.rmtree(data_folder / "chest-xray" / "chest_xray" / "chest_xray")
    found = scan(str(data_folder / "chest-xray"))
    assert found.dataset is None
    assert counted(found)["validation", "NORMAL"] == 3
