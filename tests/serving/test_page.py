"""The page for people, and the heat maps it shows."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellclf import Classifier
from cellclf.data.crops import CROPS, WHOLE
from cellclf.data.decoding import decode_seen
from cellclf.data.sample import draw_cell, stain_of_slide
from cellclf.serving.explaining import MAX_EXPLAINED
from tests.data.making import encoded
from tests.model_files import resigned
from tests.serving.conftest import CARD, SHIPPED, Running, picture, serving


def test_the_page_loads_only_what_this_server_sends(running: Running) -> None:
    page = running.client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    parts = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert {"page/page.js", "page/page.css", "page/icon.svg"} <= set(parts)
    for part in parts:
        assert not part.startswith(("http:", "https:", "//"))
        assert running.client.get(f"/{part}").status_code == 200


def test_no_text_of_the_page_has_inline_code() -> None:
    text = (files("cellclf.serving") / "page" / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text)


def test_a_part_that_is_none_is_refused(running: Running) -> None:
    answer = running.client.get("/page/..%2Fapp.py")
    assert answer.status_code == 404


def test_the_page_is_open_and_its_questions_are_not() -> None:
    with serving(keys={"one": "secret-key-of-one"}) as running:
        assert running.client.get("/").status_code == 200
        assert running.client.get("/page/page.js").status_code == 200
        assert running.client.get("/models").status_code == 401


def test_explain_tells_where_the_network_looked(running: Running) -> None:
    files_ = [("image", ("a.png", picture(1))), ("image", ("text.png", b"no picture")), ("image", ("b.png", picture(2)))]
    first, broken, third = running.post("/predict?explain=true", files=files_).json()

    assert CARD.heatmap is not None
    for record in (first, third):
        assert set(record["heatmaps"]) == set(CARD.labels)
        for rows in record["heatmaps"].values():
            assert (len(rows), len(rows[0])) == CARD.heatmap
            assert min(min(row) for row in rows) >= 0
    assert first["heatmaps"] != third["heatmaps"]
    assert "error" in broken
    assert "heatmaps" not in broken


def test_explain_tells_which_part_the_maps_are_of(running: Running, tmp_path: Path) -> None:
    content = encoded(draw_cell("NEUTROPHIL", stain=stain_of_slide(0, seed=0), rng=np.random.default_rng(0)), "PNG")
    cells = resigned(SHIPPED, tmp_path / "cells.onnx", card={"resize": CROPS["cell"].resize})
    with serving(cells) as cutting:
        (record,) = cutting.post("/predict?explain=true", content=content).json()
        (refused,) = cutting.post("/predict?explain=true", content=encoded(Image.new("L", (64, 64), 90), "PNG")).json()
    classifier = Classifier(cells)
    assert record["seen"] == list(decode_seen(content, classifier.view)[1]) != list(WHOLE)
    assert record["probabilities"] == pytest.approx(classifier.predict(content).probabilities, abs=1e-6)
    assert "no stained nucleus" in refused["error"]
    assert running.post("/predict?explain=true", content=content).json()[0]["seen"] == list(WHOLE)


def test_without_explain_there_are_no_maps(running: Running) -> None:
    (record,) = running.post("/predict", files=[("image", ("a.png", picture(1)))]).json()
    assert "heatmaps" not in record


@pytest.mark.parametrize("value", ["1", "yes"])
def test_explain_is_true_or_false(running: Running, value: str) -> None:
    answer = running.post(f"/predict?explain={value}", files=[("image", ("a.png", picture(1)))])
    assert answer.status_code == 422
    assert "true or false" in answer.json()["error"]


def test_a_misspelt_parameter_is_named(running: Running) -> None:
    answer = running.post("/predict?topk=3", files=[("image", ("a.png", picture(1)))])
    assert answer.status_code == 422
    assert "'topk'" in answer.json()["error"]


def test_too_many_images_to_explain_are_refused(running: Running) -> None:
    many = [("image", (f"{number}.png", picture(1))) for number in range(MAX_EXPLAINED + 1)]
    answer = running.post("/predict?explain=true", files=many)
    assert answer.status_code == 422
    assert str(MAX_EXPLAINED) in answer.json()["error"]
