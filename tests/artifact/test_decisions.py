import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cellclf.artifact.convert import divide_logits
from cellclf.artifact.decisions import Decisions, Predicted, Wishes, check, choose, figures, notes, stored
from cellclf.artifact.export import export
from cellclf.artifact.verify import verify
from cellclf.card import Card, Temperature, read_model_file
from cellclf.data.crops import View
from cellclf.data.decoding import decode_file
from cellclf.data.manifest import Split
from cellclf.errors import EvaluationError, RunError, StoredFileError, UnknownNameError
from cellclf.evaluation.calibration import apply_temperature
from cellclf.evaluation.decision import decide
from cellclf.evaluation.metrics import measure
from cellclf.runtime.classifier import Classifier
from cellclf.training.run import Run

EVERYTHING = Wishes(calibrate=True, positive="NEUTROPHIL", min_sensitivity=0.5, min_coverage=0.4)


@pytest.fixture
def copied_run(two_label_run: Run, tmp_path: Path) -> Run:
    """A copy of the run, to be changed."""
    return Run(Path(shutil.copytree(two_label_run.folder, tmp_path / "copied")))


def found_by(path: Path, run: Run, split: Split) -> npt.NDArray[np.float32]:
    """What a file gives for a split's images."""
    classifier, manifest = Classifier(path, device="cpu"), run.manifest()
    card = classifier.card
    pixels = [decode_file(manifest.file(entry), View(card.height_px, card.width_px)) for entry in manifest.split(split)]
    return classifier.probabilities(np.stack(pixels))


# Stored predictions


def test_stored_predictions_come_in_the_manifests_order_with_their_truth_and_groups(two_label_run: Run) -> None:
    found, manifest = stored(two_label_run, "validation"), two_label_run.manifest()
    entries = manifest.split("validation")
    assert [found.labels[number] for number in found.truth] == [entry.label for entry in entries]
    assert list(found.groups) == [entry.group for entry in entries]
    values = two_label_run.predictions("validation")
    np.testing.assert_array_equal(found.probabilities, [values[entry.path] for entry in entries])


def test_missing_predictions_are_an_error_that_tells_how_many(copied_run: Run) -> None:
    lines = (copied_run.folder / "predictions.csv").read_text().splitlines()
    (copied_run.folder / "predictions.csv").write_text("\n".join(line for line in lines if not line.startswith("train/NEUTROPHIL")) + "\n")
    with pytest.raises(RunError, match="holds no prediction of 6 of its 12 validation images"):
        stored(copied_run, "validation")
    (copied_run.folder / "predictions.csv").unlink()
    with pytest.raises(StoredFileError, match=r"predictions\.csv cannot be read"):
        check(EVERYTHING, copied_run)


# Choosing


def of_three(images: int = 60) -> Predicted:
    generator = np.random.default_rng(2)
    truth = np.arange(images) % 3
    probabilities = generator.dirichlet(np.ones(3), size=images) / 2 + np.eye(3)[truth] / 5 + 0.1
    return Predicted("validation", ("A", "B", "C"), probabilities, truth, [f"{number:02d}" for number in range(images)])


def test_nothing_is_chosen_where_nothing_is_wished_for() -> None:
    assert choose(Wishes(), of_three()) == Decisions()


def test_with_more_than_two_labels_a_sensitivity_needs_its_label() -> None:
    with pytest.raises(EvaluationError, match="with 3 labels a least sensitivity needs --positive LABEL: one of A, B, C"):
        choose(Wishes(min_sensitivity=0.9), of_three())
    point = choose(Wishes(min_sensitivity=0.9, positive="B"), of_three()).operating_point
    assert point is not None
    assert point.positive == "B"
    assert point.sensitivity.value >= 0.9


def test_with_two_labels_the_second_is_positive_unless_another_is_named(two_label_run: Run) -> None:
    validation = stored(two_label_run, "validation")
    for positive, expected in ((None, "NEUTROPHIL"), ("LYMPHOCYTE", "LYMPHOCYTE")):
        point = choose(Wishes(min_sensitivity=0.5, positive=positive), validation).operating_point
        assert point is not None
        assert (point.positive, point.split, point.images, point.groups) == (expected, "validation", 12, 3)


@pytest.mark.parametrize(
    ("wishes", "error", "message"),
    [
        (Wishes(positive="NEUTROPHIL"), EvaluationError, "give --min-sensitivity too"),
        (Wishes(min_sensitivity=0.9, positive="NEUTRO"), UnknownNameError, "unknown label 'NEUTRO'"),
        (Wishes(max_error=0.1, min_coverage=0.5), EvaluationError, "give one of the two"),
        (Wishes(min_sensitivity=95), EvaluationError, "sensitivity of 95"),
    ],
    ids=["positive alone", "unknown label", "two bands", "percent"],
)
def test_a_wish_that_cannot_be_met_is_an_error_before_anything_is_written(
    wishes: Wishes, error: type[Exception], message: str, two_label_run: Run, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        check(wishes, two_label_run)
    with pytest.raises(error, match=message):
        export(two_label_run, tmp_path / "model.onnx", wishes=wishes)
    assert not list(tmp_path.iterdir())


def test_a_sensitivity_that_only_calling_everything_positive_reaches_is_an_error(copied_run: Run) -> None:
    """Every neutrophil is given a lower probability than any lymphocyte."""
    path = copied_run.folder / "predictions.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    for row in rows[1:]:
        row[5:] = ["0.9", "0.1"] if row[3] == "NEUTROPHIL" else ["0.2", "0.8"]
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    with pytest.raises(EvaluationError, match="only by calling every image positive"):
        check(Wishes(min_sensitivity=0.9), copied_run)


def test_the_test_images_have_no_say(copied_run: Run) -> None:
    before = choose(EVERYTHING, stored(copied_run, "validation")), check(EVERYTHING, copied_run)
    path = copied_run.folder / "predictions.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join([*row[:5], "0.5", "0.5"] if row[2] == "test" else row) for row in rows) + "\n")
    assert (choose(EVERYTHING, stored(copied_run, "validation")), check(EVERYTHING, copied_run)) == before


# Notes


def test_a_validation_set_that_leaks_is_told(copied_run: Run) -> None:
    path = copied_run.folder / "recipe.json"
    setup = json.loads(path.read_text())
    setup["data"]["leaks"] = [{"split": "validation", "reason": "copies of one cell"}, {"split": "test", "reason": "another reason"}]
    path.write_text(json.dumps(setup))
    (text,) = notes(EVERYTHING, copied_run, None)
    assert "validation LEAKS: copies of one cell" in text
    assert notes(Wishes(), copied_run, None) == ()


def test_a_validation_set_without_an_error_calibrates_nothing_and_that_is_told(copied_run: Run) -> None:
    path = copied_run.folder / "predictions.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    for row in rows[1:]:
        row[5:] = ["0.4", "0.6"] if row[3] == "NEUTROPHIL" else ["0.7", "0.3"]
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    temperature = check(Wishes(calibrate=True), copied_run)
    assert temperature is not None
    assert temperature.value == 1
    assert "does not tell how sure to be" in " ".join(notes(Wishes(calibrate=True), copied_run, temperature))


@pytest.mark.parametrize(("after", "told"), [(0.2, True), (0.1, False), (0.05, False)])
def test_a_temperature_that_does_not_calibrate_is_told(copied_run: Run, after: float, told: bool) -> None:
    temperature = Temperature(value=1.5, split="validation", images=20, loss_before=1.0, loss_after=0.9, ece_before=0.1, ece_after=after)
    assert ("0.1000 → 0.2000 on 20 validation images" in " ".join(notes(Wishes(calibrate=True), copied_run, temperature))) is told


# Figures


def test_figures_are_those_of_the_decided_labels_with_coverage_where_there_is_a_band() -> None:
    predicted = of_three()
    decisions = choose(Wishes(min_sensitivity=0.9, positive="B", min_coverage=0.5), predicted)
    found = figures(predicted, decisions, unit="group")
    called = decide(predicted.probabilities, predicted.labels, operating_point=decisions.operating_point).called
    expected = measure(predicted.probabilities, predicted.truth, predicted.labels, groups=predicted.groups, unit="group", predicted=called)
    assert (found["accuracy"], found["auc"], found["recall of B"]) == (expected.accuracy, expected.auc, expected.per_label["B"].recall)
    assert found["brier"] == expected.brier_estimate
    assert decisions.abstain is not None
    assert (found["coverage"], found["error of the answered"]) == (decisions.abstain.coverage, decisions.abstain.error)
    assert "coverage" not in figures(predicted, Decisions(), unit="group")


# The file


def test_dividing_the_last_layer_divides_the_logits() -> None:
    import keras

    generator = np.random.default_rng(0)
    image = keras.Input((5,))
    network = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="probabilities")(keras.layers.Dense(4)(image)))
    network.layers[-1].set_weights([generator.normal(size=(4, 3)), generator.normal(size=3)])
    values = generator.normal(size=(20, 5))
    before = np.asarray(network(values))
    divide_logits(network, 2.5)
    np.testing.assert_allclose(np.asarray(network(values)), apply_temperature(before, 2.5), atol=1e-6)


def test_the_files_probabilities_are_the_networks_at_the_temperature(deciding_file: Path, two_label_run: Run) -> None:
    card = read_model_file(deciding_file).card
    assert card.temperature is not None
    assert card.temperature.value != 1
    assert card.temperature.loss_after < card.temperature.loss_before
    for split in ("validation", "test"):
        expected = apply_temperature(stored(two_label_run, split).probabilities, card.temperature.value)
        np.testing.assert_allclose(found_by(deciding_file, two_label_run, split), expected, atol=1e-4)
    assert card.parity.max_difference < 1e-4


def test_the_card_tells_what_was_chosen_and_what_it_comes_to_on_test(deciding_file: Path, two_label_run: Run) -> None:
    card = read_model_file(deciding_file).card
    assert card.operating_point is not None and card.abstain is not None
    test = stored(two_label_run, "test").softened(card.temperature)
    decision = decide(test.probabilities, test.labels, operating_point=card.operating_point, abstain=card.abstain)
    right = decision.called == test.truth
    assert card.metrics["test"]["accuracy"].value == right.mean()
    assert card.metrics["test"]["recall of NEUTROPHIL"].value == right[test.truth == 1].mean()
    assert card.metrics["test"]["coverage"].value == (~decision.abstained).mean()
    assert card.metrics["test"]["error of the answered"].value == (~right[~decision.abstained]).mean()
    assert card.metrics["validation"]["recall of NEUTROPHIL"] == card.operating_point.sensitivity
    assert card.metrics["validation"]["coverage"] == card.abstain.coverage
    assert card.operating_point.sensitivity.value >= card.operating_point.min_sensitivity == 0.5
    assert card.abstain.coverage.value >= 0.4


def test_a_file_that_decides_still_verifies(deciding_file: Path) -> None:
    assert verify(deciding_file, device="cpu").max_difference <= 1e-6


def test_without_wishes_the_file_carries_none(model_file: Path) -> None:
    card = read_model_file(model_file).card
    assert (card.temperature, card.operating_point, card.abstain) == (None, None, None)


def test_a_coarser_file_chooses_by_its_own_probabilities(finished_run: Run, tmp_path: Path) -> None:
    kept = stored(finished_run, "validation")
    apart = [np.median(kept.probabilities[kept.truth == number, number]) - kept.probabilities[:, number].min() for number in range(len(kept.labels))]
    positive = int(np.argmax(apart))  # a network of two epochs tells not every label from the others
    wishes = Wishes(positive=kept.labels[positive], min_sensitivity=0.5, min_coverage=0.4)
    path = export(finished_run, tmp_path / "half.onnx", precision="fp16", wishes=wishes).path
    card = read_model_file(path).card
    assert card.operating_point is not None and card.abstain is not None
    own = found_by(path, finished_run, "validation")
    decision = decide(own, card.labels, operating_point=card.operating_point, abstain=card.abstain)
    assert (decision.called == positive)[kept.truth == positive].mean() == card.operating_point.sensitivity.value
    assert (~decision.abstained).mean() == card.abstain.coverage.value


def test_a_card_written_before_there_were_decisions_still_reads() -> None:
    written = json.loads(read_model_file(Path(__file__).parents[2] / "exported" / "blood-cells-mobilenet025.onnx").card.model_dump_json())
    older = {name: value for name, value in written.items() if name not in ("temperature", "operating_point", "abstain", "heatmap")}
    card = Card.parse(json.dumps(older), where="here")
    assert (card.temperature, card.operating_point, card.abstain, card.heatmap) == (None, None, None, None)
    assert card.labels == tuple(written["labels"])
