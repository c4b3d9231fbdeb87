from pathlib import Path

import pytest

from cellclf.data.prepare import DataRequest
from cellclf.errors import CellclfError
from cellclf.report.loading import load, load_all
from cellclf.training.recipe import Recipe, make_recipe
from tests.report.making import Data, make_run


def recipe(**choices: object) -> Recipe:
    return make_recipe("mobilenet025", DataRequest(data="sample"), **{"epochs": 2, **choices})


def damage(folder: Path, kind: str) -> None:
    """Break one file of a run folder."""
    metrics, predictions = folder / "metrics.json", folder / "predictions.csv"
    rows = predictions.read_text().splitlines()
    match kind:
        case "unfinished":
            metrics.unlink()
        case "broken metrics":
            metrics.write_text('{"parameters": ')
        case "no predictions":
            predictions.unlink()
        case "fewer predictions":
            predictions.write_text("\n".join(rows[:-1]) + "\n")
        case "other predictions":
            swapped = [row if number == 0 else ",".join([*row.split(",")[:5], *reversed(row.split(",")[5:])]) for number, row in enumerate(rows)]
            predictions.write_text("\n".join(swapped) + "\n")
        case "NaN predictions":
            predictions.write_text("\n".join(rows[:1] + [",".join([*row.split(",")[:5], "nan", "nan"]) for row in rows[1:]]) + "\n")
        case "one probability":
            predictions.write_text("\n".join(row.rpartition(",")[0] for row in rows) + "\n")
        case "other manifest":
            manifest = folder / "manifest.csv"
            manifest.write_text(manifest.read_text().replace("ROUND", "OVAL"))
        case "no history":
            (folder / "history.csv").unlink()


BROKEN = {
    "unfinished": "is not finished",
    "broken metrics": "metrics.json cannot be read",
    "no predictions": "predictions.csv cannot be read",
    "fewer predictions": "predictions.csv lacks 1 of the 36 test images",
    "other predictions": "predictions.csv gives an accuracy of .* metrics.json says",
    "NaN predictions": "no probabilities; its training diverged",
    "one probability": "does not hold 2 probabilities",
    "other manifest": "manifest.csv does not match its recorded fingerprint",
    "no history": "history.csv cannot be read",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_run_that_cannot_be_used_is_one_error_saying_why(tmp_path: Path, kind: str) -> None:
    run = make_run(tmp_path / "run", recipe(), skill=0.5)
    damage(run.folder, kind)
    with pytest.raises(CellclfError, match=BROKEN[kind]):
        load(run)


def test_a_whole_run_is_read_with_its_answers_in_the_manifests_order(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", recipe())
    loaded = load(run)
    assert [entry.path for entry in loaded.test.entries] == [entry.path for entry in run.manifest().split("test")]
    assert loaded.test.probabilities.shape == (36, 2)
    assert len(loaded.history) == 2
    assert (loaded.test.unit, len(set(loaded.test.groups))) == ("group", 12)


def test_where_groups_are_unknown_each_file_is_its_own(tmp_path: Path) -> None:
    loaded = load(make_run(tmp_path / "run", recipe(), data=Data(groups_known=False)))
    assert (loaded.test.unit, len(set(loaded.test.groups))) == ("file", 36)


def test_a_broken_run_does_not_stop_the_others_and_its_reason_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    good, bad, half = (make_run(tmp_path / name, recipe(seed=seed)) for seed, name in enumerate(("good", "bad", "half")))
    damage(bad.folder, "broken metrics")
    damage(half.folder, "unfinished")
    loaded, left_out = load_all([good, bad, half])
    assert list(loaded) == [good.folder]
    assert [(run.run, run.state) for run in left_out] == [("bad", "damaged"), ("half", "unfinished")]
    assert left_out[0].reason.startswith("metrics.json cannot be read")
    assert str(tmp_path) not in "".join(run.reason for run in left_out)
