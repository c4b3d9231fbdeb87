"""Work: one request's images on their way to records. Imports the Classifier's records only."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cellclf.data.crops import View
from cellclf.data.decoding import Pixels
from cellclf.runtime.classifier import Failure, Prediction

__all__ = ["Image", "Network", "Record", "Work"]

Image = bytes | bytearray | memoryview | Pixels
"""An encoded file, or uint8 pixels [height, width, 3] of the network's size."""

Record = Prediction | Failure


class Network(Protocol):
    """What the engine needs of a model; a Classifier is one. batch_size: images a call with which it is quickest."""

    @property
    def batch_size(self) -> int:
        """At least 1."""

    def probabilities(self, images: Pixels) -> npt.NDArray[np.float32]:
        """uint8 [batch, height, width, 3] → float32 [batch, classes]; called from several threads."""

    def predictions(self, names: Sequence[str], rows: npt.NDArray[np.float32]) -> list[Prediction]:
        """The records of such rows."""

    def failure(self, name: str, error: str) -> Failure:
        """The record of an image that cannot be read."""


class Work:
    """Images of one request for one network, and the future that gets their records, in order.

    deadline: time.monotonic() after which nobody waits any more. waiting: images that no worker has taken. gone: nobody waits for the records.
    """

    __slots__ = ("deadline", "future", "gone", "images", "missing", "names", "network", "records", "view", "waiting")

    def __init__(
        self,
        network: Network,
        *,
        view: View,
        names: Sequence[str],
        images: Sequence[Image],
        deadline: float,
        future: "asyncio.Future[list[Record]]",
    ) -> None:
        self.network = network
        self.view = view
        self.names = names
        self.images = images
        self.deadline = deadline
        self.future = future
        self.records: list[Record | None] = [None] * len(images)
        self.missing = self.waiting = len(images)
        self.gone = False
