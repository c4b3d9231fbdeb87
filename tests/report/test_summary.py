"""A network that gives one answer to everything: the report, and who trains or exports it, says that it has not learned."""

from collections.abc import Callable
from pathlib import Path

from cellclf.data.prepare import DataRequest
from cellclf.report.collect import collect_runs
from cellclf.report.summary import in_short
from cellclf.training.recipe import make_recipe
from cellclf.training.run import Run
from tests.conftest import Completed
from tests.report.making import make_run

Cli = Callable[..., Completed]


def run_of(folder: Path, *, always: int | None) -> Run:
    recipe = make_recipe("mobilenet025" if always is None else "mobilenet", DataRequest(data="sample"), weights="none", epochs=2)
    return make_run(folder, recipe, always=always)


def test_the_report_names_who_calls_every_image_the_same(tmp_path: Path) -> None:
    report = collect_runs([run_of(tmp_path / "learned", always=None), run_of(tmp_path / "stuck", always=1)]).report
    told = [sentence for sentence in in_short(report) if "has not learned" in sentence]
    (section,) = report.sections
    stuck = next(model.title for model in section.models if model.backbone == "mobilenet")
    assert told == [
        f"{section.title[:1].upper()}{section.title[1:]}: {stuck} calls every test image SQUARE: it has not learned to tell the labels apart."
    ]


def test_the_command_line_says_so_where_the_run_is_shown_and_where_it_is_exported(cli: Cli, tmp_path: Path) -> None:
    stuck = run_of(tmp_path / "runs" / "stuck", always=0)
    shown = cli("train", "--resume", stuck.folder)
    assert "all 36 validation images are called ROUND: the network has not learned" in " ".join(shown.out.split())
    as_json = cli("train", "--resume", stuck.folder, "--json")
    assert "are called ROUND" not in as_json.out
    assert "are called ROUND" in as_json.err
    assert "are called ROUND" in cli("export", stuck.folder).err
    learned = run_of(tmp_path / "runs" / "learned", always=None)
    assert "has not learned" not in cli("train", "--resume", learned.folder).out
