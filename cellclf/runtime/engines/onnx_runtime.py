"""The engine ONNX Runtime. It falls back to the CPU without a word; what really runs is asked for after opening."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.data.decoding import Pixels
from cellclf.errors import InferenceError, ModelFileError
from cellclf.runtime.engines.protocol import Session
from cellclf.runtime.providers import Target, gpu_count, preload_gpu_libraries, why_not

__all__ = ["open_onnx_runtime"]

_FATAL_ONLY = 4


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


def open_onnx_runtime(content: bytes, target: Target, *, threads: int, sessions: int) -> Session:  # noqa: ARG001  # one session serves all callers
    """Open on one execution provider; see Engine."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY  # what goes wrong is raised below, in one line
    provider = target.provider
    if provider.gpu:
        if gpu_count() <= target.index or provider.runs_as not in onnxruntime.get_available_providers():
            raise why_not(target)
        preload_gpu_libraries()
    chosen = {**provider.options, **({"device_id": str(target.index)} if provider.gpu else {})}
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[(provider.runs_as, chosen)])
    except (failures.EPFail, failures.EngineError) as error:
        raise why_not(target) from error
    except (failures.Fail, failures.InvalidGraph, failures.InvalidProtobuf, failures.NotImplemented, failures.InvalidArgument) as error:
        raise ModelFileError(f"ONNX Runtime cannot load the network: {str(error).splitlines()[0]}") from error
    running = str(session.get_providers()[0])
    if running != provider.runs_as:
        raise why_not(target)
    return _OnnxRuntimeSession(session, target, running)
