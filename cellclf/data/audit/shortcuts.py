"""Shortcuts: how well what is not the content of an image predicts its label. Needs scikit-learn, imported where it is used."""

import hashlib
import importlib.util
import io
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cellclf.data.audit.findings import Shortcut
from cellclf.data.decoding import decode_thumbnail
from cellclf.environment import usable_cores
from cellclf.errors import DecodeError, MissingExtraError

__all__ = ["FEATURES", "Sample", "check_available", "measure_shortcuts"]

_MOST_FILES = 2500
_LONGEST_PX = 80
_BORDER = 0.06
_FOLDS = 5
_FEWEST_GROUPS = 10
_SUSPICIOUS = 0.1

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A file with its label and the group that must stay whole in cross-validation."""

    path: Path
    label: str
    group: str


@dataclass(frozen=True)
class _Facts:
    """What a file tells without what it shows."""

    bytes: int
    width_px: int
    height_px: int
    quality: float
    border: tuple[float, ...]
    brightness: tuple[float, ...]


FEATURES: dict[str, Callable[[_Facts], tuple[float, ...]]] = {
    "file size": lambda facts: (facts.bytes,),
    "image size": lambda facts: (facts.width_px, facts.height_px, facts.width_px / facts.height_px),
    "JPEG quality": lambda facts: (facts.quality,),
    "border": lambda facts: facts.border,
    "brightness": lambda facts: facts.brightness,
}
"""Each shortcut that is looked for, as numbers of one file. JPEG quality: the mean of the luminance quantisation table, 0 without one; border: mean
and deviation of the outermost 6 %, each colour; brightness: mean and deviation of the grey values."""


def check_available() -> None:
    """Raise MissingExtraError without scikit-learn; for whoever would rather know before a long search."""
    if importlib.util.find_spec("sklearn") is None:
        raise MissingExtraError("an audit", "train")


def measure_shortcuts(samples: Sequence[Sample]) -> tuple[Shortcut, ...]:
    """Predict the label from each feature alone by a small decision tree, cross-validated in five folds of whole groups.

    At most 2,500 files are looked at, drawn by their names' hash. () where a label has fewer than ten groups, which is too few to tell.
    Raises MissingExtraError without scikit-learn.
    """
    check_available()
    drawn = sorted(samples, key=lambda sample: hashlib.sha256(str(sample.path).encode(errors="backslashreplace")).digest())[:_MOST_FILES]
    with ThreadPoolExecutor(usable_cores()) as pool:
        facts = list(pool.map(_facts, (sample.path for sample in drawn)))
    known = [(sample, fact) for sample, fact in zip(drawn, facts, strict=True) if fact is not None]
    groups_of: dict[str, set[str]] = {}
    for sample, _ in known:
        groups_of.setdefault(sample.label, set()).add(sample.group)
    if len(groups_of) < 2 or min(len(groups) for groups in groups_of.values()) < _FEWEST_GROUPS:
        return ()
    labels = np.array([sample.label for sample, _ in known])
    groups = np.array([sample.group for sample, _ in known])
    return tuple(_shortcut(name, np.array([numbers(fact) for _, fact in known]), labels, groups) for name, numbers in FEATURES.items())


def _shortcut(name: str, values: Floats, labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_]) -> Shortcut:
    from sklearn.metrics import recall_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.tree import DecisionTreeClassifier

    scores = []
    for train, test in StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0).split(values, labels, groups):
        tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=20, class_weight="balanced", random_state=0)
        called = tree.fit(values[train], labels[train]).predict(values[test])
        scores.append(float(recall_score(labels[test], called, average="macro", labels=np.unique(labels[test]), zero_division=0)))
    mean, chance = float(np.mean(scores)), 1 / len(np.unique(labels))
    half = 2.776 * float(np.std(scores, ddof=1)) / math.sqrt(_FOLDS)  # Student's t of 4 degrees of freedom, 97.5 %
    return Shortcut(
        feature=name,
        balanced_accuracy=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        chance=chance,
        images=len(labels),
        suspicious=mean - half > chance + _SUSPICIOUS,
    )


def _facts(path: Path) -> _Facts | None:
    """None for a file that cannot be read; it is reported as broken elsewhere."""
    try:
        content = path.read_bytes()
        pixels = decode_thumbnail(content, longest_px=_LONGEST_PX).astype(np.float64)
        with Image.open(io.BytesIO(content)) as image:
            width_px, height_px = image.size
            tables = getattr(image, "quantization", None) or {}
    except (OSError, DecodeError):
        return None
    edge = max(1, round(min(pixels.shape[:2]) * _BORDER))
    inside = np.zeros(pixels.shape[:2], dtype=bool)
    inside[edge:-edge, edge:-edge] = True
    rim, grey = pixels[~inside], pixels.mean(axis=2)
    return _Facts(
        bytes=len(content),
        width_px=width_px,
        height_px=height_px,
        quality=float(np.mean(tables[0])) if 0 in tables else 0.0,
        border=(*rim.mean(axis=0).tolist(), *rim.std(axis=0).tolist()),
        brightness=(float(grey.mean()), float(grey.std())),
    )
