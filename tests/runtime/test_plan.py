import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellclf.artifact.golden import golden_image
from cellclf.card import read_model_file
from cellclf.errors import CellclfError
from cellclf.runtime.classifier import Classifier
from cellclf.runtime.plan import Machine, Plan, load_plan, plan_path
from cellclf.runtime.providers import PROVIDERS, Target
from cellclf.runtime.session import Session, open_session

SHIPPED = Path(__file__).resolve().parents[2] / "exported" / "blood-cells-mobilenet025.onnx"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fingerprint() -> str:
    return read_model_file(SHIPPED).fingerprint


def plan_for(fingerprint: str, **changes: object) -> Plan:
    fields: dict[str, object] = {
        "model": fingerprint, "machine": Machine.this(), "measured": "2026-11-22", "device": "cpu", "options": {}, "single_threads": 1,
        "sessions": 1, "threads": 2, "batch": 5, "images_per_second": 100.0, "single_ms": 12.0, "gain": 1.3, "single_gain": 1.1, "noise": 0.05,
    }  # fmt: skip
    return Plan.model_validate(fields | changes)


def test_a_plan_is_said_in_one_line(fingerprint: str) -> None:
    assert str(plan_for(fingerprint)) == "plan: cpu, 1 session × 2 threads, batch 5, measured 2026-11-22"
    assert str(plan_for(fingerprint, device="openvino", sessions=2, threads=1)).startswith("plan: openvino, 2 sessions × 1 thread,")


def test_without_a_plan_nothing_is_said(fingerprint: str) -> None:
    assert load_plan(fingerprint) == (None, None)
    assert Classifier(SHIPPED).plan is None


def test_a_kept_plan_is_used_and_said_and_gives_the_same_numbers(fingerprint: str) -> None:
    plan = plan_for(fingerprint)
    plan.write(plan_path(fingerprint))
    notes: list[str] = []
    classifier = Classifier(SHIPPED, on_note=notes.append)
    assert classifier.plan == plan
    assert notes == [str(plan)]
    assert classifier.provider == "CPUExecutionProvider"
    card = classifier.card
    images = np.stack([golden_image(case.seed, height_px=card.height_px, width_px=card.width_px) for case in card.golden])
    np.testing.assert_allclose(classifier.probabilities(images), [case.probabilities for case in card.golden], atol=card.golden_tolerance)


@pytest.mark.parametrize("wish", [{"device": "cpu"}, {"threads": 1}, {"sessions": 2}], ids=str)
def test_what_is_asked_for_goes_before_the_plan(fingerprint: str, wish: dict[str, object]) -> None:
    plan_for(fingerprint).write(plan_path(fingerprint))
    notes: list[str] = []
    assert Classifier(SHIPPED, on_note=notes.append, **wish).plan is None  # type: ignore[arg-type]
    assert not any("plan" in note for note in notes)


def recorded_openings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """With what sessions are opened from now on; the provider cpu has options {"some": "option"} to try, which nobody is given."""
    found: list[dict[str, object]] = []

    def recorded(content: bytes, **wanted: Any) -> Session:
        found.append(wanted)
        return open_session(content, **(wanted | {"options": None}))

    monkeypatch.setattr("cellclf.runtime.classifier.open_session", recorded)
    row = dataclasses.replace(PROVIDERS["cpu"], variants=({"some": "option"},))
    monkeypatch.setattr("cellclf.runtime.plan.parse_device", lambda _: Target(row))
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    return recorded_openings(monkeypatch)


def test_a_plan_shares_out_threads_batches_and_the_provider(fingerprint: str, opened: list[dict[str, object]]) -> None:
    plan_for(fingerprint, options={"some": "option"}).write(plan_path(fingerprint))
    classifier = Classifier(SHIPPED)
    assert len(list(classifier.predict_many(["missing.png"] * 11))) == 11
    classifier.probabilities(np.zeros((1, classifier.card.height_px, classifier.card.width_px, 3), np.uint8))
    assert [(each["device"], each["threads"], each["sessions"], each["options"]) for each in opened] == [("cpu", 1, 1, {"some": "option"})]


@pytest.mark.parametrize("change", [{"cores": 999}, {"cpu": "another"}, {"versions": {"onnxruntime": "0.1"}}, {"gpus": 9}], ids=str)
def test_a_plan_of_another_machine_or_other_versions_is_not_used_and_that_is_said(fingerprint: str, change: dict[str, object]) -> None:
    plan_for(fingerprint, machine=Machine.this().model_copy(update=change)).write(plan_path(fingerprint))
    notes: list[str] = []
    assert Classifier(SHIPPED, on_note=notes.append).plan is None
    assert notes[0].startswith("plan: not used, what was measured 2026-11-22 was another machine or other versions; measure again with cellclf tune")


def test_a_plan_of_another_file_is_not_used(fingerprint: str) -> None:
    plan_for("0" * 64).write(plan_path(fingerprint))
    assert load_plan(fingerprint)[0] is None


def test_a_damaged_plan_is_not_used_and_that_is_said(fingerprint: str) -> None:
    path = plan_path(fingerprint)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    plan, line = load_plan(fingerprint)
    assert plan is None
    assert line is not None and "plan: not used" in line and str(path) in line


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 0}, {"sessions": 0}, {"single_threads": -3}, {"threads": 10_000}, {"single_threads": 10_000}, {"batch": -5}, {"batch": 10**8},
        {"device": "cuda"}, {"device": "foo"}, {"device": "auto"}, {"options": {"foo": "1"}}, {"images_per_second": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_a_plan_that_cannot_have_been_measured_here_is_not_used_and_that_is_said(fingerprint: str, change: dict[str, object]) -> None:
    path = plan_path(fingerprint)
    plan_for(fingerprint, machine=Machine.this().model_copy(update={"gpus": 0})).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    notes: list[str] = []
    classifier = Classifier(SHIPPED, on_note=notes.append)
    assert classifier.plan is None
    assert "plan: not used" in notes[0] and str(path) in notes[0]
    assert len(list(classifier.predict_many(["missing.png"]))) == 1


def test_a_plan_that_is_given_decides_the_provider_and_options_but_not_the_threads(fingerprint: str, opened: list[dict[str, object]]) -> None:
    plan = plan_for(fingerprint, options={"some": "option"}, single_threads=2)
    for device in ("auto", "cpu"):
        classifier = Classifier(SHIPPED, device=device, threads=1, sessions=3, plan=plan)
        assert classifier.plan == plan
    assert [(each["device"], each["threads"], each["sessions"], each["options"]) for each in opened] == [("cpu", 1, 3, {"some": "option"})] * 2


def test_a_plan_that_is_given_alone_decides_the_threads_too(fingerprint: str) -> None:
    classifier = Classifier(SHIPPED, plan=plan_for(fingerprint))
    assert (classifier._single, classifier._many, classifier.batch_size) == ((1, 1), (2, 1), 5)


@pytest.mark.parametrize(("measured_with", "batch"), [(1, 5), (2, PROVIDERS["cpu"].batch)], ids=["as many", "more"])
def test_a_plans_batch_is_taken_where_it_was_measured_with_as_many_threads_a_call(fingerprint: str, measured_with: int, batch: int) -> None:
    assert Classifier(SHIPPED, threads=1, plan=plan_for(fingerprint, threads=measured_with)).batch_size == batch


def test_a_plan_of_another_file_or_device_cannot_be_given(fingerprint: str) -> None:
    with pytest.raises(CellclfError, match="0000… is none for device auto"):
        Classifier(SHIPPED, plan=plan_for("0" * 64))
    with pytest.raises(CellclfError, match=r"plan for openvino .* is none for device cpu"):
        Classifier(SHIPPED, device="cpu", plan=plan_for(fingerprint, device="openvino"))


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), RuntimeError("Could not determine home directory.")], ids=str)
def test_a_cache_folder_that_cannot_be_looked_into_is_said_and_ends_nothing(
    fingerprint: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed() -> Path:
        raise error

    monkeypatch.setattr("cellclf.runtime.plan.cache_folder", closed)
    assert load_plan(fingerprint) == (None, f"plan: not used, {error}")
