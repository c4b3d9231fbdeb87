"""The GPU's bound buffers, run by the same code on the CPU."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from cellclf.artifact.golden import golden_image
from cellclf.card import read_model_file
from cellclf.data.decoding import Pixels
from cellclf.errors import CellclfError, InferenceError
from cellclf.runtime.buckets import BUCKETS
from cellclf.runtime.engines.bound import BoundSession
from cellclf.runtime.engines.onnx_runtime import engine_cache, provider_options
from cellclf.runtime.engines.protocol import Wanted
from cellclf.runtime.providers import PROVIDERS, Target

SHIPPED = Path(__file__).resolve().parents[3] / "exported" / "blood-cells-mobilenet025.onnx"


@pytest.fixture(scope="module")
def plain() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(read_model_file(SHIPPED).content, providers=["CPUExecutionProvider"])


@pytest.fixture
def bound(plain: onnxruntime.InferenceSession) -> BoundSession:
    return BoundSession(plain, Target(PROVIDERS["cpu"]), device="cpu", graphs=False)


@pytest.fixture(scope="module")
def images() -> Pixels:
    card = read_model_file(SHIPPED).card
    return np.stack([golden_image(seed, height_px=card.height_px, width_px=card.width_px) for seed in range(11)])


@pytest.fixture(scope="module")
def expected(plain: onnxruntime.InferenceSession, images: Pixels) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = plain.run(["probabilities"], {"image": images})[0]
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_a_batch_is_padded_to_its_bucket_and_cut_after(bound: BoundSession, images: Pixels, expected: npt.NDArray[np.float32], count: int) -> None:
    assert bound.provider == "CPUExecutionProvider"
    found = bound.run(images[:count])
    assert found.shape == (count, expected.shape[1])
    np.testing.assert_allclose(found, expected[:count], atol=1e-6)


def test_more_than_the_largest_bucket_is_run_in_parts(
    bound: BoundSession, images: Pixels, expected: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellclf.runtime.engines.bound.BUCKETS", BUCKETS[:3])
    np.testing.assert_allclose(bound.run(images), expected, atol=1e-6)


def test_buffers_are_used_again_and_an_answer_is_not_overwritten(bound: BoundSession, images: Pixels, expected: npt.NDArray[np.float32]) -> None:
    first = bound.run(images[:4])
    buffers = bound._buffers(4)
    second = bound.run(images[4:7])
    assert bound._buffers(4) is buffers
    np.testing.assert_allclose(first, expected[:4], atol=1e-6)
    np.testing.assert_allclose(second, expected[4:7], atol=1e-6)


def test_what_a_batch_left_in_a_buffer_does_not_reach_the_next(bound: BoundSession, images: Pixels, expected: npt.NDArray[np.float32]) -> None:
    bound.run(images[:4])
    np.testing.assert_allclose(bound.run(images[8:11]), expected[8:11], atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((0, 128, 128, 3), np.uint8), np.zeros((1, 128, 128, 3), np.float32), np.zeros((1, 64, 64, 3), np.uint8)],
    ids=["none", "f", "size"],
)
def test_a_batch_of_another_shape_or_type_is_an_error(bound: BoundSession, wrong: Pixels) -> None:
    with pytest.raises(InferenceError, match="wants uint8 images"):
        bound.run(wrong)


def test_engines_are_kept_by_network_precision_and_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        engine_cache(b"one", "fp32", "H200"),
        engine_cache(b"two", "fp32", "H200"),
        engine_cache(b"one", "fp16", "H200"),
        engine_cache(b"one", "fp32", "T4"),
    }
    assert len(names) == 4
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path))
    monkeypatch.setattr("cellclf.runtime.engines.onnx_runtime.gpus", lambda: ("H200", "T4"))
    chosen = provider_options(b"one", Target(PROVIDERS["tensorrt"], 1), Wanted(threads=1, precision="fp16"))
    assert chosen["trt_engine_cache_path"] == str(tmp_path / "engines" / engine_cache(b"one", "fp16", "T4"))
    assert (tmp_path / "engines" / engine_cache(b"one", "fp16", "T4")).is_dir()
    assert (chosen["trt_fp16_enable"], chosen["device_id"]) == ("True", "1")


def test_the_gpus_memory_is_limited_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(PROVIDERS["cuda"])
    monkeypatch.delenv("CELLCLF_GPU_MEMORY_MB", raising=False)
    assert "gpu_mem_limit" not in provider_options(b"one", target, Wanted(threads=1))
    monkeypatch.setenv("CELLCLF_GPU_MEMORY_MB", "512")
    assert provider_options(b"one", target, Wanted(threads=1))["gpu_mem_limit"] == str(512 * 2**20)
    monkeypatch.setenv("CELLCLF_GPU_MEMORY_MB", "2 GB")
    with pytest.raises(CellclfError, match="CELLCLF_GPU_MEMORY_MB='2 GB' must be"):
        provider_options(b"one", target, Wanted(threads=1))


def test_several_callers_get_each_their_own_answers(bound: BoundSession, images: Pixels, expected: npt.NDArray[np.float32]) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda start: bound.run(images[start : start + 3]), [0, 3, 6, 0, 3, 6]))
    np.testing.assert_allclose(np.concatenate(found[:3]), expected[:9], atol=1e-6)
    np.testing.assert_allclose(np.concatenate(found[3:]), expected[:9], atol=1e-6)


def test_what_is_asked_for_goes_before_the_rows_own_options_and_fusing_the_bias_is_never_among_them() -> None:
    target = Target(PROVIDERS["cuda"])
    for variant in PROVIDERS["cuda"].variants:
        chosen = provider_options(b"one", target, Wanted(threads=1, options=variant))
        assert chosen.items() >= variant.items()
        assert chosen["use_tf32"] == "0"
        assert "fuse_conv_bias" not in chosen


def test_fp16_files_take_channels_last_on_cuda_and_fp32_files_do_not() -> None:
    target = Target(PROVIDERS["cuda"])
    assert provider_options(b"one", target, Wanted(threads=1, precision="fp16"))["prefer_nhwc"] == "1"
    assert "prefer_nhwc" not in provider_options(b"one", target, Wanted(threads=1, precision="fp32"))
