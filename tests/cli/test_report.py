import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellclf.data.prepare import DataRequest
from cellclf.report.figures import Report
from cellclf.studies.measurements import EXTRA_INFO_KEY
from cellclf.studies.study import Study, Variation
from cellclf.training.recipe import make_recipe
from tests.cli.reading import error_line
from tests.conftest import Completed
from tests.report.making import Data, make_run, make_study
from tests.report.test_page import MEASUREMENT

Cli = Callable[..., Completed]
STUDY = Study(
    name="mine",
    title="Mine",
    data="sample",
    factors=("hidden",),
    variations=tuple(
        Variation(name=name, title=name.title(), backbone="mobilenet025", choices={"hidden": hidden})
        for name, hidden in (("one", (8,)), ("two", (8, 8)))
    ),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder: two runs that differ in their backbone, one that differs in its epochs, and a study."""
    runs = tmp_path_factory.mktemp("made") / "runs"
    for name, backbone, epochs in (("a", "mobilenet025", 2), ("b", "mobilenet", 2), ("c", "vgg16", 3)):
        recipe = make_recipe(backbone, DataRequest(data="sample"), epochs=epochs, image_size_px=96, learning_rate=1e-3)
        make_run(runs / name, recipe, data=Data(pictures=True), skill=0.5)
    make_study(runs / "study-mine", STUDY, protocols=("official",))
    return runs


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy of them, where the command runs."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


def report_in(folder: Path) -> Report:
    return Report.read(folder / "report.json")


def test_report_compares_every_finished_run_and_says_what_is_not_ranked(cli: Cli, runs: Path) -> None:
    done = cli("report")
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == "report runs/report/index.html"
    assert "not all can be ranked together, they differ in epochs; --force ranks them all the same" in done.err
    found = report_in(runs / "report")
    assert [ranked.models for ranked in found.sections[0].sets] == [(1, 2), (3,)]
    assert found.commands == ("cellclf report",)
    assert {path.name for path in (runs / "report").iterdir()} == {"index.html", "report.md", "report.json", "cost.json", "plots"}
    images = (runs / "report" / "index.html").read_text().count("data:image/jpeg")
    assert images == len(found.sections[0].mistakes) > 0


def test_report_of_named_runs_as_json_and_markdown_only(cli: Cli, runs: Path, tmp_path: Path) -> None:
    done = cli("report", "b", runs / "c", "--factor", "backbone,epochs", "--output", "out", "--markdown-only", "--json")
    assert done.code == 0, done
    printed = Report.parse(done.out, where="stdout")
    assert printed == report_in(tmp_path / "out")
    assert [model.runs for model in printed.sections[0].models] == [("b",), ("c",)]
    assert [len(ranked.ranks) for ranked in printed.sections[0].sets] == [2]
    assert printed.commands == ("cellclf report b c --factor backbone,epochs",)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.md", "report.json", "cost.json", "plots"}


@pytest.mark.usefixtures("runs")
def test_force_ranks_what_differs_and_the_page_says_so_above_the_table(cli: Cli, tmp_path: Path) -> None:
    assert cli("report", "a", "c", "--force", "--output", "out").code == 0
    markdown = (tmp_path / "out" / "report.md").read_text()
    warning, table = markdown.index("These models may not be ranked: they differ in more than backbone."), markdown.index("| Model | Hidden layers")
    assert warning < markdown.index("| `epochs` | 2 | a |") < markdown.index("| `epochs` | 3 | c |") < table
    assert "data:image/jpeg" not in (tmp_path / "out" / "index.html").read_text(), "pictures leave runs/ only when asked for"


def test_a_broken_run_is_named_in_one_line_and_the_rest_is_reported(cli: Cli, runs: Path) -> None:
    (runs / "b" / "metrics.json").write_text("{")
    done = cli("report", "--markdown-only")
    assert done.code == 3, done
    assert [line for line in done.err.splitlines() if line.startswith("left out (damaged): b: metrics.json cannot be read")]
    assert "Traceback" not in done.err
    assert "| `b` | damaged | metrics.json cannot be read" in (runs / "report" / "report.md").read_text()


def test_an_unfinished_run_that_was_named_is_reported_as_missing(cli: Cli, runs: Path) -> None:
    (runs / "b" / "metrics.json").unlink()
    done = cli("report", "a", "b", "--markdown-only")
    assert done.code == 3
    assert "left out (unfinished): b: " in done.err


def test_the_cost_comes_from_the_benchmarks_file(cli: Cli, runs: Path) -> None:
    row = MEASUREMENT.model_copy(update={"image_size_px": 96}).model_dump(mode="json")
    (runs / "speed.json").write_text(json.dumps({"benchmarks": [{"extra_info": {EXTRA_INFO_KEY: row}}]}))
    assert cli("report", "a", "--benchmarks", runs / "speed.json", "--markdown-only").code == 0
    page = (runs / "report" / "report.md").read_text()
    assert "| fp32 | CPU | 1 | 2 | 3.21 / 4.56 | 312 | 0.34 | test CPU, 2 cores |" in page
    assert f"cellclf report a --benchmarks {runs / 'speed.json'}" in page
    assert "| 0.178 |" in page
    given = ("--price-per-hour", "0.4", "--utilisation", "1", "--lifetime-images", "5000", "--grams-per-kwh", "50")
    assert cli("report", "a", "--benchmarks", runs / "speed.json", "--markdown-only", *given).code == 0
    again = (runs / "report" / "report.md").read_text()
    assert "| 0.357 |" in again, "10⁶ / 311.5 / 3600 × 0.4"
    assert "CPU machine: 0.4 an hour, given" in again
    assert "5,000 images" in again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no run 'nothing'"),
        (["--runs", "empty"], "no finished run in empty/; train one first"),
        (["runs/study-mine"], "runs/study-mine is a study, not a run; its page is made by: cellclf study report runs/study-mine"),
        (["--factor", "colour"], "'colour' is no field of a recipe"),
        (["--markdown-only", "--pictures"], "--pictures cannot be given with --markdown-only"),
        (["--price", "gpu-h200=free"], "--price 'gpu-h200=free' is no price; give NAME=X"),
        (["--price", "gpu-h2000=5"], "unknown machine 'gpu-h2000'; did you mean gpu-h200"),
        (["--price-per-hour", "0"], "--price-per-hour 0 is no price"),
        (["--price-per-hour", "inf"], "--price-per-hour inf is no price"),
        (["--price-per-hour", "-1"], "--price-per-hour -1 is no price"),
        (["--price-per-hour", "nan"], "--price-per-hour nan is no price"),
        (["--grams-per-kwh", "inf"], "--grams-per-kwh inf must be 0 or more"),
        (["--decode-ms", "nan"], "--decode-ms nan must be 0 or more"),
        (["--price", "gpu-l4=1", "--price", "gpu-l4=2"], "--price gpu-l4 is given twice"),
        (["--positive", "PNEUMONA"], "--positive 'PNEUMONA' is no label of these runs; theirs are "),
        (["--benchmarks", "gone.json"], "gone.json cannot be read"),
        (["--output", "runs/a/recipe.json"], "runs/a/recipe.json is a file; name a folder"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_a_wrong_report_is_one_line(cli: Cli, arguments: list[str], message: str) -> None:
    assert message in error_line(cli("report", *arguments))


def test_a_study_is_reported_by_name_or_folder_beside_its_runs(cli: Cli, runs: Path) -> None:
    done = cli("study", "report", "mine")
    assert done.code == 0, done
    assert "Mine; reduced scale: at most 3 epochs" in done.out
    assert done.out.splitlines()[-1] == "report runs/study-mine/report/index.html"
    again = cli("study", "report", "runs/study-mine", "--output", "out", "--json", "--markdown-only")
    assert Report.parse(again.out, where="stdout") == report_in(runs / "study-mine" / "report")


def test_a_study_that_was_never_run_is_one_line(cli: Cli) -> None:
    assert "holds no study; run it first" in error_line(cli("study", "report", "B"))
