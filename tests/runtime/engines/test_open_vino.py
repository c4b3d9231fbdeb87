import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

from cellclf.artifact.verify import verify
from cellclf.card import read_model_file
from cellclf.data.decoding import Pixels
from cellclf.errors import InferenceError, MissingExtraError, ModelFileError, ProviderUnavailableError, VerificationError
from cellclf.runtime.classifier import Classifier
from cellclf.runtime.engines.open_vino import load_openvino
from cellclf.runtime.probe import PROBE_MODEL, probe_providers
from cellclf.runtime.providers import PROVIDERS
from cellclf.runtime.session import open_session
from tests.model_files import resigned, scaled_head
from tests.runtime.engines.conftest import SHIPPED

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra openvino is not installed")


def has_bfloat16() -> bool:
    if importlib.util.find_spec("openvino") is None:
        return False
    return "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@needs_openvino
def test_fp32_is_computed_in_fp32_although_the_cpu_may_be_faster_in_bfloat16(
    content: bytes, images: Pixels, expected: npt.NDArray[np.float32]
) -> None:
    session = open_session(content, device="openvino", threads=1)
    assert session.provider == "OpenVINO:CPU f32"
    np.testing.assert_allclose(session.run(images), expected, atol=1e-5)


@needs_openvino
@pytest.mark.parametrize("count", [1, 3, 7, 32, 33, 37])
def test_batches_of_any_size_give_a_row_an_image(content: bytes, images: Pixels, expected: npt.NDArray[np.float32], count: int) -> None:
    found = open_session(content, device="openvino", threads=1).run(images[:count])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[:count], atol=1e-5)


@needs_openvino
def test_an_answer_is_not_overwritten_by_the_next(content: bytes, images: Pixels, expected: npt.NDArray[np.float32]) -> None:
    session = open_session(content, device="openvino", threads=1)
    first = session.run(images[:4])
    session.run(images[4:8])
    np.testing.assert_allclose(first, expected[:4], atol=1e-5)


@needs_openvino
def test_several_callers_at_a_time_get_each_their_own_answers(content: bytes, images: Pixels, expected: npt.NDArray[np.float32]) -> None:
    session = open_session(content, device="openvino", threads=1, sessions=2)
    starts = [start for _ in range(6) for start in range(0, 32, 4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: session.run(images[start : start + 4]), starts))
    for start, values in zip(starts, found, strict=True):
        np.testing.assert_allclose(values, expected[start : start + 4], atol=1e-5)


@needs_openvino
def test_no_more_networks_are_compiled_than_sessions_were_asked_for(content: bytes, images: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    session: Any = open_session(content, device="openvino", threads=1, sessions=2)
    compiled: list[int] = []
    make = session._compiled

    def counted(size: int) -> Any:
        compiled.append(size)
        return make(size)

    monkeypatch.setattr(session, "_compiled", counted)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: session.run(images[:4]), range(60)))
    assert 1 <= len(compiled) <= 2 and set(compiled) == {4}
    session.run(images[:1])
    assert len(compiled) <= 2, "the first one is compiled on opening"


@needs_openvino
@pytest.mark.parametrize(("threads", "sessions"), [(1, 1), (2, 1), (1, 2)])
def test_each_caller_s_network_has_the_threads_that_were_asked_for(content: bytes, threads: int, sessions: int) -> None:
    session: Any = open_session(content, device="openvino", threads=threads, sessions=sessions)
    compiled = session._compiled(1)
    asked = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    assert {name: compiled.get_property(name) for name in asked} == asked


@needs_openvino
def test_who_waits_for_one_size_is_woken_although_others_wait_for_another(content: bytes, images: Pixels) -> None:
    session = open_session(content, device="openvino", threads=1)
    sizes = [1, 2, 4, 8] * 60
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(session.run, images[:size]) for size in sizes]
        assert [len(call.result(timeout=60)) for call in calls] == sizes


@needs_openvino
def test_a_network_that_could_not_be_compiled_keeps_no_caller_waiting(content: bytes, images: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    session: Any = open_session(content, device="openvino", threads=1)
    make, begun, go_on, tried = session._compiled, Event(), Event(), []

    def fail_once(size: int) -> Any:
        tried.append(size)
        if len(tried) == 1:
            begun.set()
            go_on.wait(60)
            raise ModelFileError("no")
        return make(size)

    monkeypatch.setattr(session, "_compiled", fail_once)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(session.run, images[:4])
        assert begun.wait(60)
        second = pool.submit(session.run, images[:4])
        time.sleep(0.2)  # until it waits for the first one's network
        go_on.set()
        with pytest.raises(ModelFileError, match="no"):
            first.result(timeout=60)
        assert second.result(timeout=60).shape[0] == 4


@needs_openvino
def test_a_file_is_verified_and_predicted_with_on_openvino() -> None:
    found = verify(SHIPPED, device="openvino")
    assert (found.provider, found.tolerance) == ("OpenVINO:CPU f32", read_model_file(SHIPPED).card.golden_tolerance)
    assert Classifier(SHIPPED, device="openvino").provider == "OpenVINO:CPU f32"


@needs_openvino
def test_verify_finds_other_numbers_on_openvino_too(tmp_path: Path) -> None:
    forged = resigned(SHIPPED, tmp_path / "m.onnx", network=scaled_head(-1.0))
    with pytest.raises(VerificationError, match=r"on OpenVINO:CPU f32 here.*0\.001 is allowed for fp32\. "):
        verify(forged, device="openvino")


@pytest.mark.skipif(not has_bfloat16(), reason="no OpenVINO, or a CPU without bfloat16")
def test_bfloat16_is_an_explicit_choice_with_a_tolerance_of_its_own(tmp_path: Path) -> None:
    found = verify(SHIPPED, device="openvino-bf16")
    assert found.provider == "OpenVINO:CPU bf16"
    assert found.tolerance == PROVIDERS["openvino-bf16"].golden_tolerance
    assert 1e-4 < found.max_difference <= found.tolerance, "it really computes in bfloat16"
    forged = resigned(SHIPPED, tmp_path / "m.onnx", network=scaled_head(-1.0))
    with pytest.raises(VerificationError, match=r"0\.16 is allowed for fp32 on a provider of lower precision"):
        verify(forged, device="openvino-bf16")


@needs_openvino
def test_bfloat16_is_refused_where_the_cpu_has_none(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_openvino().Core, "get_property", lambda _self, _device, _name: ["FP32", "INT8"])
    with pytest.raises(ProviderUnavailableError, match=r"device openvino-bf16: this CPU has no bfloat16.*--device openvino"):
        open_session(content, device="openvino-bf16", threads=1)


@needs_openvino
def test_a_precision_that_is_not_what_runs_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROVIDERS["openvino"].options, "INFERENCE_PRECISION_HINT", "bf16")
    with pytest.raises(ProviderUnavailableError, match=r"this CPU has no bfloat16|runs the network as OpenVINO:CPU bf16 instead"):
        open_session(content, device="openvino", threads=1)


def test_without_the_package_the_extra_is_named(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    for device in ("openvino", "openvino-bf16"):
        with pytest.raises(MissingExtraError, match=rf"device {device} needs.*pip install 'cellclf\[openvino\]'"):
            open_session(content, device=device, threads=1)
    states = {state.name: state for state in probe_providers()}
    assert not states["openvino"].works
    assert "pip install 'cellclf[openvino]'" in states["openvino"].reason


@needs_openvino
def test_what_is_no_network_is_a_model_file_error() -> None:
    with pytest.raises(ModelFileError, match="OpenVINO cannot load the network"):
        open_session(b"not a network", device="openvino", threads=1)
    with pytest.raises(ModelFileError, match="no output probabilities"):
        open_session(PROBE_MODEL.replace(b"probabilities", b"probabilitiez"), device="openvino", threads=1)


@needs_openvino
def test_a_network_that_cannot_be_compiled_is_a_model_file_error() -> None:
    graph = helper.make_graph(
        [helper.make_node("Unheard", ["image"], ["probabilities"], domain="nowhere")],
        "odd",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)], ir_version=8)
    with pytest.raises(ModelFileError, match="OpenVINO cannot"):
        open_session(model.SerializeToString(), device="openvino", threads=1)


@needs_openvino
@pytest.mark.parametrize("wrong", [np.zeros((0, 128, 128, 3), np.uint8), np.zeros((1, 128, 128, 3), np.float32), np.zeros((1, 64, 64, 3), np.uint8)])
def test_a_batch_of_another_shape_or_type_is_an_error(content: bytes, wrong: Any) -> None:
    with pytest.raises(InferenceError):
        open_session(content, device="openvino", threads=1).run(wrong)


@needs_openvino
def test_the_probe_runs_in_bytes_and_floats() -> None:
    assert open_session(PROBE_MODEL, device="openvino", threads=1).run(np.array([0, 7, 255], dtype=np.uint8)).tolist() == [0, 7, 255]
