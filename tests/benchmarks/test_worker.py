"""An engine in its own process: requests, answers, and what becomes of one that fails."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engines import OURS, REFERENCE, UnavailableError
from benchmarks.processes import InvalidBenchmarkError, Process, cores_for, require_provider
from benchmarks.worker import serve
from cellclf.card import read_model_file

MODEL = Path(__file__).resolve().parents[2] / "exported" / "blood-cells-mobilenet025.onnx"
SIZE = read_model_file(MODEL).card.height_px


def opened(process: Process, engine: str, **changed: object) -> dict[str, object]:
    asked = {"file": str(MODEL), "precision": "fp32", "provider": "cpu", "threads": 1, "sessions": 1}
    return process.ask("open", engine=engine, **{**asked, **changed})


@pytest.fixture(scope="module")
def ours() -> Iterator[Process]:
    with Process(cores=cores_for(1)) as process:
        assert opened(process, OURS)["provider"] == "CPUExecutionProvider"
        process.ask("prepare", batch=2, image_size_px=SIZE)
        yield process


def test_a_window_has_a_duration_for_every_call(ours: Process) -> None:
    window = ours.ask("window", seconds=0.01)
    assert len(window["samples_s"]) >= 1
    assert sum(window["samples_s"]) <= window["wall_s"]
    assert window["cpu_s"] > 0


def test_a_process_that_is_held_still_answers(ours: Process) -> None:
    ours.hold()
    assert ours.ask("memory")["peak_ram_mb"] > 1
    assert len(ours.ask("window", seconds=0.0)["samples_s"]) == 1


def test_the_peer_gives_the_same_answers_in_a_process_of_its_own(ours: Process) -> None:
    with Process(cores=cores_for(1)) as peer:
        opened(peer, REFERENCE)
        peer.ask("prepare", batch=2, image_size_px=SIZE)
        assert np.allclose(peer.ask("warm_up")["probabilities"], ours.ask("warm_up")["probabilities"], atol=1e-5)
        assert peer.id != ours.id


def test_sessions_side_by_side_each_make_calls() -> None:
    with Process(cores=cores_for(1)) as process:
        opened(process, REFERENCE, threads=2, sessions=2)
        process.ask("prepare", batch=1, image_size_px=SIZE)
        assert len(process.ask("window", seconds=0.0)["samples_s"]) == 2


def test_a_whole_file_of_images_is_answered_with_the_last_batch_filled_up(ours: Process, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(3, SIZE, SIZE, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    ours.ask("predict", images=str(tmp_path / "images.npy"), into=str(tmp_path / "answers.npy"))
    answers = np.load(tmp_path / "answers.npy")
    assert answers.shape == (3, 4)
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_a_worker_that_dies_gives_its_last_words() -> None:
    with Process(cores=cores_for(1)) as process, pytest.raises(InvalidBenchmarkError, match=r"no-such-file\.onnx"):
        opened(process, OURS, file="no-such-file.onnx")


def test_a_gpu_that_is_not_there_is_an_invalid_benchmark_and_no_slow_one() -> None:
    with Process(cores=cores_for(1)) as process, pytest.raises(InvalidBenchmarkError, match="device cuda"):
        opened(process, OURS, provider="cuda:99")


def test_a_provider_that_fell_back_is_invalid() -> None:
    require_provider("CUDAExecutionProvider", "CUDAExecutionProvider")
    with pytest.raises(InvalidBenchmarkError, match="asked for CUDAExecutionProvider, but CPUExecutionProvider ran"):
        require_provider("CUDAExecutionProvider", "CPUExecutionProvider")


def test_an_engine_that_is_not_installed_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    answers: list[dict[str, object]] = []
    request = {"do": "open", "engine": "openvino", "file": "", "precision": "fp32", "provider": "cpu", "threads": 1, "sessions": 1}
    serve(iter([json.dumps(request)]), answers.append)
    assert "openvino is not installed" in str(answers[0]["unavailable"])


def test_the_parent_tells_an_unavailable_engine_from_an_invalid_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with Process(cores=cores_for(1)) as process:
        monkeypatch.setattr(process._process.stdout, "readline", lambda: '{"unavailable": "none here"}\n', raising=False)
        with pytest.raises(UnavailableError, match="none here"):
            process.ask("memory")
