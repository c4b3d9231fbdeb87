"""A network that gives one answer to everything: the report, and who trains or exports it, says that it has not learned."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cellclf.data.prepare import DataRequest
from cellclf.report.collect import collect_runs
from cellclf.report.summary import in_short
from cellclf.training.recipe import make_recipe
from cellclf.training.run import Run
from tests.conftest import Completed
from tests.report.making import make_run

Cli = Callable[..., Completed]


def run_of(folder: Path, *, always: int | None) -> Run:
    same: dict[str, object] = {"weights": "none", "epochs": 2, "learning_rate": 1e-3, "image_size_px": 96}
    recipe = make_recipe("mobilenet025" if always is None else "mobilenet", DataRequest(data="sample"), **same)
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
    assert "the network calls all 36 validation images ROUND: it has not learned" in " ".join(shown.out.split())
    as_json = cli("train", "--resume", stuck.folder, "--json")
    assert "validation images ROUND" not in as_json.out
    assert "validation images ROUND" in as_json.err
    assert "validation images ROUND" in cli("export", stuck.folder).err
    learned = run_of(tmp_path / "runs" / "learned", always=None)
    assert "has not learned" not in cli("train", "--resume", learned.folder).out


def test_a_network_that_has_not_learned_is_never_chosen(cli: Cli, tmp_path: Path) -> None:
    run_of(tmp_path / "runs" / "learned", always=None)
    run_of(tmp_path / "runs" / "stuck", always=1)
    both = cli("choose", "--json")
    found = json.loads(both.out)
    assert [each["runs"] for each in found["kept"]] == [["learned"]]
    assert found["excluded"][0]["excluded"] == ["stuck calls every image SQUARE: it has not learned"]
    alone = cli("choose", "stuck")
    assert alone.code == 1
    assert "no model can be chosen" in alone.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--max-latency-ms", "nan"], "--max-latency-ms nan"),
        (["--max-cost", "0"], "--max-cost 0 must be above 0"),
        (["--max-size-mb", "-1"], "--max-size-mb -1"),
        (["--min-sensitivity", "2"], "--min-sensitivity 2 must be above 0 and at most 1"),
        (["--factor", "lerning_rate"], "'lerning_rate' is no field of a recipe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_limits_that_cannot_be_are_one_line(cli: Cli, tmp_path: Path, arguments: list[str], named: str) -> None:
    run_of(tmp_path / "runs" / "learned", always=None)
    done = cli("choose", *arguments)
    assert done.code == 1
    assert named in done.err
    assert len(done.err.strip().splitlines()) == 1
