"""Open a session on the provider that was asked for, or fail. The door to the engines."""

from collections.abc import Callable, Mapping

from cellclf.errors import ProviderUnavailableError
from cellclf.runtime.engines.onnx_runtime import open_onnx_runtime
from cellclf.runtime.engines.open_vino import open_openvino
from cellclf.runtime.engines.protocol import Engine, Session, Wanted
from cellclf.runtime.engines.xla import open_xla
from cellclf.runtime.providers import PROVIDERS, Target, gpu_count, parse_device

__all__ = ["OnNote", "Session", "open_session"]

OnNote = Callable[[str], None]

_ENGINES: Mapping[str, Engine] = {"onnxruntime": open_onnx_runtime, "openvino": open_openvino, "xla": open_xla}


def open_session(
    content: bytes,
    *,
    device: str,
    threads: int,
    sessions: int = 1,
    precision: str = "fp32",
    options: Mapping[str, str] | None = None,
    on_note: OnNote | None = None,
) -> Session:
    """Open the serialized model on `device`, for `sessions` calls at a time of `threads` CPU threads each; the others as in Wanted.

    Raises ProviderUnavailableError, MissingExtraError, ModelFileError.

    'auto' takes a GPU where one really works, else the CPU, and tells on_note what it took and why.
    """
    wanted = Wanted(threads=threads, sessions=sessions, precision=precision, options=options or {})
    target = parse_device(device)
    if target is not None:
        return _open(content, target, wanted)
    gpu = Target(PROVIDERS["cuda"])
    note = on_note or _unheard
    if gpu_count() == 0:
        session = _open(content, Target(PROVIDERS["cpu"]), wanted)
        note(f"device auto: took cpu ({session.provider}), there is no NVIDIA GPU")
        return session
    try:
        session = _open(content, gpu, wanted)
        note(f"device auto: took {gpu} ({session.provider})")
    except ProviderUnavailableError as error:
        session = _open(content, Target(PROVIDERS["cpu"]), wanted)
        note(f"device auto: took cpu ({session.provider}) although there is a GPU: {error}")
    return session


def _unheard(_: str) -> None:
    """Nobody asked to be told."""


def _open(content: bytes, target: Target, wanted: Wanted) -> Session:
    return _ENGINES[target.provider.engine](content, target, wanted)
