"""Runner: with what one worker decodes and runs its batches; here in the worker's own thread. Knows nothing of HTTP or of the queue."""

import os
import sys
import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cellclf.data.crops import View
from cellclf.data.decoding import Pixels
from cellclf.serving.images import decoded
from cellclf.serving.work import Image, Network

__all__ = ["Answer", "Runner", "ThreadRunner", "WorkerDiedError", "answers", "stand_back"]

Answer = npt.NDArray[np.float32] | str
"""An image's probabilities, float32 [classes], or why it cannot be read."""

_WORKERS_NICE = 15
"""How far workers stand behind the event loop's thread, in steps of nice(2): a refusal must not wait for a core that decodes."""


class WorkerDiedError(Exception):
    """What ran a batch died of it, or with it; str() says how. The next batch is run by another."""


class Runner(Protocol):
    """What one worker of the engine works with; its methods are for that worker's thread, but for prepare and close, which are for any.

    deaths: how often what runs batches died.
    """

    deaths: int

    def begin(self) -> None:
        """Called first in the worker's thread, and again in the thread that takes over after an error that nobody foresaw."""

    def prepare(self, network: Network) -> None:
        """Make ready for batches of a network; raises CellclfError where that fails."""

    def run(self, network: Network, images: Sequence[Image], *, view: View) -> list[Answer]:
        """Decode as `view` says and run; an answer an image, in order. Raises InferenceError, ModelFileError, WorkerDiedError."""

    def close(self) -> None:
        """Let go of everything; nothing is run any more."""


class ThreadRunner:
    """Decodes and runs in the worker's thread."""

    deaths = 0

    def __init__(self, *, max_pixels: int) -> None:
        self._max_pixels = max_pixels

    def begin(self) -> None:
        """Let the event loop go first, where threads have priorities of their own: on Linux."""
        if sys.platform == "linux":
            stand_back(threading.get_native_id())

    def prepare(self, network: Network) -> None:
        """The network is in this process already."""

    def run(self, network: Network, images: Sequence[Image], *, view: View) -> list[Answer]:
        """See Runner."""
        return answers(network, images, view=view, max_pixels=self._max_pixels)

    def close(self) -> None:
        """There is nothing to let go of."""


def answers(network: Network, images: Sequence[Image], *, view: View, max_pixels: int) -> list[Answer]:
    """Decode the images and run those that can be read, in calls of the network's own batch size. Raises InferenceError, ModelFileError."""
    found = [decoded(image, view=view, max_pixels=max_pixels) for image in images]
    pixels: list[Pixels] = [image for image in found if not isinstance(image, str)]
    size = network.batch_size
    rows = iter([row for start in range(0, len(pixels), size) for row in network.probabilities(np.stack(pixels[start : start + size]))])
    return [image if isinstance(image, str) else next(rows) for image in found]


def stand_back(number: int) -> None:
    """Let a thread or process with this number go behind others that have its priority now."""
    os.setpriority(os.PRIO_PROCESS, number, min(19, os.getpriority(os.PRIO_PROCESS, number) + _WORKERS_NICE))
