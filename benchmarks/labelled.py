"""The official test images of the data set that an exported file was made for, where they are at hand: pixels and truth."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellclf.card import Card
from cellclf.data.crops import view_of
from cellclf.data.datasets import DATASETS, find
from cellclf.data.decoding import decode_file
from cellclf.data.prepare import DataRequest, list_images
from cellclf.evaluation.decision import decide
from cellclf.evaluation.metrics import measure
from cellclf.studies.measurements import MeasuredAccuracy

__all__ = ["TestImages", "measured_accuracy", "official_test", "why_no_accuracy", "write_pixels"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


def why_no_accuracy(card: Card) -> str:
    """Why a file's accuracy cannot be measured here; '' where it can."""
    if card.data not in DATASETS:
        return "random weights" if card.data == "none" else f"{card.data!r} is no named data set"
    if card.protocol != "official":
        return f"it was trained under the protocol {card.protocol}, which trains on official test images"
    return "" if find(DATASETS[card.data]) else f"the data set {card.data} is not on this machine (CELLCLF_DATA)"


@dataclass(frozen=True)
class TestImages:
    """Images with their class numbers, and the original or patient that each was taken of."""

    __test__ = False

    files: tuple[Path, ...]
    truth: Ints
    groups: tuple[str, ...]


def official_test(card: Card, *, limit: int | None) -> TestImages:
    """The set's own test set with its groups, of whatever share the run used; limit: at most so many images, drawn by name."""
    manifest = list_images(DataRequest(data=card.data, protocol="official"), divided=True, view=view_of(card))
    drawn = sorted(manifest.split("test"), key=lambda entry: hashlib.sha256(Path(entry.path).name.encode()).digest())[:limit]
    return TestImages(
        tuple(manifest.file(entry) for entry in drawn),
        np.array([card.labels.index(entry.label) for entry in drawn]),
        tuple(entry.group or entry.sha256 for entry in drawn),
    )


def write_pixels(files: Sequence[Path], card: Card, target: Path) -> None:
    """Decode the files as predict does into one .npy file, uint8 [n, H, W, 3]."""
    shape = (len(files), card.height_px, card.width_px, 3)
    array = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    for row, path in enumerate(files):
        array[row] = decode_file(path, view_of(card))
    array.flush()


def measured_accuracy(card: Card, images: TestImages, probabilities: Floats, fp32: Floats | None) -> MeasuredAccuracy:
    """What is called right, as the file decides; fp32: what the fp32 file of the same run answered, None where there is none."""
    called, truth = _called(card, probabilities), images.truth
    reference = None if fp32 is None else _called(card, fp32)
    found = measure(probabilities, truth, card.labels, groups=images.groups, unit="group", predicted=called)
    return MeasuredAccuracy(
        dataset=card.data,
        split="official test",
        images=len(truth),
        accuracy=float((called == truth).mean()),
        balanced_accuracy=found.balanced_accuracy.value,
        difference_to_fp32_points=None if reference is None else 100 * float((called == truth).mean() - (reference == truth).mean()),
        same_labels_as_fp32=None if reference is None else float((called == reference).mean()),
        balanced_accuracy_low=found.balanced_accuracy.low,
        balanced_accuracy_high=found.balanced_accuracy.high,
        groups=found.groups,
    )


def _called(card: Card, probabilities: Floats) -> npt.NDArray[np.integer]:
    return decide(np.asarray(probabilities, dtype=np.float32), card.labels, operating_point=card.operating_point, abstain=card.abstain).called
