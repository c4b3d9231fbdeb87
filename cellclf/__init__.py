"""cellclf: fair comparison of fine-tuned CNNs on labelled medical images, one self-proving ONNX file, prediction without TensorFlow."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellclf.runtime.classifier import Classifier, Failure, Prediction

    __version__: str

__all__ = ["Classifier", "Failure", "Prediction", "__version__"]

# ONNX Runtime from 1.29 on sends usage data to its maker unless told otherwise before it starts; nobody who classifies patients' images expects that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """Load the runtime and look the version up only when they are used, so that the command line starts quickly."""
    if name == "__version__":
        return _version()
    if name in ("Classifier", "Failure", "Prediction"):
        from cellclf.runtime import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'cellclf' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cellclf")
    except PackageNotFoundError:
        return "0+uninstalled"
