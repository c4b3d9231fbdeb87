"""What a user asks for: which data, divided how. Documents only."""

from typing import Literal

from cellclf.data.splits import Fractions, Protocol
from cellclf.documents import Document

__all__ = ["BadImage", "DataRequest"]


class DataRequest(Document):
    """What to train on and how to divide it.

    data: a data set's name, a folder, or a .csv file. protocol: None = official where the source has a test set, else grouped.
    fractions: shares of train, validation and test (official cuts validation : train in the ratio of the first two). fold: 'K/N'.
    images_fraction: share of the files of each label and source split that is used at all, drawn from split_seed; limit_per_label: at most so many.
    """

    data: str
    protocol: Protocol | None = None
    fractions: Fractions = (0.64, 0.16, 0.20)
    fold: str | None = None
    split_seed: int = 0
    group_rule: str | None = None
    on_bad_image: Literal["error", "skip"] = "error"
    limit_per_label: int | None = None
    images_fraction: float = 1.0


class BadImage(Document):
    """An image that was left out, and why."""

    path: str
    reason: str
