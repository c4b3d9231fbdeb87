import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cellclf.errors import MissingExtraError, StudyError
from cellclf.report.collect import Collected, collect_study
from cellclf.report.costing import Costs
from cellclf.report.drawing import INK, draw, new_figure
from cellclf.report.figures import Report
from cellclf.report.mistakes import thumbnails
from cellclf.report.page import require_libraries, write_report
from cellclf.studies.measurements import Measurement
from cellclf.studies.study import Published, Question, Study, Variation
from tests.report.making import Data, make_study

VOID = {"meta", "img", "br", "link", "input"}
NASTY = "<b>One|`two`_*"
STUDY = Study(
    name="small",
    title="A study & its <page>",
    data="sample",
    factors=("hidden",),
    common={"epochs": 3, "weights": "none"},
    variations=(
        Variation(
            name="one",
            title=NASTY,
            backbone="mobilenet025",
            choices={"hidden": (8,)},
            published=Published(train_loss=0.3532, train_accuracy=0.8056, test_loss=0.0428, test_accuracy=0.992, learning_time="0:20:39.37"),
        ),
        Variation(name="two", title="Two", backbone="mobilenet025", choices={"hidden": (8, 8)}),
    ),
    questions=(Question(text="Does depth matter?", factor="hidden", variations=("one", "two")),),
)
MEASUREMENT = Measurement(
    backbone="mobilenet025", image_size_px=224, labels=2, precision="fp32", provider="CPUExecutionProvider", batch=1, threads=2, calls=100,
    latency_ms={"50": 3.21, "90": 4, "95": 4.56, "99": 7}, images_per_second=311.5, file_size_mb=0.34, model="m.onnx", hardware="test CPU, 2 cores",
)  # fmt: skip


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    folder = tmp_path_factory.mktemp("runs") / "study-small"
    made = make_study(folder, STUDY, skills={"one": 1.0, "two": 0.3}, seeds=(0, 1), data=Data(pictures=True, groups=16))
    return collect_study(made)


@pytest.fixture(scope="module")
def written(collected: Collected, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report, with pictures and measurements."""
    folder = tmp_path_factory.mktemp("report")
    shown = thumbnails([mistake for section in collected.report.sections for mistake in section.mistakes], collected.images)
    assert shown
    assert write_report(collected.report, folder, measurements=[MEASUREMENT], thumbnails=shown) == folder / "index.html"
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return (written / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def markdown(written: Path) -> str:
    return (written / "report.md").read_text(encoding="utf-8")


def cells_of(row: str) -> list[str]:
    """The cells of a Markdown table's row."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)][1:-1]


def lean(report: Report) -> Report:
    """One section of one model: drawn quickly."""
    section = report.sections[0]
    ranked = section.sets[0].model_copy(update={"models": (1,), "ranks": (), "against_first": ()})
    one = section.model_copy(update={"models": section.models[:1], "sets": (ranked,), "answers": ()})
    return report.model_copy(update={"sections": (one,), "side_by_side": ()})


class Reader(HTMLParser):
    """Checks that tags are closed in order; gathers headings, text, addresses and identifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.identifiers: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value:
                self.addresses.append(value)
            if name == "id" and value:
                self.identifiers.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data.strip())
        if "style" not in self.open:
            self.words.append(data)


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_the_page_is_whole_html_that_needs_nothing_from_elsewhere(page: str, read: Reader) -> None:
    assert page.startswith("<!doctype html>")
    assert all(address.startswith(("#", "data:image/jpeg")) for address in read.addresses)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert "<script" not in page
    assert 'name="viewport" content="width=device-width' in page


def test_no_two_elements_of_the_page_share_an_identifier_that_something_refers_to(read: Reader) -> None:
    wanted = {address[1:] for address in read.addresses if address.startswith("#")}
    definitions = [identifier for identifier in read.identifiers if identifier in wanted]
    assert set(definitions) == wanted
    assert len(set(definitions)) == len(definitions)


def test_the_page_has_a_section_for_each_thing_that_is_asked_of_it(read: Reader) -> None:
    assert read.headings[0] == STUDY.title
    for heading in (
        "In short",
        "Random beside official",
        "Questions",
        "Operating point",
        "Published beside ours",
        "Cost",
        "How this was made",
    ):
        assert heading in read.headings
    text = " ".join(read.words)
    for plot in (
        "Learning time and accuracy",
        "Loss and accuracy by epoch",
        "Confusion on the test set",
        "Reliability on the test set",
        "ROC on the test set",
        "Answers left to a person: coverage and error",
        "Accuracy and cost",
    ):
        assert plot in text


def test_the_scale_stands_on_the_page_and_in_markdown(page: str, markdown: str) -> None:
    assert "Reduced scale: at most 3 epochs." in page
    assert "**Reduced scale: at most 3 epochs.**" in markdown


def test_the_studies_table_has_their_columns_with_intervals(markdown: str, collected: Collected) -> None:
    lines = markdown.splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("| Model | Hidden layers"))
    assert lines[header].startswith("| Model | Hidden layers | Dense units | Learning rate | Accuracy, % | Learning time |")
    mean = collected.report.sections[0].models[1].test.accuracy.mean
    assert mean.low is not None and mean.high is not None
    cells = cells_of(lines[header + 3])
    assert cells[1:4] == ["2", "8-8", "0.002"]
    assert cells[4].startswith(f"{100 * mean.value:.1f} \\[{100 * mean.low:.1f}, {100 * mean.high:.1f}\\] ± ")


def test_every_figure_of_a_leaking_split_is_marked(markdown: str, page: str) -> None:
    leaking = markdown.partition("## Made-up, random split (validation and test LEAK)")[2]
    rows = [line for line in leaking.splitlines() if line.startswith("| 1 ")]
    studies, details = cells_of(rows[0]), cells_of(rows[1])
    assert "**LEAKS**" in studies[4] and "**LEAKS**" in studies[6]
    assert all("**LEAKS**" in details[place] for place in (1, 3, 4, 5)), "the difference of the areas between them is no figure of one split"
    official = markdown.partition("## Made-up, official split")[2].partition("## Made-up, random split")[0]
    assert "LEAKS" not in official
    assert page.count('<b class="leak">LEAKS</b>') >= 12


def test_published_figures_stand_beside_ours(markdown: str, collected: Collected) -> None:
    published, ours = [
        cells_of(line) for line in markdown.partition("## Published beside ours")[2].splitlines() if line.startswith("| ") and "One" in line
    ][:2]
    assert published[2:9] == ["0.353", "80.6", "–", "–", "0.043", "99.2", "0:20:39.37"]
    model = next(section for section in collected.report.sections if section.protocol == "random").models[0]
    assert ours[7].startswith(f"{100 * model.test.accuracy.mean.value:.1f} ")
    assert "**LEAKS**" in ours[7]


def test_the_operating_point_stands_beside_the_usual_threshold_with_intervals(markdown: str, collected: Collected) -> None:
    part = markdown.partition("### Operating point")[2]
    usual, chosen = [cells_of(line) for line in part.splitlines() if line.startswith("| 1  ")][:2]
    refused = next(cells_of(line) for line in part.splitlines() if line.startswith("| 2  ") and "none" in line)
    point = collected.report.sections[0].models[0].operating
    assert point is not None and point.chosen is not None and point.chosen.sensitivity is not None
    assert "for each run the highest threshold on the probability of SQUARE that finds 95 % of them on validation" in part
    assert usual[1] == "usual (most probable)"
    assert chosen[1].startswith("chosen (at ")
    assert usual[4].startswith(f"{100 * point.usual.accuracy.value:.1f} ")
    assert chosen[2].startswith(f"{100 * point.chosen.sensitivity.value:.1f} \\[")
    assert refused[1].startswith("none (official-two-s1: a sensitivity of 0.95 is reached only by calling every image positive")
    assert refused[2:] == ["–"] * 6


def test_without_a_positive_label_one_line_says_why_there_is_no_threshold(collected: Collected, tmp_path: Path) -> None:
    plain = lean(collected.report)
    section = plain.sections[0]
    model = section.models[0].model_copy(update={"operating": None})
    asked = section.model_copy(update={"models": (model,), "no_threshold": "no threshold is chosen: of 4 labels none is the positive one"})
    write_report(plain.model_copy(update={"sections": (asked,)}), tmp_path, html=False)
    part = (tmp_path / "report.md").read_text().partition("### Operating point")[2].partition("![")[0]
    assert part.strip() == "No threshold is chosen: of 4 labels none is the positive one."


def test_text_of_others_is_shown_as_it_is_and_never_becomes_markup(page: str, markdown: str, read: Reader) -> None:
    assert any(NASTY in words for words in read.words)
    assert "A study &amp; its &lt;page&gt;" in page
    assert r"\<b\>One\|\`two\`\_\*" in markdown
    assert len({len(cells_of(line)) for line in markdown.partition("| Model | Hidden layers")[2].splitlines()[1:4]}) == 1


def test_pictures_of_the_data_are_in_the_page_alone(written: Path, page: str, markdown: str) -> None:
    assert "data:image/jpeg;base64," in page
    assert "data:image" not in markdown
    assert "data:image" not in (written / "report.json").read_text()
    assert not list(written.rglob("*.jp*g"))


def test_every_plot_of_the_markdown_is_a_file_and_none_is_left_over(written: Path, markdown: str) -> None:
    named = re.findall(r"\]\((plots/[^)]+)\)", markdown)
    assert sorted(named) == sorted(f"plots/{path.name}" for path in (written / "plots").iterdir())
    assert len(named) == 17
    for name in named:
        with Image.open(written / name) as image:
            assert image.format == "PNG"
            assert image.width <= 640, "readable at a phone's width"


def test_the_folder_is_small(written: Path) -> None:
    assert (written / "index.html").stat().st_size < 1_500_000
    assert sum(path.stat().st_size for path in written.rglob("*") if path.is_file() and path.suffix != ".html") < 700_000


def test_what_a_model_costs_stands_beside_its_accuracy_with_what_is_assumed(markdown: str, written: Path) -> None:
    """311.5 images/s at half use of a machine of 2 × 0.05 USD an hour: 10⁶ / 155.75 / 3600 × 0.1 = 0.1783 USD; a training of 70.5 s 0.00196 USD."""
    cost = markdown.partition("## Cost")[2].partition("\n## ")[0]
    row = cells_of(next(line for line in cost.splitlines() if line.startswith("| 2  Two (MobileNet 0.25, 224 px; made-up, official split)")))
    assert row[1].endswith("; the run's")
    assert row[2:] == ["0.178", "fp32 on CPU, 2 threads (batch 1)", "0.00196 (0:01:10 a run)", "0.179 (training 0.000196)"]
    assert "2 cores: 0.1 an hour; one CPU core: 0.05 USD an hour (2026-11, a round assumption" in cost
    assert "Utilisation 50 %" in cost
    assert "| fp32 | CPU | 1 | 2 | 3.21 / 4.56 | 312 | 0.34 | test CPU, 2 cores |" in cost
    assert "not yet measured on a GPU" in cost
    assert cost.count("not measured") >= 5
    assert Costs.read(written / "cost.json").models[1].training == pytest.approx(70.5 / 3600 * 0.1)


def test_what_was_not_measured_is_said_to_be_so(collected: Collected, tmp_path: Path) -> None:
    write_report(lean(collected.report), tmp_path, html=False)
    cost = (tmp_path / "report.md").read_text().partition("## Cost")[2].partition("\n## ")[0]
    assert "What the networks cost to run was not measured; measure it with" in cost
    row = cells_of(next(line for line in cost.splitlines() if line.startswith("| 1  ")))
    assert row[2:4] == ["–", "not measured"]
    assert row[5].startswith("– (training ")
    assert not (tmp_path / "index.html").exists()


def test_report_json_is_the_report_and_the_page_is_made_of_it_alone(collected: Collected, written: Path, tmp_path: Path) -> None:
    stored = Report.read(written / "report.json")
    assert stored == collected.report
    write_report(stored, tmp_path, measurements=[MEASUREMENT])
    assert (tmp_path / "report.md").read_text() == (written / "report.md").read_text()


def test_an_earlier_reports_plots_are_replaced_and_other_files_left_alone(collected: Collected, tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "stale.png").touch()
    (tmp_path / "other.txt").touch()
    write_report(lean(collected.report), tmp_path, html=False)
    assert (tmp_path / "plots" / "stale.png").exists(), "no report of ours was here"
    write_report(lean(collected.report), tmp_path, html=False)
    assert not (tmp_path / "plots" / "stale.png").exists()
    assert (tmp_path / "other.txt").exists()


def test_a_file_in_the_place_of_the_folder_is_one_error(collected: Collected, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(StudyError, match="out is a file; name a folder"):
        write_report(collected.report, tmp_path / "out")


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require_libraries()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "jinja2" else object())
    with pytest.raises(MissingExtraError, match=r"writing a report needs .* pip install 'cellclf\[train\]'"):
        require_libraries()


def test_a_drawing_follows_the_pages_colour_and_rounds_coordinates_but_no_text() -> None:
    def build() -> Any:
        figure = new_figure(2)
        axes = figure.subplots()
        axes.plot([0, 1 / 3], [0, 2 / 7])
        axes.text(0.1, 0.1, "p < 0.001")
        return figure

    drawing = draw("name", build, title='a "title" <here>')
    assert "p &lt; 0.001" in drawing.svg
    assert "currentColor" in drawing.svg
    assert INK not in drawing.svg
    assert drawing.svg.startswith('<svg role="img" aria-label="a &quot;title&quot; &lt;here>"')
    assert not re.findall(r' d="[^"]*\d\.\d{3}', drawing.svg)
    assert drawing == draw("name", build, title='a "title" <here>'), "the same each time"
    with Image.open(io.BytesIO(drawing.png)) as image:
        assert image.mode == "P"


def test_a_model_that_diverged_and_many_models_are_drawn(collected: Collected, tmp_path: Path) -> None:
    section = lean(collected.report).sections[0]
    curve = section.models[0].curves[0]
    broken = curve.model_copy(update={"train_loss": (1.0, float("nan"), float("nan")), "validation_loss": (float("nan"),) * 3})
    models = tuple(
        section.models[0].model_copy(update={"number": number, "title": f"Model {number}", "curves": (broken,)}) for number in range(1, 11)
    )
    ranked = section.sets[0].model_copy(update={"models": tuple(range(1, 11)), "ranks": (), "against_first": ()})
    many = section.model_copy(update={"models": models, "sets": (ranked,), "answers": ()})
    write_report(collected.report.model_copy(update={"sections": (many,), "side_by_side": ()}), tmp_path)
    assert {path.name for path in (tmp_path / "plots").glob("*-curves-*.png")} == {"official-curves-1.png", "official-curves-2.png"}
    assert "Model 10" in (tmp_path / "index.html").read_text()
