"""A worker process: opens networks and answers batches of images over a socket, until its other end is closed. No HTTP, no queue."""

import os
import select
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cellclf.card import ModelFile
from cellclf.data.crops import View
from cellclf.errors import CellclfError
from cellclf.runtime.buckets import BUCKETS, bucket_of
from cellclf.runtime.classifier import Classifier
from cellclf.runtime.plan import Plan
from cellclf.serving.runners import Answer, answers, stand_back
from cellclf.serving.wire import Wire

__all__ = ["Batch", "Done", "Load", "Trouble", "work"]


@dataclass(frozen=True)
class Load:
    """Open a file as network `number` on `device`, which must turn out to be `provider`, and run each size of call up to `max_batch` images once.

    plan: whose provider, options and batch are used; its threads are not, a worker has one. forget: networks that nobody uses any more.
    """

    number: int
    file: ModelFile
    device: str
    provider: str
    plan: Plan | None
    max_batch: int
    forget: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Images for network `number`. forget: networks that nobody uses any more.

    images: each an Image when it arrives; files leave as pickle.PickleBuffer, so that nobody copies them into this message.
    """

    number: int
    images: tuple[Any, ...]
    view: View
    max_pixels: int
    forget: tuple[int, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of a message: for each image its row of probabilities, or why it cannot be read; none for Load."""

    rows: npt.NDArray[np.float32] | None = None
    reasons: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, found: Sequence[Answer]) -> "Done":
        """The rows in one array, which is quicker to send than an array each."""
        rows = [answer for answer in found if not isinstance(answer, str)]
        return cls(np.stack(rows) if rows else None, tuple(answer if isinstance(answer, str) else None for answer in found))

    def answers(self) -> list[Answer]:
        """What `of` was given."""
        rows = iter(() if self.rows is None else self.rows)
        return [next(rows) if reason is None else reason for reason in self.reasons]


@dataclass(frozen=True)
class Trouble:
    """network: it could not be opened or run, text says why. bug: an error that nobody foresaw, text is its traceback."""

    kind: Literal["network", "bug"]
    text: str


def work(descriptor: int) -> None:
    """Answer messages on the socket with this number until its other end is closed.

    An error that nobody foresaw ends the process; its traceback is the last answer.
    """
    stand_back(os.getpid())
    wire = Wire(socket.socket(fileno=descriptor))

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        wire.send(Trouble("bug", "".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = tell
    threading.Thread(target=_end_with_the_other, args=(descriptor,), daemon=True).start()
    networks: dict[int, Classifier] = {}
    while True:
        try:
            message = wire.receive()
        except (EOFError, ConnectionError):
            return
        reply = _reply(message, networks)
        try:
            wire.send(reply)
        except ConnectionError:
            return
        del message, reply  # else their images stay until the next ones are here


def _end_with_the_other(descriptor: int) -> None:
    """End in the middle of a batch, too, where nobody is there any more to take its answers."""
    watch = select.poll()
    watch.register(descriptor, 0)  # hanging up is told without being asked for
    watch.poll()
    os._exit(1)


def _reply(message: Load | Batch, networks: dict[int, Classifier]) -> Done | Trouble:
    for number in message.forget:
        networks.pop(number, None)
    try:
        if isinstance(message, Load):
            networks[message.number] = _opened(message)
            return Done()
        return Done.of(answers(networks[message.number], message.images, view=message.view, max_pixels=message.max_pixels))
    except CellclfError as error:
        return Trouble("network", str(error))


def _opened(message: Load) -> Classifier:
    classifier = Classifier(message.file, device=message.device, threads=1, plan=message.plan)
    if classifier.provider != message.provider:
        raise CellclfError(f"it opened on {classifier.provider} in a worker process, and on {message.provider} before")
    height, width = classifier.card.height_px, classifier.card.width_px
    largest = bucket_of(min(classifier.batch_size, message.max_batch, BUCKETS[-1]))
    for size in BUCKETS[: BUCKETS.index(largest) + 1]:
        classifier.probabilities(np.zeros((size, height, width, 3), dtype=np.uint8))
    classifier.file.content = b""  # opened once and for all: the session has its own copy
    return classifier
