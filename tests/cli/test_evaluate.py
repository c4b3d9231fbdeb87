import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cellclf.card import read_model_file
from cellclf.training.run import Run
from tests.cli.reading import error_line
from tests.conftest import Completed

Cli = Callable[..., Completed]


def recomputed(labels: Sequence[str], records: list[dict[str, Any]]) -> dict[str, Any]:
    """The plain figures of predictions, each written down anew from its definition; an image's label is its folder's name."""
    truth = [Path(record["path"]).parent.name for record in records]
    rows = [[record["probabilities"][label] for label in labels] for record in records]
    predicted = [labels[row.index(max(row))] for row in rows]
    confusion = [[sum(t == a and p == b for t, p in zip(truth, predicted, strict=True)) for b in labels] for a in labels]
    areas = []
    for number, label in enumerate(labels):
        positive = [row[number] for row, t in zip(rows, truth, strict=True) if t == label]
        negative = [row[number] for row, t in zip(rows, truth, strict=True) if t != label]
        areas.append(sum((a > b) + (a == b) / 2 for a in positive for b in negative) / (len(positive) * len(negative)))
    return {
        "accuracy": sum(confusion[n][n] for n in range(len(labels))) / len(rows),
        "balanced_accuracy": sum(confusion[n][n] / sum(confusion[n]) for n in range(len(labels))) / len(labels),
        "loss": -sum(math.log(row[labels.index(t)]) for row, t in zip(rows, truth, strict=True)) / len(rows),
        "auc": sum(areas) / len(areas),
        "confusion": confusion,
    }


def assert_figures(metrics: dict[str, Any], expected: dict[str, Any]) -> None:
    assert metrics["accuracy"]["value"] == pytest.approx(expected["accuracy"])
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(expected["balanced_accuracy"])
    assert metrics["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    assert metrics["auc"]["value"] == pytest.approx(expected["auc"], abs=1e-9)
    assert metrics["confusion"] == expected["confusion"]


def test_evaluate_gives_the_figures_of_what_predict_predicts(cli: Cli, model_file: Path, sample_folder: Path, tmp_path: Path) -> None:
    done = cli("evaluate", model_file, "--device", "cpu", "--json", "--output", "figures/test.json", "--picture", "figures/confusion.png")
    assert done.code == 0
    found, card = json.loads(done.out), read_model_file(model_file).card
    predicted = cli("predict", sample_folder / "TEST", "--model", model_file, "--ndjson")
    assert_figures(found["metrics"], recomputed(card.labels, [json.loads(line) for line in predicted.out.splitlines()]))
    assert (found["split"], found["same_data_as_trained"], found["data_fingerprint"]) == ("test", True, card.data_fingerprint)
    assert (found["metrics"]["images"], found["metrics"]["groups"], found["metrics"]["interval_unit"]) == (16, 4, "group")
    assert (found["model_sha256"], found["provider"]) == (read_model_file(model_file).fingerprint, "CPUExecutionProvider")
    assert (found["notes"], found["unreadable"]) == ([], {})
    assert found["metrics"]["accuracy"] == card.model_dump()["metrics"]["test"]["accuracy"], "the card's own figure, measured again"
    assert json.loads((tmp_path / "figures" / "test.json").read_text()) == found
    with Image.open(tmp_path / "figures" / "confusion.png") as picture:
        picture.verify()
        assert picture.format == "PNG"
        assert min(picture.size) > 200


def test_evaluate_prints_its_figures_and_the_confusion_matrix(cli: Cli, model_file: Path) -> None:
    done, labels = cli("evaluate", model_file), read_model_file(model_file).card.labels
    assert done.code == 0
    assert "16 images, 4 groups" in done.out
    assert "95 % intervals over groups" in done.out
    assert all(f"→ {label}" in done.out for label in labels)


def test_evaluate_all_measures_every_image(cli: Cli, model_file: Path, sample_folder: Path) -> None:
    done = cli("evaluate", model_file, "--split", "all", "--json")
    found, labels = json.loads(done.out), read_model_file(model_file).card.labels
    assert (found["split"], found["metrics"]["images"]) == ("all", len(list(sample_folder.rglob("*.jpeg"))))
    predicted = cli("predict", sample_folder, "--model", model_file, "--ndjson")
    assert_figures(found["metrics"], recomputed(labels, [json.loads(line) for line in predicted.out.splitlines()]))
    assert found["notes"], "training images are among them"


def test_evaluate_of_the_validation_split_measures_the_runs_own_validation_images(cli: Cli, model_file: Path, finished_run: Run) -> None:
    metrics = json.loads(cli("evaluate", model_file, "--split", "validation", "--json").out)["metrics"]
    own = finished_run.metrics().validation
    assert (metrics["images"], metrics["confusion"]) == (own.images, [list(row) for row in own.confusion])
    assert metrics["loss"] == pytest.approx(own.loss, abs=1e-5)


def test_evaluate_measures_all_images_of_a_folder_that_has_no_test_set(cli: Cli, model_file: Path, own_folder: Path) -> None:
    done = cli("evaluate", model_file, "--data", own_folder, "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["metrics"]["images"] == len(list(own_folder.rglob("*.jpeg"))) == 8
    assert found["split"] == "all"


def test_evaluate_says_that_it_does_not_know_whether_other_images_were_trained_on(cli: Cli, model_file: Path, own_folder: Path) -> None:
    found = json.loads(cli("evaluate", model_file, "--data", own_folder, "--split", "all", "--json").out)
    assert not found["same_data_as_trained"]
    assert "not known" in " ".join(found["notes"])
    assert found["metrics"]["interval_unit"] == "file"


def test_evaluate_reports_a_broken_image_measures_the_others_and_exits_with_3(cli: Cli, model_file: Path, own_folder: Path) -> None:
    (own_folder / "MONOCYTE" / "broken.png").write_text("no picture")
    done = cli("evaluate", model_file, "--data", own_folder, "--split", "all", "--json")
    assert done.code == 3
    found = json.loads(done.out)
    assert list(found["unreadable"]) == ["MONOCYTE/broken.png"]
    assert found["metrics"]["images"] == 8
    assert "images that could not be used: 1" in done.err


def test_evaluate_reports_a_missing_image_of_a_csv_measures_the_others_and_exits_with_3(
    cli: Cli, model_file: Path, test_images: list[Path], tmp_path: Path
) -> None:
    with (tmp_path / "mine.csv").open("w", newline="") as stream:
        rows = [["path", "label"], *([str(path), path.parent.name] for path in test_images), ["missing.png", "MONOCYTE"]]
        csv.writer(stream).writerows(rows)
    done = cli("evaluate", model_file, "--data", "mine.csv", "--split", "all", "--json")
    assert done.code == 3, done.err
    assert list(json.loads(done.out)["unreadable"]) == ["missing.png"]


def test_evaluate_refuses_labels_that_the_model_does_not_know(cli: Cli, model_file: Path, own_folder: Path) -> None:
    (own_folder / "MONOCYTE").rename(own_folder / "BASOPHIL")
    line = error_line(cli("evaluate", model_file, "--data", own_folder, "--split", "all"))
    assert "BASOPHIL" in line
    assert "it knows EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL" in line


def test_evaluate_replaces_its_own_files_and_nobody_elses(cli: Cli, model_file: Path, own_folder: Path, tmp_path: Path) -> None:
    asked = ("evaluate", model_file, "--data", own_folder, "--split", "all")
    mine, image = tmp_path / "mine.onnx", next(own_folder.rglob("*.*"))
    mine.write_bytes(model_file.read_bytes())
    held = image.read_bytes()
    assert "exists and is no evaluation of ours" in error_line(cli("evaluate", mine, *asked[2:], "--output", mine))
    other = tmp_path / "slide.png"
    other.write_bytes(held)
    assert "exists and is no picture of a confusion matrix of ours" in error_line(cli(*asked, "--picture", other))
    assert (mine.read_bytes(), other.read_bytes()) == (model_file.read_bytes(), held)
    for _ in range(2):
        assert cli(*asked, "--output", "e.json", "--picture", "e.png").code == 0


def test_evaluate_leaves_no_file_when_it_fails(cli: Cli, model_file: Path, own_folder: Path, tmp_path: Path) -> None:
    (own_folder / "MONOCYTE").rename(own_folder / "BASOPHIL")
    error_line(cli("evaluate", model_file, "--data", own_folder, "--split", "all", "--output", "out/a.json", "--picture", "out/a.png"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "wrong", "offered"),
    [("--split", "tset", "test"), ("--data", "sampel", "sample"), ("--protocol", "gruoped", "grouped"), ("--device", "cudda", "cuda")],
)
def test_evaluate_of_an_unknown_name_is_one_line_that_offers_the_right_one(cli: Cli, model_file: Path, option: str, wrong: str, offered: str) -> None:
    line = error_line(cli("evaluate", model_file, option, wrong))
    assert wrong in line
    assert offered in line
