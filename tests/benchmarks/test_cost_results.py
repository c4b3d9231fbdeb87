import re
from pathlib import Path

import pytest

from benchmarks.best_results import RESULTS
from benchmarks.cost_results import int8_of_the_five
from benchmarks.subjects import STUDY_BACKBONES
from cellclf.report.cost_page import write_cost_page
from cellclf.report.costing import Costs


@pytest.fixture(scope="module")
def costs() -> Costs:
    return Costs.read(RESULTS / "cost.json")


@pytest.fixture(scope="module")
def page(costs: Costs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "cost.md"
    path.with_suffix("").mkdir()
    (path.with_suffix("") / "of-an-earlier-page.png").write_bytes(b"")
    write_cost_page(costs, path, title="A <title>", command="make it", notes=["A note."], commands=["cellclf report"])
    return path


def test_the_page_has_a_picture_a_data_set_and_none_of_an_earlier_page(page: Path, costs: Costs) -> None:
    named = re.findall(r"\]\((cost/[^)]+)\)", page.read_text())
    assert len(named) == len({model.section for model in costs.models})
    assert sorted(named) == sorted(f"cost/{path.name}" for path in page.with_suffix("").iterdir())
    assert all((page.parent / name).read_bytes().startswith(b"\x89PNG") for name in named)


def test_the_page_says_what_made_it_and_what_it_rests_on(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("# A \\<title\\>\n\nWritten by `make it`; no figure is typed.\n\nA note.\n")
    assert "```\ncellclf report\n```" in text
    for said in ("Utilisation 50 %", "A training is spread over 10,000,000 images", "a round assumption", "Energy and CO₂: not measured"):
        assert said in text


def test_each_model_of_the_stored_costs_has_a_way_with_its_own_files_accuracy(costs: Costs) -> None:
    for model in costs.models:
        own = [way for way in model.ways if way.accuracy_of == "file"]
        assert own, model.title
        assert all(way.file.startswith(f"{model.title}-") and way.measured is not None for way in own)


def test_the_committed_page_is_what_the_stored_costs_give(costs: Costs, tmp_path: Path) -> None:
    committed = (RESULTS / "cost.md").read_text(encoding="utf-8")
    shown = committed.partition("## What each model costs")[2].partition("## How this was made")[0]
    write_cost_page(costs, tmp_path / "cost.md", title="x", command="x")
    assert (tmp_path / "cost.md").read_text(encoding="utf-8").partition("## What each model costs")[2].partition("## How this was made")[0] == shown


def test_what_int8_changes_is_told_of_all_five_on_each_provider_with_their_own_answers(costs: Costs) -> None:
    lines = int8_of_the_five(costs)
    assert [line.partition(",")[0].removeprefix("int8 against fp32 of the five on ") for line in lines] == [
        "CPUExecutionProvider",
        "OpenVINO:CPU f32",
    ]
    for line in lines:
        assert all(f"{name} " in line for name in STUDY_BACKBONES)
        assert "on 624 official test images" in line


def test_a_page_without_the_five_says_nothing_of_them(costs: Costs) -> None:
    others = [model for model in costs.models if not model.title.startswith("five-")]
    assert others
    assert int8_of_the_five(costs.model_copy(update={"models": tuple(others)})) == []
