"""Where the network looked: the heat maps that an exported file gives beside its probabilities, and their picture. Always on the CPU."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cellclf.card import ModelFile
from cellclf.data.crops import WHOLE, Shares
from cellclf.data.decoding import Pixels
from cellclf.errors import InferenceError, ModelFileError
from cellclf.storage import is_ours, new_file

__all__ = ["Explainer", "may_be_written", "overlay", "write_overlay"]

HEATMAPS = "heatmaps"
_STRONGEST = 0.65
"""Opacity of a map's highest place."""

_MADE_BY = "cellclf heat map"


class Explainer:
    """The heat maps of one exported file, computed by ONNX Runtime on the CPU whatever device predicts. Raises ModelFileError where it has none."""

    def __init__(self, file: ModelFile, *, threads: int = 1) -> None:
        if file.card.heatmap is None:
            raise ModelFileError(f"{file.path} holds no heat maps; export its run again with: cellclf export --heatmaps")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(file.content, options, providers=["CPUExecutionProvider"])

    def maps(self, images: Pixels) -> npt.NDArray[np.float32]:
        """uint8 RGB [batch, H, W, 3] → Grad-CAM of each label, float32 [batch, classes, rows, columns], ≥ 0, in shares of the label's score.

        Raises InferenceError.
        """
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        try:
            values: npt.NDArray[np.float32] = self._session.run([HEATMAPS], {"image": images})[0]
        except (failures.InvalidArgument, failures.Fail, failures.RuntimeException) as error:
            raise InferenceError(f"the heat maps of {len(images)} images could not be computed: {str(error).splitlines()[0]}") from error
        return values


def overlay(image: Pixels, heat: npt.NDArray[np.float32], seen: Shares = WHOLE) -> Pixels:
    """uint8 RGB [H, W, 3] under a map [rows, columns], from clear (0) over yellow to red (its highest place).

    seen: the part of the image that the map is of; where it is not the whole image, what the network did not see is darker.
    """
    left, right = (round(share * image.shape[1]) for share in seen[::2])
    top, bottom = (round(share * image.shape[0]) for share in seen[1::2])
    shown = image // 2
    shown[top:bottom, left:right] = _painted(image[top:bottom, left:right], heat)
    return shown


def _painted(image: Pixels, heat: npt.NDArray[np.float32]) -> Pixels:
    height, width, _ = image.shape
    highest = float(heat.max())
    shares = np.clip(heat / highest, 0, 1) if highest > 0 else np.zeros_like(heat)
    smooth = np.asarray(Image.fromarray(shares.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
    colour = np.concatenate([np.full_like(smooth, 255), 200 * (1 - smooth), np.zeros_like(smooth)], axis=-1)
    opacity = _STRONGEST * smooth
    mixed: Pixels = np.rint(image * (1 - opacity) + colour * opacity).astype(np.uint8)
    return mixed


def write_overlay(target: Path, image: Pixels, heat: npt.NDArray[np.float32], seen: Shares = WHOLE) -> None:
    """Write the overlay as a PNG that says what it is; nothing half-written is left."""
    said = PngInfo()
    said.add_text("Software", _MADE_BY)
    with new_file(target) as temporary:
        Image.fromarray(overlay(image, heat, seen)).save(temporary, format="PNG", pnginfo=said)


def may_be_written(target: Path) -> bool:
    """Whether nothing is there, or an overlay that was painted before: whatever else it is, is somebody's."""
    return is_ours(target, b"tEXtSoftware\0" + _MADE_BY.encode())
