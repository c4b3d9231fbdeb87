"""A file that decides by a threshold and may give no answer, through every verb that uses it."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellclf.artifact.decisions import stored
from cellclf.card import AbstainBand, Card, OperatingPoint, read_model_file
from cellclf.cli.console import interval
from cellclf.evaluation.decision import decide
from cellclf.training.run import Run
from tests.cli.reading import error_line, table_rows
from tests.conftest import Completed
from tests.model_files import resigned

Cli = Callable[..., Completed]
WISHES = ("--calibrate", "--min-sensitivity", "0.5", "--positive", "NEUTROPHIL", "--min-coverage", "0.4")


@pytest.fixture(scope="module")
def doubting_file(deciding_file: Path, two_label_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with a band so wide that half of the test images are in it."""
    card = read_model_file(deciding_file).card
    values = np.sort(stored(two_label_run, "test").softened(card.temperature).probabilities[:, 1])
    low, high = ((values[place - 1] + values[place]) / 2 for place in (8, 24))
    assert card.abstain is not None
    abstain = card.abstain.model_copy(update={"low": low, "high": high}).model_dump()
    return resigned(deciding_file, tmp_path_factory.mktemp("doubting") / "doubting.onnx", card={"abstain": abstain})


@pytest.fixture(scope="module")
def card(doubting_file: Path) -> Card:
    return read_model_file(doubting_file).card


@pytest.fixture(scope="module")
def point(card: Card) -> OperatingPoint:
    assert card.operating_point is not None
    return card.operating_point


@pytest.fixture(scope="module")
def band(card: Card) -> AbstainBand:
    assert card.abstain is not None
    return card.abstain


def test_export_writes_what_was_asked_for_into_the_file_and_says_what_it_comes_to(
    cli: Cli, two_label_run: Run, deciding_file: Path, tmp_path: Path
) -> None:
    done = cli("export", two_label_run.folder, *WISHES, "--output", "model.onnx")
    assert done.code == 0, done.err
    written, expected = (read_model_file(path).card for path in (tmp_path / "model.onnx", deciding_file))
    assert (written.operating_point, written.abstain, written.temperature) == (expected.operating_point, expected.abstain, expected.temperature)
    assert written.operating_point is not None and written.temperature is not None
    assert f"NEUTROPHIL from a probability of {written.operating_point.threshold:.4g}" in done.out
    assert "abstains: where the probability of NEUTROPHIL is from" in done.out
    assert f"temperature: {written.temperature.value:.3f} in the graph" in done.out
    loss, error = (interval(written.metrics["test"][name]) for name in ("loss", "ece"))
    assert f"on test loss {loss}, calibration error {error}" in done.out
    assert "on test" in done.out


@pytest.mark.parametrize(
    ("wishes", "named"),
    [
        (["--min-sensitivity", "0.9", "--positive", "NEUTRO"], "unknown label 'NEUTRO'; the labels are LYMPHOCYTE, NEUTROPHIL"),
        (["--positive", "NEUTROPHIL"], "--min-sensitivity"),
        (["--min-sensitivity", "95"], "95"),
        (["--max-error", "0.1", "--min-coverage", "0.5"], "give one of the two"),
    ],
    ids=["unknown label", "positive alone", "percent", "two bands"],
)
def test_a_wish_that_cannot_be_met_is_one_line_and_writes_nothing(
    cli: Cli, two_label_run: Run, wishes: list[str], named: str, tmp_path: Path
) -> None:
    done = cli("export", two_label_run.folder, *wishes)
    assert named in error_line(done)
    assert len(done.err.splitlines()) == 1
    assert not list(tmp_path.rglob("*.onnx"))


def test_show_tells_temperature_operating_point_and_band(cli: Cli, doubting_file: Path, point: OperatingPoint) -> None:
    done = cli("show", doubting_file)
    assert done.code == 0
    assert f"NEUTROPHIL from a probability of {point.threshold:.4g}, for a sensitivity of 0.5" in done.out
    assert "abstains" in done.out
    assert "the most probable label, always" not in done.out


def test_show_of_a_file_without_says_so(cli: Cli, model_file: Path) -> None:
    assert "the most probable label, always" in cli("show", model_file).out


def test_predict_decides_and_abstains_as_the_card_says_in_every_form(
    cli: Cli, doubting_file: Path, two_label_folder: Path, point: OperatingPoint, band: AbstainBand
) -> None:
    command = ("predict", two_label_folder / "test", "--model", doubting_file)
    records = json.loads(cli(*command, "--json").out)
    assert len(records) == 32
    for record in records:
        found = record["probabilities"]["NEUTROPHIL"]
        assert record["label"] == ("NEUTROPHIL" if found >= point.threshold else "LYMPHOCYTE")
        assert record["abstained"] is (band.low <= found < band.high)
    assert sum(record["abstained"] for record in records) == 16
    assert [json.loads(line) for line in cli(*command, "--ndjson").out.splitlines()] == records
    rows = list(csv.DictReader(io.StringIO(cli(*command, "--csv").out)))
    assert [(row["label"], row["abstained"]) for row in rows] == [(record["label"], str(record["abstained"]).lower()) for record in records]
    cells = table_rows(cli(*command).out, "image", "label", "probability", "answer")
    assert [(row[1], row[3]) for row in cells] == [(record["label"], "abstains" if record["abstained"] else "given") for record in records]


def test_the_decided_label_stands_first_in_the_table_even_where_it_is_not_the_most_probable(
    cli: Cli, doubting_file: Path, two_label_folder: Path
) -> None:
    command = ("predict", two_label_folder / "test", "--model", doubting_file)
    records = json.loads(cli(*command, "--json").out)
    rows = table_rows(cli(*command, "--top-k", "2").out, "image", "label", "probability", "answer")
    for record, first, second in zip(records, rows[::2], rows[1::2], strict=True):
        assert first[:2] == [record["path"], record["label"]]
        assert second[0] == ""
        assert second[1] != first[1]


def test_evaluate_measures_the_decided_labels_with_coverage_and_error(
    cli: Cli, doubting_file: Path, two_label_folder: Path, two_label_run: Run, card: Card, point: OperatingPoint, band: AbstainBand
) -> None:
    found = json.loads(cli("evaluate", doubting_file, "--data", two_label_folder, "--json").out)
    assert found["same_data_as_trained"]
    test = stored(two_label_run, "test").softened(card.temperature)
    decision = decide(test.probabilities, test.labels, operating_point=point, abstain=band)
    right = decision.called == test.truth
    assert found["metrics"]["accuracy"]["value"] == right.mean()
    assert found["metrics"]["accuracy"] == card.metrics["test"]["accuracy"].model_dump()
    assert found["coverage"]["value"] == (~decision.abstained).mean() == 0.5
    assert found["error_of_the_answered"]["value"] == (~right[~decision.abstained]).mean()
    assert found["operating_point"] == point.model_dump()
    assert found["coverage_error"][-1] == {"coverage": 1.0, "error": pytest.approx((~right).mean())}
    assert found["at_prevalence"] is None


def test_evaluate_prints_the_operating_point_what_was_answered_and_the_values_at_a_prevalence(
    cli: Cli, doubting_file: Path, two_label_folder: Path, point: OperatingPoint
) -> None:
    done = cli("evaluate", doubting_file, "--data", two_label_folder, "--prevalence", "0.05")
    assert done.code == 0, done.err
    assert f"NEUTROPHIL is called from a probability of {point.threshold:.4g} on" in done.out
    assert "answered " in done.out
    assert "where 0.05 of those tested are NEUTROPHIL: PPV" in done.out


def test_evaluate_at_a_prevalence_gives_bayes_rule_on_the_measured_rates(cli: Cli, doubting_file: Path, two_label_folder: Path) -> None:
    done = cli("evaluate", doubting_file, "--data", two_label_folder, "--prevalence", "0.2", "--positive", "LYMPHOCYTE", "--json")
    found = json.loads(done.out)
    rates = found["metrics"]["per_label"]["LYMPHOCYTE"]
    sensitivity, specificity = rates["recall"]["value"], rates["specificity"]["value"]
    called = sensitivity * 0.2 + (1 - specificity) * 0.8
    assert found["at_prevalence"]["positive"] == "LYMPHOCYTE"
    assert found["at_prevalence"]["ppv"]["value"] == pytest.approx(sensitivity * 0.2 / called)
    assert found["at_prevalence"]["npv"]["value"] == pytest.approx(specificity * 0.8 / (1 - called))


def test_a_prevalence_with_more_than_two_labels_needs_its_label(cli: Cli, model_file: Path) -> None:
    line = error_line(cli("evaluate", model_file, "--prevalence", "0.1"))
    assert "--prevalence needs --positive LABEL: one of EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL" in line


def test_verify_proves_a_file_that_decides(cli: Cli, doubting_file: Path) -> None:
    assert cli("verify", doubting_file, "--device", "cpu").code == 0
