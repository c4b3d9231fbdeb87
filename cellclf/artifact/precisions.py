"""PRECISIONS: one row = one precision an exported file can have: how an fp32 graph becomes it, and how far its numbers may move."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cellclf.artifact.quantize import to_fp16, to_int8
from cellclf.card import Precision
from cellclf.data.decoding import Pixels
from cellclf.tables import Table

__all__ = ["PRECISIONS", "PrecisionRow", "Tolerance"]


@dataclass(frozen=True)
class Tolerance:
    """What a precision may change, compared with the trained network on real images.

    max_difference: largest difference of any probability; mean_difference: their mean; flipped: share of images whose label changes although the
    trained network's two best labels are further apart than `close_call`. golden: what `verify` allows on another machine.
    """

    max_difference: float
    mean_difference: float
    flipped: float
    close_call: float
    golden: float


@dataclass(frozen=True, kw_only=True)
class PrecisionRow:
    """name; suffix of the file's name; tolerance; and the conversion of an fp32 onnx.ModelProto, given calibration images [n, H, W, 3]."""

    name: Precision
    suffix: str
    tolerance: Tolerance
    convert: Callable[[Any, Pixels], Any]
    calibrated: bool = False


def _unchanged(model: Any, _: Pixels) -> Any:
    return model


PRECISIONS: Table[PrecisionRow] = Table(
    "precision",
    [
        PrecisionRow(
            name="fp32",
            suffix="",
            tolerance=Tolerance(max_difference=1e-4, mean_difference=1e-5, flipped=0, close_call=2e-4, golden=1e-3),
            convert=_unchanged,
        ),
        PrecisionRow(
            name="fp16",
            suffix="-fp16",
            tolerance=Tolerance(max_difference=0.05, mean_difference=2e-3, flipped=0, close_call=0.1, golden=0.02),
            convert=to_fp16,
            calibrated=True,
        ),
        PrecisionRow(
            name="int8",
            suffix="-int8",
            tolerance=Tolerance(max_difference=0.5, mean_difference=0.02, flipped=0.01, close_call=0.1, golden=0.05),
            convert=to_int8,
            calibrated=True,
        ),
    ],
)
