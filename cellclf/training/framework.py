"""The one way in to Keras: sets the backend and TensorFlow's log level before the first import, and says which extra is missing."""

import contextlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from cellclf.errors import CellclfError, MissingExtraError

__all__ = ["BACKENDS", "backend", "require_installed", "require_keras", "runs_on_cpu"]

BACKENDS = ("tensorflow", "jax")

_EXTRAS = {"tensorflow": "train", "jax": "jax"}
"""What brings each backend; on a GPU JAX comes with cuda13."""

_CHATTER = re.compile(r"WARNING: All log messages before absl|I0000 |E0000 .*cuInit.*\b303\b|To enable the following instructions")


def require_installed(wanted: str | None = None) -> str:
    """The name of the wanted backend ($KERAS_BACKEND, else TensorFlow) where it and Keras are installed; imports neither.

    Raises MissingExtraError, CellclfError.
    """
    name = wanted or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        raise CellclfError(f"KERAS_BACKEND={name} is not supported; {' and '.join(BACKENDS)} are")
    missing = [extra for module, extra in (("keras", "train"), (name, _EXTRAS[name])) if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtraError(f"training and export (Keras on {name})", ",".join(dict.fromkeys(missing)))
    return name


def require_keras(wanted: str | None = None) -> Any:
    """Import Keras on the wanted backend ($KERAS_BACKEND, else TensorFlow) and return it; raises MissingExtraError or CellclfError."""
    name = require_installed(wanted)
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # warnings and errors stay; notes on each graph that is optimized do not
    with _without_start_up_chatter() if "keras" not in sys.modules else contextlib.nullcontext():
        import keras

        if name == "tensorflow":
            import tensorflow

            tensorflow.config.list_physical_devices("GPU")
    if keras.backend.backend() != name:
        raise CellclfError(f"Keras was already loaded on {keras.backend.backend()}; {name} is needed here: start a new process")
    return keras


@contextlib.contextmanager
def _without_start_up_chatter() -> Iterator[None]:
    """Hold back what TensorFlow's C++ part prints on its first import, and pass on all that is not the known chatter.

    It says before its log level is read that oneDNN is on and that there is no GPU driver, also where none was expected.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        own = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(own, 2)
            os.close(own)
            held.seek(0)
            lines = held.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not _CHATTER.match(line)))


def backend() -> str:
    """The backend that Keras runs on."""
    return str(require_keras().backend.backend())


def runs_on_cpu() -> bool:
    """Whether the backend has no accelerator."""
    if backend() == "jax":
        import jax

        return all(device.platform == "cpu" for device in jax.devices())
    import tensorflow

    return not tensorflow.config.list_physical_devices("GPU")
