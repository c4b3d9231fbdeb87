from dataclasses import replace
from pathlib import Path

import pytest

from cellclf.data.datasets import DATASETS, Dataset, fetch, find, locate, places
from cellclf.data.sample import LABELS, SLIDES, write_sample
from cellclf.errors import DatasetMissingError
from tests.data.making import put_tree

CHEST, CELLS, SAMPLE = DATASETS["chest-xray"], DATASETS["blood-cells"], DATASETS["sample"]


@pytest.fixture(autouse=True)
def _empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set anywhere."""
    monkeypatch.setenv("CELLCLF_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def draw_eight(folder: Path) -> None:
    write_sample(folder, train_per_label=1, test_per_label=1)


SMALL = replace(SAMPLE, draw=draw_eight)


def put_chest(root: Path) -> Path:
    return put_tree(root, {f"{split}/{label}": 1 for split in ("train", "test") for label in CHEST.labels})


def kaggle_version(tmp_path: Path, version: int) -> Path:
    return tmp_path / "kaggle" / "datasets" / "paultimothymooney" / "chest-xray-pneumonia" / "versions" / str(version)


def test_a_set_is_looked_for_under_the_users_folder_by_its_name(tmp_path: Path) -> None:
    assert places(CHEST) == [tmp_path / "data" / "chest-xray"]
    assert find(CHEST) is None
    put_chest(tmp_path / "data" / "chest-xray")
    assert find(CHEST) == locate(CHEST) == tmp_path / "data" / "chest-xray"


def test_what_kagglehub_downloaded_is_found_newest_version_first(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        put_chest(kaggle_version(tmp_path, version) / "chest_xray")
    assert places(CHEST)[1:] == [kaggle_version(tmp_path, version) for version in (10, 9, 2)]
    assert locate(CHEST) == kaggle_version(tmp_path, 10) / "chest_xray"


def test_kagglehubs_own_mark_files_do_not_hide_a_version(tmp_path: Path) -> None:
    put_chest(kaggle_version(tmp_path, 2) / "chest_xray")
    (kaggle_version(tmp_path, 2).parent / "2.complete").touch()
    assert find(CHEST) == kaggle_version(tmp_path, 2) / "chest_xray"


def test_without_a_word_kagglehub_keeps_its_files_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLEHUB_CACHE")
    monkeypatch.delenv("CELLCLF_DATA")
    versions = tmp_path / "home" / ".cache" / "kagglehub" / "datasets" / "paultimothymooney" / "blood-cells" / "versions"
    put_tree(versions / "6", {f"{split}/{label}": 1 for split in ("TRAIN", "TEST") for label in CELLS.labels})
    assert find(CELLS) == versions / "6"


def test_the_users_own_folder_wins_over_a_download(tmp_path: Path) -> None:
    put_chest(kaggle_version(tmp_path, 2))
    put_chest(tmp_path / "data" / "chest-xray")
    assert find(CHEST) == tmp_path / "data" / "chest-xray"


def test_the_nearest_folder_that_holds_the_set_is_its_root(tmp_path: Path) -> None:
    put_chest(tmp_path / "data" / "chest-xray" / "archive" / "chest_xray")
    put_chest(tmp_path / "data" / "chest-xray" / "archive" / "chest_xray" / "chest_xray")
    assert find(CHEST) == tmp_path / "data" / "chest-xray" / "archive" / "chest_xray"


@pytest.mark.parametrize("lacking", ["train/NORMAL", "test/PNEUMONIA"])
def test_a_folder_that_lacks_a_label_is_not_the_set(tmp_path: Path, lacking: str) -> None:
    root = put_chest(tmp_path / "data" / "chest-xray")
    (root / lacking).rename(root / "gone")
    assert find(CHEST) is None


@pytest.mark.parametrize("hidden", ["__MACOSX", ".Trash"])
def test_what_systems_leave_behind_is_not_the_set(tmp_path: Path, hidden: str) -> None:
    put_chest(tmp_path / "data" / "chest-xray" / hidden)
    assert find(CHEST) is None


def test_an_incomplete_folder_does_not_hide_a_complete_download(tmp_path: Path) -> None:
    put_tree(tmp_path / "data" / "chest-xray", {"train/NORMAL": 1})
    put_chest(kaggle_version(tmp_path, 1))
    assert find(CHEST) == kaggle_version(tmp_path, 1)


@pytest.mark.parametrize("dataset", [CHEST, CELLS], ids=["chest-xray", "blood-cells"])
def test_a_set_that_cannot_be_reached_is_an_error_that_names_the_three_ways(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(DatasetMissingError) as caught:
        locate(dataset)
    message = str(caught.value)
    assert f"data set '{dataset.name}' is not on this machine and could not be fetched" in message
    assert f"/data/{dataset.name} and set CELLCLF_DATA" in message
    assert f"cellclf data fetch {dataset.name}" in message
    assert "--data DIR" in message
    assert "\n" not in message


def test_what_kagglehub_fetches_is_asked_for_by_its_handle_and_found_where_it_is_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kagglehub = pytest.importorskip("kagglehub")
    asked: list[str] = []

    def download(handle: str) -> str:
        asked.append(handle)
        put_chest(tmp_path / "fetched" / "chest_xray" / "chest_xray")
        return str(tmp_path / "fetched")

    monkeypatch.setattr(kagglehub, "dataset_download", download)
    assert locate(CHEST) == tmp_path / "fetched" / "chest_xray" / "chest_xray"
    assert asked == ["paultimothymooney/chest-xray-pneumonia"]


def test_a_download_that_does_not_hold_the_set_is_an_error_that_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("kagglehub"), "dataset_download", lambda _: str(tmp_path / "fetched"))
    (tmp_path / "fetched" / "something else").mkdir(parents=True)
    with pytest.raises(DatasetMissingError, match="was fetched but holds no folders train and test with NORMAL, PNEUMONIA inside"):
        locate(CHEST)


def test_the_sample_is_drawn_into_the_cache_on_first_use_and_found_there_after(tmp_path: Path) -> None:
    root = locate(SMALL)
    assert root.parent == tmp_path / "cache"
    drawn = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpeg")}
    assert len(drawn) == 8
    assert locate(SMALL) == find(SMALL) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.jpeg")} == drawn


def test_a_folder_in_the_cache_that_is_not_the_sample_is_an_error_and_is_left_alone(tmp_path: Path) -> None:
    put_tree(tmp_path / "cache" / "sample-v1", {"mine": 1})
    with pytest.raises(DatasetMissingError, match="was fetched but holds no folders TRAIN and TEST with EOSINOPHIL"):
        fetch(SMALL)
    assert [path.name for path in (tmp_path / "cache" / "sample-v1").iterdir()] == ["mine"]


# The rows


def test_the_samples_row_says_what_the_sample_draws() -> None:
    assert SAMPLE.labels == LABELS
    assert (SAMPLE.train_folders, SAMPLE.test_folders) == (("TRAIN",), ("TEST",))
    assert set(SLIDES) == {"TRAIN", "TEST"}
    assert f"{len(SLIDES['TRAIN'])} slides to train and {len(SLIDES['TEST'])} to test" in SAMPLE.title


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_every_set_can_be_had_and_says_what_it_is_for(dataset: Dataset) -> None:
    assert bool(dataset.kaggle) != bool(dataset.draw)
    assert dataset.labels == tuple(sorted(dataset.labels))
    assert len(dataset.labels) >= 2
    assert not set(dataset.train_folders) & set(dataset.test_folders)
    assert dataset.title and dataset.licence and dataset.intended_use


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_a_set_has_a_group_rule_or_says_that_its_families_are_hidden(dataset: Dataset) -> None:
    assert (dataset.group_rule is None) == dataset.hidden_families
