"""Open an ONNX Runtime session on the provider that was asked for, or fail: ONNX Runtime itself falls back to the CPU without a word."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.data.decoding import Pixels
from cellclf.errors import InferenceError, ModelFileError, ProviderUnavailableError
from cellclf.runtime.providers import PROVIDERS, Target, gpu_count, parse_device, preload_gpu_libraries, why_not

__all__ = ["OnNote", "Session", "open_session"]

OnNote = Callable[[str], None]

_FATAL_ONLY = 4


@dataclass(frozen=True)
class Session:
    """A session and the provider that really runs it (ONNX Runtime's name)."""

    onnxruntime: Any
    provider: str

    def run(self, images: Pixels) -> npt.NDArray[np.float32]:
        """uint8 [batch, H, W, 3] → probabilities float32 [batch, classes]; raises InferenceError. Safe to call from several threads."""
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        try:
            values: npt.NDArray[np.float32] = self.onnxruntime.run(["probabilities"], {"image": images})[0]
        except (failures.InvalidArgument, failures.Fail, failures.RuntimeException, failures.EPFail) as error:
            reason = str(error).splitlines()[0]
            raise InferenceError(f"{self.provider} could not run a batch of {len(images)} images: {reason}") from error
        return values


def open_session(content: bytes, *, device: str, threads: int, on_note: OnNote | None = None) -> Session:
    """Open the serialized model on `device` with `threads` CPU threads an operator; raises ProviderUnavailableError, ModelFileError.

    'auto' takes a GPU where one really works, else the CPU, and tells on_note what it took and why.
    """
    target = parse_device(device)
    if target is not None:
        return _open(content, target, threads)
    gpu = Target(PROVIDERS["cuda"])
    note = on_note or _unheard
    if gpu_count() == 0:
        session = _open(content, Target(PROVIDERS["cpu"]), threads)
        note(f"device auto: took cpu ({session.provider}), there is no NVIDIA GPU")
        return session
    try:
        session = _open(content, gpu, threads)
        note(f"device auto: took {gpu} ({session.provider})")
    except ProviderUnavailableError as error:
        session = _open(content, Target(PROVIDERS["cpu"]), threads)
        note(f"device auto: took cpu ({session.provider}) although there is a GPU: {error}")
    return session


def _unheard(_: str) -> None:
    """Nobody asked to be told."""


def _open(content: bytes, target: Target, threads: int) -> Session:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY  # what goes wrong is raised below, in one line
    provider = target.provider
    if provider.gpu:
        if gpu_count() <= target.index or provider.onnxruntime_name not in onnxruntime.get_available_providers():
            raise why_not(target)
        preload_gpu_libraries()
    chosen = {**provider.options, **({"device_id": str(target.index)} if provider.gpu else {})}
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[(provider.onnxruntime_name, chosen)])
    except (failures.EPFail, failures.EngineError) as error:
        raise why_not(target) from error
    except (failures.Fail, failures.InvalidGraph, failures.InvalidProtobuf, failures.NotImplemented, failures.InvalidArgument) as error:
        raise ModelFileError(f"ONNX Runtime cannot load the network: {str(error).splitlines()[0]}") from error
    running = str(session.get_providers()[0])
    if running != provider.onnxruntime_name:
        raise why_not(target)
    return Session(session, running)
