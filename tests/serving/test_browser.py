"""The page for people in a real browser: what it shows is what the service answers, by mouse and by keyboard, on a desk and on a phone."""

import base64
import csv
import io
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from cellclf.card import AbstainBand, Estimate
from cellclf.data.crops import CROPS, View
from cellclf.data.decoding import decode_seen
from cellclf.data.sample import draw_cell, stain_of_slide
from tests.model_files import resigned
from tests.serving.browser import CHROMIUM, Page, Pipe, chromium
from tests.serving.conftest import CARD, MODEL, SHIPPED, Running, serving, wait_until

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH; on Debian: apt-get install chromium"),
    pytest.mark.skipif(os.name == "nt", reason="a browser's pipe is another one there"),
]

DESK, PHONE = (1200, 900), (390, 844)
ODD_NAMES = ("=1+1.png", "<img src=x onerror=alert(1)>.png", 'say "cell", twice.png')
READY = "document.querySelectorAll('#card dt').length > 0"

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Drawn cells, whose names are no HTML and no formula, and a file that is no image, last."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / name for name in ODD_NAMES]
    for number, (path, label) in enumerate(zip(paths, CARD.labels, strict=False)):
        draw_cell(label, stain=stain_of_slide(number, seed=0), rng=np.random.default_rng(number)).save(path)
    (folder / "broken.png").write_bytes(b"no image at all")
    return [*paths, folder / "broken.png"]


@pytest.fixture(scope="module")
def doubting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped file with a band so wide that it never answers."""
    nothing = Estimate(value=0.0)
    band = AbstainBand(
        positive=None, low=0, high=1.1, max_error=0.0, min_coverage=None, coverage=nothing, error=None, split="validation", images=1, curve=()
    )
    return resigned(SHIPPED, tmp_path_factory.mktemp("doubting") / "doubting.onnx", card={"abstain": band.model_dump()})


@pytest.fixture(scope="module")
def service(doubting: Path) -> Iterator[Running]:
    with serving(SHIPPED, doubting) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipe]:
    with chromium(tmp_path_factory.mktemp("browser")) as pipe:
        yield pipe


@pytest.fixture
def opened(browser: Pipe, service: Running, tmp_path: Path) -> Iterator[Open]:
    """opened(PHONE): the page, ready; in the end nothing went elsewhere and nobody complained."""
    pages: list[Page] = []

    def start(size: tuple[int, int] = DESK) -> Page:
        page = Page(browser, tmp_path, width_px=size[0], height_px=size[1])
        page.open(service.server.address)
        page.wait_for(READY)
        pages.append(page)
        return page

    yield start
    for page in pages:
        addresses = [request["request"]["url"] for request in page.events("Network.requestWillBeSent")]
        assert len(addresses) > 3
        origins = {urlsplit(address.removeprefix("blob:"))[:2] for address in addresses}
        assert origins == {urlsplit(service.server.address)[:2]}
        complaints = page.complaints()
        of_broken_files = [told for told in complaints if told.get("source") == "network" and "422" in told["text"]]
        assert complaints == of_broken_files, "no violation of the page's policy, no error of its script"


def answers(service: Running, images: list[Path], model: str = MODEL) -> list[dict[str, Any]]:
    """What /predict says."""
    parts = [("image", (path.name, path.read_bytes())) for path in images]
    records: list[dict[str, Any]] = service.post(f"/predict?model={model}", files=parts).json()
    return records


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def chosen(page: Page, images: list[Path]) -> None:
    """Choose files in the dialog that the keyboard opens, and wait for their records."""
    before = len(page.texts(".record"))
    page.tab_to("#files")
    page.press("Enter")
    page.choose(images)
    page.wait_for(f"document.querySelectorAll('.record').length === {before + len(images)}")
    page.wait_for(f"document.getElementById('status').textContent === '{len(images)} of {len(images)} images answered.'")


def bars_of(page: Page, number: int) -> list[tuple[str, str]]:
    """Label and text of each bar of a record; the newest record is number 1."""
    selector = f".record:nth-child({number}) .bar"
    return list(zip(page.texts(f"{selector} .name"), page.texts(f"{selector} .value"), strict=True))


def test_the_bars_are_what_predict_answers_and_every_name_is_only_a_name(opened: Open, service: Running, images: list[Path], tmp_path: Path) -> None:
    page = opened()
    chosen(page, images[:3])
    page.screenshot(tmp_path / "desk.png")
    for number, (path, record) in enumerate(zip(images[:3], answers(service, images[:3]), strict=True)):
        place = 3 - number
        expected = sorted(record["probabilities"].items(), key=lambda item: -item[1])
        assert bars_of(page, place) == [(label, percent(value)) for label, value in expected]
        assert page.texts(f".record:nth-child({place}) .called .label") == [record["label"]]
        assert page.texts(f".record:nth-child({place}) figcaption") == [path.name]
        widths = page.value(
            f"[...document.querySelectorAll('.record:nth-child({place}) .bar')].map((bar) => bar.querySelector('.fill').getBoundingClientRect().width"
            " / bar.querySelector('.track').getBoundingClientRect().width)"
        )
        assert all(math.isclose(width, value, abs_tol=0.01) for width, (_, value) in zip(widths, expected, strict=True))
    assert page.texts("#tally") == ["3 images"]
    assert page.value("document.querySelectorAll('img').length") == 0


def test_files_that_are_dropped_are_answered_and_the_history_grows(opened: Open, images: list[Path]) -> None:
    page = opened()
    page.drop(images[:2], "#drop")
    page.wait_for("document.querySelectorAll('.record').length === 2")
    chosen(page, images[2:3])
    assert page.texts("figcaption") == [path.name for path in reversed(images[:3])]
    assert page.texts("#tally") == ["3 images"]


def test_a_file_that_is_no_image_tells_the_servers_reason(opened: Open, service: Running, images: list[Path]) -> None:
    page = opened()
    chosen(page, images[2:])
    reason = answers(service, images[2:])[1]["error"]
    assert page.texts(".record.failed .confidence") == [reason]
    assert page.texts("#tally") == ["2 images, 1 not read"]
    chosen(page, images[3:])
    assert page.texts(".record.failed .confidence") == [reason, reason]


def test_the_keyboard_alone_shows_and_hides_where_the_network_looked(opened: Open, images: list[Path]) -> None:
    page = opened()
    chosen(page, images[:1])
    heat = "document.querySelector('.heat')"
    painted = f"{heat}.getContext('2d').getImageData(0, 0, {heat}.width, {heat}.height).data.some((value) => value > 0)"
    pressed = "[...document.querySelectorAll('.bar')].map((bar) => bar.getAttribute('aria-pressed'))"
    assert page.value(pressed) == ["true", "false", "false", "false"]
    assert page.value(f"!{heat}.hidden && {painted}")

    page.tab_to(".bar")
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"
    page.press("Enter")
    assert page.value(pressed) == ["false"] * 4
    assert page.value(f"{heat}.hidden && document.querySelector('.looked').hidden")
    page.press("Tab")
    page.press("Space")
    assert page.value(pressed) == ["false", "true", "false", "false"]
    assert not page.value(f"{heat}.hidden")
    assert page.texts(".bar[aria-pressed=true] .name")[0] in page.texts(".looked")[0]


def test_the_map_is_strongest_where_the_answer_says(opened: Open, service: Running, images: list[Path]) -> None:
    page = opened()
    chosen(page, images[:1])
    answer = service.post(f"/predict?model={MODEL}&explain=true", content=images[0].read_bytes()).json()[0]
    heat = np.array(answer["heatmaps"][answer["label"]])
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (row, column) != (column, row), "the place tells a map from one that is turned over"
    place = page.value(
        "(() => { const canvas = document.querySelector('.heat'), { width, height } = canvas;"
        " const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);"
        " let best = 0; for (let number = 3; number < data.length; number += 4) if (data[number] > data[best * 4 + 3]) best = (number - 3) / 4;"
        " return [Math.floor(best / width) / height, (best % width) / width]; })()"
    )
    centre = (row + 0.5) / heat.shape[0], (column + 0.5) / heat.shape[1]
    assert place == pytest.approx(centre, abs=1 / min(heat.shape))


def test_the_map_lies_on_the_cell_that_the_network_saw(browser: Pipe, images: list[Path], tmp_path: Path) -> None:
    cells = resigned(SHIPPED, tmp_path / "cells.onnx", card={"resize": CROPS["cell"].resize})
    with serving(cells) as running:
        page = Page(browser, tmp_path, width_px=DESK[0], height_px=DESK[1])
        page.open(running.server.address)
        page.wait_for(READY)
        chosen(page, images[:1])
        page.screenshot(tmp_path / "cell.png")
        clear = page.value(
            "(() => { const canvas = document.querySelector('.heat'), { width, height } = canvas;"
            " const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);"
            " const columns = [], rows = [];"
            " for (let n = 0; n < width * height; n++) {"
            "   const [red, green, blue, opacity] = data.slice(4 * n, 4 * n + 4);"
            "   if (red + green + blue > 0 || opacity < 120) { columns.push((n % width) / width); rows.push(Math.floor(n / width) / height); }"
            " }"
            " return [Math.min(...columns), Math.min(...rows), Math.max(...columns), Math.max(...rows)]; })()"
        )
    assert clear == pytest.approx(decode_seen(images[0].read_bytes(), View(96, 96, "cell"))[1], abs=0.02)


def test_a_pasted_image_is_answered(opened: Open, service: Running, images: list[Path]) -> None:
    page = opened()
    content = base64.b64encode(images[1].read_bytes()).decode()
    page.value(
        f"(async () => {{ const bytes = Uint8Array.from(atob('{content}'), (letter) => letter.charCodeAt(0));"
        " const data = new DataTransfer(); data.items.add(new File([bytes], 'from the clipboard.png', { type: 'image/png' }));"
        " document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true })); })()"
    )
    page.wait_for("document.querySelectorAll('.record').length === 1")
    (record,) = answers(service, images[1:2])
    assert page.texts(".record figcaption") == ["from the clipboard.png"]
    assert page.texts(".called .label") == [record["label"]]


def test_a_service_with_keys_is_used_by_typing_one(browser: Pipe, images: list[Path], tmp_path: Path) -> None:
    key = "a-key-for-the-page-0123"
    with serving(SHIPPED, keys={"reader": key}) as running:
        page = Page(browser, tmp_path, width_px=DESK[0], height_px=DESK[1])
        page.open(running.server.address)
        page.wait_for("document.activeElement?.id === 'key'")
        page.ask("Input.insertText", text=key)
        page.press("Tab")
        page.wait_for(READY)
        chosen(page, images[:1])
        (record,) = running.post("/predict", content=images[0].read_bytes(), headers={"x-api-key": key}).json()
        assert page.texts(".called .label") == [record["label"]]


def test_without_the_tick_no_map_is_asked_for(opened: Open, images: list[Path]) -> None:
    page = opened()
    page.tab_to("#explain")
    page.press("Space")
    chosen(page, images[:1])
    assert page.value("[...document.querySelectorAll('.bar')].every((bar) => bar.disabled)")
    (asked,) = [each["request"]["url"] for each in page.events("Network.requestWillBeSent") if each["request"]["method"] == "POST"]
    assert "explain" not in asked


def test_a_model_that_abstains_says_so(opened: Open, service: Running, images: list[Path], doubting: Path) -> None:
    page = opened()
    page.tab_to("#model")
    page.press("ArrowDown")
    assert page.value("document.getElementById('model').value") == doubting.stem
    chosen(page, images[:1])
    (record,) = answers(service, images[:1], doubting.stem)
    assert record["abstained"]
    assert page.texts(".called .label") == ["no answer"]
    assert page.texts(".called .confidence") == [f"it would say {record['label']}, {percent(record['probability'])}"]
    assert page.texts(".badge:not([hidden])") == ["abstains: a person should look"]
    assert record["model"].startswith(page.texts(".origin")[0].split()[1])


def test_the_csv_holds_the_history_and_no_formula(opened: Open, service: Running, images: list[Path], tmp_path: Path) -> None:
    page = opened()
    chosen(page, images)
    page.tab_to("#csv")
    page.press("Enter")
    path = tmp_path / "cellclf.csv"
    wait_until(lambda: path.exists() and path.read_bytes().endswith(b"\r\n"))
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    assert [row["image"] for row in rows] == [f"'{ODD_NAMES[0]}", *ODD_NAMES[1:], "broken.png"]
    for row, record in zip(rows, answers(service, images), strict=True):
        assert (row["error"], row["label"], row["model"]) == (record.get("error", ""), record.get("label", ""), record["model"])
        for label, value in record.get("probabilities", {}).items():
            assert math.isclose(float(row[f"p_{label}"]), value, abs_tol=1e-5)
    page.tab_to("#clear")
    page.press("Enter")
    assert page.texts(".record") == []
    assert page.value("document.activeElement.id") == "files"


def test_a_phone_needs_no_sideways_scrolling(opened: Open, images: list[Path], tmp_path: Path) -> None:
    page = opened(PHONE)
    chosen(page, images)
    page.screenshot(tmp_path / "phone.png")
    assert page.value("innerWidth") == PHONE[0]
    assert page.value("document.documentElement.scrollWidth") <= PHONE[0]
    beyond = (
        "[...document.querySelectorAll('main *')].filter((part) => part.getBoundingClientRect().right > innerWidth + 1).map((part) => part.outerHTML)"
    )
    assert page.value(beyond) == []


@pytest.mark.parametrize(
    "deed",
    [
        "fetch('https://elsewhere.example/').catch(() => 0)",
        "document.body.setAttribute('style', 'color: red')",
        "document.body.append(Object.assign(document.createElement('script'), { textContent: '1' }))",
        "setTimeout(() => { throw new Error('a bug') }, 0)",
        "console.error('a complaint')",
    ],
    ids=["a request elsewhere", "inline style", "inline script", "an exception", "a line on the console"],
)
def test_these_tests_would_see(browser: Pipe, service: Running, tmp_path: Path, deed: str) -> None:
    page = Page(browser, tmp_path, width_px=DESK[0], height_px=DESK[1])
    page.open(service.server.address)
    page.wait_for(READY)
    assert page.complaints() == []
    page.value(f"{{ {deed}; 0 }}")
    wait_until(lambda: page.complaints() != [])
