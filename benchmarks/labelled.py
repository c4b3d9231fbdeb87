"""The official test images of the data set that an exported file was made for, where they are at hand: pixels and truth."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellclf.card import Card
from cellclf.data.datasets import DATASETS, find
from cellclf.data.decoding import decode_file, is_image_name
from cellclf.evaluation.decision import decide
from cellclf.studies.measurements import MeasuredAccuracy

__all__ = ["measured_accuracy", "official_test", "why_no_accuracy", "write_pixels"]

Ints = npt.NDArray[np.int64]


def why_no_accuracy(card: Card) -> str:
    """Why a file's accuracy cannot be measured here; '' where it can."""
    if card.data not in DATASETS:
        return "random weights" if card.data == "none" else f"{card.data!r} is no named data set"
    if card.protocol != "official":
        return f"it was trained under the protocol {card.protocol}, which trains on official test images"
    return "" if find(DATASETS[card.data]) else f"the data set {card.data} is not on this machine (CELLCLF_DATA)"


def official_test(card: Card, *, limit: int | None) -> tuple[list[Path], Ints]:
    """Files of the set's own test folders and their class numbers; limit: at most so many, drawn by name."""
    dataset = DATASETS[card.data]
    root = find(dataset)
    assert root is not None
    found = [
        (path, number)
        for folder in dataset.test_folders
        for number, label in enumerate(card.labels)
        for path in sorted((root / folder / label).iterdir())
        if is_image_name(path)
    ]
    drawn = sorted(found, key=lambda item: hashlib.sha256(item[0].name.encode()).digest())[:limit]
    return [path for path, _ in drawn], np.array([number for _, number in drawn])


def write_pixels(files: list[Path], card: Card, target: Path) -> None:
    """Decode the files as predict does into one .npy file, uint8 [n, H, W, 3]."""
    shape = (len(files), card.height_px, card.width_px, 3)
    array = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    for row, path in enumerate(files):
        array[row] = decode_file(path, height_px=card.height_px, width_px=card.width_px)
    array.flush()


def measured_accuracy(card: Card, truth: Ints, probabilities: npt.NDArray[np.floating], fp32: npt.NDArray[np.floating] | None) -> MeasuredAccuracy:
    """Shares of images called right, as the file decides; fp32: what the fp32 file of the same run answered, None where there is none."""
    called = _called(card, probabilities)
    reference = None if fp32 is None else _called(card, fp32)
    recalls = [float((called[truth == number] == number).mean()) for number in range(len(card.labels)) if (truth == number).any()]
    return MeasuredAccuracy(
        dataset=card.data,
        split="official test",
        images=len(truth),
        accuracy=float((called == truth).mean()),
        balanced_accuracy=float(np.mean(recalls)),
        difference_to_fp32_points=None if reference is None else 100 * float((called == truth).mean() - (reference == truth).mean()),
        same_labels_as_fp32=None if reference is None else float((called == reference).mean()),
    )


def _called(card: Card, probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.integer]:
    return decide(np.asarray(probabilities, dtype=np.float32), card.labels, operating_point=card.operating_point, abstain=card.abstain).called
