"""Who takes part, contests in turn, and the records that come of them."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import changes, paired, report
from benchmarks.conftest import MODEL
from benchmarks.contest import Contest, Entrant, Measured, Window, different_answers, entrants
from benchmarks.cpu_page import page
from benchmarks.cpu_rows import compact, rows_of
from benchmarks.engines import OURS, REFERENCE
from benchmarks.machine import Machine
from benchmarks.processes import InvalidBenchmarkError
from benchmarks.records import ReplayClock, all_samples, measurement, ratios, recorded
from benchmarks.steadiness import Plan, Turns
from benchmarks.subjects import STUDY_BACKBONES, exported_subjects, skeleton, subjects
from benchmarks.test_inference import quick
from cellclf.card import read_model_file
from cellclf.environment import Environment
from cellclf.errors import CellclfError
from cellclf.runtime.providers import PROVIDERS
from cellclf.studies.measurements import EXTRA_INFO_KEY, Measurement

ALL_CPU = [row.name for row in PROVIDERS.values() if not row.gpu]


def subject() -> Any:
    return next(each for each in exported_subjects() if each.name == "blood-cells-mobilenet025")


def window(call_s: float, *, calls: int = 3, cpu_s: float = 0.3) -> Window:
    return Window((call_s,) * calls, call_s * calls, cpu_s, Machine())


def test_ours_takes_part_in_every_precision_on_every_provider_that_computes_it() -> None:
    found = entrants(skeleton("resnet50"), ALL_CPU, wide=True, sessions=1)
    ours = {(each.provider, each.precision, each.file) for each in found if each.engine == OURS}
    assert {("cpu", "fp32", "fp32"), ("cpu", "fp16", "fp16"), ("cpu", "int8", "int8")} <= ours
    assert ("openvino-bf16", "bf16", "fp32") in ours
    assert ("openvino-bf16", "int8", "int8") not in ours
    assert len({str(each) for each in found}) == len(found)


def test_the_reference_is_always_there_and_peers_of_one_session_stay_out_of_several() -> None:
    found = entrants(skeleton("resnet50"), ["cpu"], wide=True, sessions=2)
    assert REFERENCE in {each.engine for each in found}
    assert "keras-predict" not in {each.engine for each in found}


def test_compiled_pytorch_takes_part_in_half_precision_where_there_is_a_gpu_and_nowhere_else() -> None:
    on_a_gpu = [each for each in entrants(skeleton("resnet50"), ["cpu", "cuda"], wide=True, sessions=1) if each.engine == "torch.compile"]
    assert on_a_gpu == [Entrant("torch.compile", "fp16", "cuda", "fp16")]
    assert "torch.compile" not in {each.engine for each in entrants(skeleton("resnet50"), ALL_CPU, wide=True, sessions=1)}


def test_a_quick_run_keeps_half_precision_for_gpus() -> None:
    assert [quick(Entrant(OURS, precision, provider, precision)) for precision, provider in (("fp16", "cpu"), ("fp16", "cuda"), ("int8", "cpu"))] == [
        False,
        True,
        True,
    ]


def test_a_file_that_was_not_exported_has_no_entrant() -> None:
    assert {each.file for each in entrants(subject(), ["cpu"], wide=True, sessions=1)} == {"fp32"}


def test_full_measures_every_backbone_and_quick_one_of_the_studies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.subjects.ROOT", tmp_path)
    assert set(STUDY_BACKBONES) < {each.backbone for each in subjects(full=True)}
    assert [each.backbone for each in subjects(full=False)] == [STUDY_BACKBONES[0]]


def test_answers_that_are_not_the_network_s_are_told() -> None:
    assert different_answers("fp32", 1e-6) is None
    assert different_answers("fp32", None) is None
    for precision in ("fp32", "fp16", "bf16", "int8"):
        assert "not the same network" in (different_answers(precision, 0.5) or "")


def test_ratios_pair_windows_of_one_round() -> None:
    reference = Turns({0: window(0.2), 1: window(0.4), 3: window(0.2, cpu_s=0.6)}, (0, 1, 3), True)
    own = Turns({0: window(0.1), 1: window(0.1), 2: window(0.1), 3: window(0.1)}, (0, 1, 2, 3), True)
    found = ratios(own, reference)
    assert found.wall == pytest.approx((2, 4, 2))
    assert found.processor == pytest.approx((1, 1, 2))


def test_the_replay_clock_passes_the_measured_time_in_each_call() -> None:
    clock = ReplayClock()

    class Benchmark:
        def pedantic(self, target: Any, *, rounds: int, warmup_rounds: int) -> None:
            assert warmup_rounds == 0
            self.timed = []
            for _ in range(rounds):
                start = clock()
                target()
                self.timed.append(clock() - start)

    benchmark = Benchmark()
    clock.replay(benchmark, [0.5, 0.25, 1.0])
    assert benchmark.timed == [0.5, 0.25, 1.0]


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[Entrant, Any]]:
    """Ours, the plain loop and a provider that is not here, with tiny windows."""
    here = [Entrant(OURS, "fp32", "cpu", "fp32"), Entrant(REFERENCE, "fp32", "cpu", "fp32"), Entrant(OURS, "fp32", "cuda", "fp32")]
    with Contest(subject(), here, threads=1, sessions=1, plan=Plan(window_s=0.0, max_rounds=3)) as contest:
        yield contest.measured(1)


@pytest.fixture(scope="module")
def content(outcomes: dict[Entrant, Any]) -> dict[str, Any]:
    """What pytest-benchmark would write of them."""
    environment = Environment.of_this_machine()
    rows = []
    for entrant, outcome in outcomes.items():
        if isinstance(outcome, Measured):
            found = measurement(subject(), entrant, outcome, batch=1, threads=1, sessions=1, environment=environment)
            samples = all_samples(outcome)
            stats = {"data": samples, "median": samples[0], "rounds": len(samples), "mean": 0.0}
            rows.append({"name": str(entrant), "stats": stats, "extra_info": recorded(found, entrant, outcome, outcomes)})
    return {"benchmarks": rows, "environment": environment.model_dump(mode="json"), "datetime": "2026-01-02T03:04:05"}


def test_a_contest_measures_who_is_there_and_calls_the_others_invalid(outcomes: dict[Entrant, Any]) -> None:
    by_name = {str(entrant): outcome for entrant, outcome in outcomes.items()}
    for name in (f"{OURS}-cpu-fp32", f"{REFERENCE}-cpu-fp32"):
        assert isinstance(by_name[name], Measured)
        assert len(by_name[name].turns.by_round) == 3
        assert by_name[name].cold_start_s > by_name[name].load_s > 0
        assert by_name[name].difference < 1e-5
    if not isinstance(by_name[f"{OURS}-cuda-fp32"], Measured):
        assert isinstance(by_name[f"{OURS}-cuda-fp32"], InvalidBenchmarkError)


def test_a_record_keeps_samples_windows_ratios_and_why_a_figure_is_missing(content: dict[str, Any]) -> None:
    row = content["benchmarks"][0]
    found = Measurement.parse(json.dumps(row["extra_info"][EXTRA_INFO_KEY]), where="test")
    assert found.engine == OURS and found.made == "exported" and found.model.endswith(".onnx")
    file = read_model_file(MODEL)
    origin = (found.file_sha256, found.recipe_fingerprint, found.data_fingerprint)
    assert origin == (file.fingerprint, file.card.recipe_fingerprint, file.card.data_fingerprint)
    assert sum(each["calls"] for each in row["extra_info"]["windows"]) == len(row["stats"]["data"])
    assert len(row["extra_info"]["ratios"]) == 3
    assert set(row["extra_info"]["not_measured"]) >= {"gpu_memory_mb"}


def test_the_stored_file_keeps_every_sample_and_gives_the_same_page(content: dict[str, Any]) -> None:
    stored = json.loads(json.dumps(compact(content)))
    assert [len(row["stats"]["data"]) for row in stored["benchmarks"]] == [len(row["stats"]["data"]) for row in content["benchmarks"]]
    text = page(stored)
    assert "blood-cells-mobilenet025.onnx" in text and "**cellclf**" in text
    assert re.search(r"\| \*\*cellclf\*\* \| CPU \| fp32 \| 1 \| 3 \| [\d.]+ \| – \| – \| – \|", text), "three calls have no 90th percentile"
    assert len(rows_of(stored)) == len(content["benchmarks"])


def test_a_run_compared_with_itself_shows_no_change(content: dict[str, Any]) -> None:
    rows, ours = changes(paired(content), paired(content), by="wall")
    assert rows and ours is not None
    assert ours.factor == pytest.approx(1) and not ours.seen
    assert "no change that can be seen" in report(content, content)


def test_a_change_that_is_larger_than_the_noise_is_seen(content: dict[str, Any]) -> None:
    old, new = json.loads(json.dumps(content)), json.loads(json.dumps(content))
    for run, ratio in ((old, [2.0, 2.01, 2.02]), (new, [3.0, 3.01, 3.02])):
        for row in run["benchmarks"]:
            row["extra_info"]["ratios"] = ratio
    rows, ours = changes(paired(old), paired(new), by="wall")
    assert ours is not None and ours.seen and all(row.seen for row in rows)
    assert ours.factor == pytest.approx(1.5, rel=0.01)
    assert ours.visible < 0.05


def test_runs_without_a_common_row_are_not_compared_and_other_machines_are_named(content: dict[str, Any]) -> None:
    elsewhere = {**content, "environment": {**content["environment"], "cpu": "another", "packages": {"onnxruntime": "0.1"}}}
    text = report(content, elsewhere)
    assert f"the runs differ in cpu ({content['environment']['cpu']} → another), " in text
    assert "onnxruntime (" in text and " → 0.1)" in text
    with pytest.raises(ValueError, match="they have no row in common"):
        report(content, {**content, "benchmarks": []})


def test_a_folder_of_models_must_hold_some_and_each_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELLCLF_BENCH_MODELS", str(tmp_path / "models"))
    for _ in range(2):
        with pytest.raises(CellclfError, match=r"CELLCLF_BENCH_MODELS=.*models is no folder with \.onnx files"):
            exported_subjects()
        (tmp_path / "models").mkdir(exist_ok=True)
    shutil.copy(MODEL, tmp_path / "models" / "a.onnx")
    assert [each.says for each in exported_subjects()] == ["a.onnx"]
    shutil.copy(MODEL, tmp_path / "models" / "b.onnx")
    with pytest.raises(CellclfError, match=r"a\.onnx and .*b\.onnx both hold blood-cells-mobilenet025 in fp32"):
        exported_subjects()
