"""The engine ONNX Runtime. It falls back to the CPU without a word; what really runs is asked for after opening."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.data.decoding import Pixels
from cellclf.environment import gpus
from cellclf.errors import CellclfError, InferenceError, ModelFileError
from cellclf.runtime.engines.bound import BoundSession
from cellclf.runtime.engines.protocol import Session, Wanted
from cellclf.runtime.providers import MEMORY_VARIABLE, Target, gpu_count, preload_gpu_libraries, why_not
from cellclf.storage import cache_folder

__all__ = ["DISABLED_OPTIMIZERS", "engine_cache", "open_onnx_runtime", "provider_options"]

DISABLED_OPTIMIZERS = ("QDQPropagationTransformer",)
"""It moves the quantization behind an int8 file's fp32 start to before the pool there, which then pools planes of bytes without vector instructions:
a fifth of an int8 ResNet50's time. The numbers are the same."""

_FATAL_ONLY = 4
_GRAPHS = "enable_cuda_graph"
_CACHE_PATH = "trt_engine_cache_path"


@dataclass(frozen=True)
class _OnnxRuntimeSession:
    """One session serves any number of callers at a time; each call computes on its caller's thread and threads − 1 others."""

    onnxruntime: Any
    target: Target
    provider: str

    def run(self, images: Pixels) -> npt.NDArray[np.float32]:
        """See Session."""
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        try:
            values: npt.NDArray[np.float32] = self.onnxruntime.run(["probabilities"], {"image": images})[0]
        except (failures.InvalidArgument, failures.Fail, failures.RuntimeException, failures.EPFail) as error:
            reason = str(error).splitlines()[0]
            raise InferenceError(f"{self.provider} could not run a batch of {len(images)} images: {reason}") from error
        return values


def open_onnx_runtime(content: bytes, target: Target, wanted: Wanted) -> Session:
    """Open on one execution provider; see Engine. On a GPU through bound buffers."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = wanted.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY  # what goes wrong is raised below, in one line
    provider = target.provider
    if provider.gpu:
        if gpu_count() <= target.index or provider.runs_as not in onnxruntime.get_available_providers():
            raise why_not(target)
        preload_gpu_libraries()
    chosen = provider_options(content, target, wanted)
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=[(provider.runs_as, chosen)], disabled_optimizers=list(DISABLED_OPTIMIZERS)
        )
    except (failures.EPFail, failures.EngineError) as error:
        raise why_not(target) from error
    except (failures.Fail, failures.InvalidGraph, failures.InvalidProtobuf, failures.NotImplemented, failures.InvalidArgument) as error:
        raise ModelFileError(f"ONNX Runtime cannot load the network: {str(error).splitlines()[0]}") from error
    running = str(session.get_providers()[0])
    if running != provider.runs_as:
        raise why_not(target)
    if provider.gpu:
        return BoundSession(session, target, device="cuda", graphs=chosen.get(_GRAPHS) == "1")
    return _OnnxRuntimeSession(session, target, running)


def provider_options(content: bytes, target: Target, wanted: Wanted) -> dict[str, str]:
    """The row's options, those of the file's precision, those asked for, the GPU, $CELLCLF_GPU_MEMORY_MB, and where engines are kept."""
    provider = target.provider
    if not provider.gpu:
        return {**provider.options, **wanted.options}
    chosen = {**provider.options, **provider.options_by_precision.get(wanted.precision, {}), **wanted.options, "device_id": str(target.index)}
    if provider.memory_option is not None and (limit := os.environ.get(MEMORY_VARIABLE)):
        if not (limit.isascii() and limit.isdigit()):
            raise CellclfError(f"{MEMORY_VARIABLE}={limit!r} must be a whole number of MiB")
        chosen[provider.memory_option] = str(int(limit) * 2**20)
    if _CACHE_PATH in chosen:
        folder = cache_folder() / "engines" / engine_cache(content, wanted.precision, gpus()[target.index])
        folder.mkdir(parents=True, exist_ok=True)
        chosen[_CACHE_PATH] = str(folder)
    return chosen


def engine_cache(content: bytes, precision: str, gpu: str) -> str:
    """The folder name of a network's engines: they fit this very network, in this precision, on this kind of GPU.

    The network's hash covers the shape of its images; the engine itself holds a range of batch sizes.
    """
    return hashlib.sha256(b"\0".join([hashlib.sha256(content).digest(), precision.encode(), gpu.encode()])).hexdigest()[:32]
