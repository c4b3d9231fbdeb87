"""cellclf: fair comparison of fine-tuned CNNs on labelled medical images, one self-proving ONNX file, prediction without TensorFlow."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellclf.runtime.classifier import Classifier, Failure, Prediction

__all__ = ["Classifier", "Failure", "Prediction", "__version__"]

try:
    __version__ = version("cellclf")
except PackageNotFoundError:
    __version__ = "0+uninstalled"


def __getattr__(name: str) -> Any:
    """Load the runtime only when it is used, so that `cellclf --help` stays quick."""
    if name in ("Classifier", "Failure", "Prediction"):
        from cellclf.runtime import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'cellclf' has no attribute {name!r}")
