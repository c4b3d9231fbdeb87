"""Pretrained backbone weights: where they are looked for, how they are fetched, and loading them. Never a silent random start."""

import hashlib
import os
import urllib.request
import warnings
from pathlib import Path
from typing import Any

from cellclf.backbones import Backbone
from cellclf.errors import WeightsError
from cellclf.storage import new_file, sha256_of_file

__all__ = ["load_backbone_weights", "load_strictly", "places", "resolve_weights"]

_TIMEOUT_S = 30


def places(row: Backbone) -> list[Path]:
    """Where the backbone's ImageNet weights are looked for, in order."""
    folders = [Path(os.environ["CELLCLF_WEIGHTS"])] if os.environ.get("CELLCLF_WEIGHTS") else []
    folders.append(Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models")
    return [folder / row.weights_filename for folder in folders]


def resolve_weights(row: Backbone, weights: str) -> Path | None:
    """The file that 'imagenet' or a path stands for, or None for 'none'; downloads ImageNet weights that are not here; raises WeightsError."""
    if weights == "none":
        return None
    if weights != "imagenet":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"no weights file {weights!r}; give imagenet, none (a random start), or the path of a file")
        return path
    for path in places(row):
        if path.is_file():
            return path
    return _download(row, places(row)[-1])


def _download(row: Backbone, target: Path) -> Path:
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(row.weights_url, timeout=_TIMEOUT_S) as response, new_file(target) as temporary:
            with temporary.open("wb") as stream:
                while piece := response.read(1 << 20):
                    digest.update(piece)
                    stream.write(piece)
            if row.weights_md5 and digest.hexdigest() != row.weights_md5:
                raise WeightsError(f"{row.weights_url} does not have the published MD5 {row.weights_md5}; try again")
    except OSError as error:
        looked = ", ".join(str(path) for path in places(row))
        raise WeightsError(
            f"ImageNet weights of {row.title} are not here and could not be downloaded ({getattr(error, 'reason', None) or error}). "
            f"Looked for {looked}. "
            f"Put {row.weights_filename} into a folder and set CELLCLF_WEIGHTS to it; or give --weights FILE; or --weights none for a random start"
        ) from error
    return target


def load_strictly(model: Any, path: Path) -> None:
    """Load a Keras weights file into a model, every layer of it; raises WeightsError with the reason where any does not fit or is missing.

    Keras only warns where a file lacks a group of layers, and leaves those at their random start.
    """
    before = [value.copy() for value in model.get_weights()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, KeyError, OSError, TypeError, UserWarning) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(reason) from error
    unchanged = [old.shape for old, new in zip(before, model.get_weights(), strict=True) if old.ndim > 1 and (old == new).all()]
    if unchanged:
        raise WeightsError(f"{len(unchanged)} of its layers are not in the file")


def load_backbone_weights(model: Any, row: Backbone, path: Path) -> str:
    """Load a weights file (.h5 or .weights.h5) into a backbone and return the file's SHA-256; raises WeightsError where it does not fit."""
    try:
        load_strictly(model, path)
    except WeightsError as error:
        raise WeightsError(f"{path} does not fit {row.title} without its classifier: {error}") from error
    return sha256_of_file(path)
