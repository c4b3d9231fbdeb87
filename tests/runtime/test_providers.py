from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cellclf.errors import ProviderUnavailableError, UnknownNameError
from cellclf.runtime.classifier import Classifier
from cellclf.runtime.probe import PROBE_MODEL, probe_providers
from cellclf.runtime.providers import DEVICES, PROVIDERS, cuda_generation, gpu_count, libraries, parse_device, preload_gpu_libraries
from cellclf.runtime.session import open_session

needs_no_gpu = pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU, so asking for it is no error")


@pytest.mark.parametrize(
    ("device", "provider", "index"),
    [
        ("cpu", "CPUExecutionProvider", 0),
        ("cuda", "CUDAExecutionProvider", 0),
        ("cuda:1", "CUDAExecutionProvider", 1),
        ("0", "CUDAExecutionProvider", 0),
        ("12", "CUDAExecutionProvider", 12),
        ("tensorrt", "TensorrtExecutionProvider", 0),
        ("tensorrt:1", "TensorrtExecutionProvider", 1),
    ],
)
def test_a_device_names_a_provider_and_a_gpu(device: str, provider: str, index: int) -> None:
    target = parse_device(device)
    assert target is not None
    assert (target.provider.runs_as, target.index) == (provider, index)


def test_every_row_of_the_table_can_be_asked_for() -> None:
    for name in PROVIDERS:
        target = parse_device(name)
        assert target is not None
        assert target.provider is PROVIDERS[name]
    assert set(PROVIDERS) < set(DEVICES)


def test_auto_leaves_the_choice_open() -> None:
    assert parse_device("auto") is None


@pytest.mark.parametrize(("wrong", "near"), [("CUDA", "cuda"), ("cud", "cuda"), ("cpux", "cpu"), ("tensorrt10", "tensorrt"), ("cuda:first", "cuda")])
def test_an_unknown_device_is_an_error_that_offers_the_near_name(wrong: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"{wrong}.*did you mean.*{near}"):
        parse_device(wrong)


@pytest.mark.parametrize("wrong", ["", "gpu0", "-1", ":1", "auto:1", "²", "N"])
def test_what_is_no_device_is_an_unknown_name(wrong: str) -> None:
    with pytest.raises(UnknownNameError):
        parse_device(wrong)


def test_a_target_is_written_as_a_user_types_it() -> None:
    assert [str(parse_device(device)) for device in ("cpu", "cuda:1", "3")] == ["cpu", "cuda:1", "cuda:3"]


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "0", "1", "tensorrt"])
def test_a_gpu_that_is_not_there_is_an_error_naming_what_to_do_and_never_a_silent_cpu_run(device: str, model_file: Path) -> None:
    with pytest.raises(ProviderUnavailableError, match=r"--device cpu|pip install 'cellclf\[cuda"):
        Classifier(model_file, device=device)


def test_a_gpu_beyond_the_last_is_an_error_on_every_machine() -> None:
    with pytest.raises(ProviderUnavailableError, match="device cuda"):
        open_session(PROBE_MODEL, device="cuda:99", threads=1)


def test_auto_says_what_it_took() -> None:
    notes: list[str] = []
    session = open_session(PROBE_MODEL, device="auto", threads=1, on_note=notes.append)
    assert len(notes) == 1
    assert session.provider in notes[0]
    assert notes[0].startswith("device auto: took")


@needs_no_gpu
def test_auto_takes_the_cpu_where_there_is_no_gpu_and_says_why() -> None:
    notes: list[str] = []
    assert open_session(PROBE_MODEL, device="auto", threads=1, on_note=notes.append).provider == "CPUExecutionProvider"
    assert "no NVIDIA GPU" in notes[0]


def test_a_device_that_was_asked_for_is_taken_without_a_word() -> None:
    notes: list[str] = []
    assert open_session(PROBE_MODEL, device="cpu", threads=1, on_note=notes.append).provider == "CPUExecutionProvider"
    assert notes == []


def test_the_probe_is_what_onnx_builds() -> None:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["probabilities"], to=TensorProto.FLOAT)],
        "probe",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch"])],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    probe = onnx.load_from_string(PROBE_MODEL)
    onnx.checker.check_model(probe, full_check=True)
    assert probe == built


def test_the_probe_runs() -> None:
    values = open_session(PROBE_MODEL, device="cpu", threads=1).run(np.array([0, 7, 255], dtype=np.uint8))
    assert values.dtype == np.float32
    assert values.tolist() == [0.0, 7.0, 255.0]


def test_every_provider_is_probed_and_the_cpu_works() -> None:
    states = {state.name: state for state in probe_providers()}
    assert list(states) == list(PROVIDERS)
    assert states["cpu"].works
    assert states["cpu"].reason == ""
    assert all(state.works or state.reason for state in states.values())


@needs_no_gpu
def test_without_a_gpu_each_gpu_provider_says_that_it_does_not_work_and_why() -> None:
    for state in probe_providers():
        if PROVIDERS[state.name].gpu:
            assert not state.works
            assert state.name in state.reason


def test_the_cuda_libraries_are_those_of_this_onnxruntimes_generation() -> None:
    names = libraries(PROVIDERS["cuda"])
    assert f"libcudart.so.{cuda_generation() or ''}" in names
    assert libraries(PROVIDERS["cpu"]) == {}


def test_preloading_gpu_libraries_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    preload_gpu_libraries()
    assert capfd.readouterr().out == ""
