"""A worker process: opens networks and answers batches of images over a socket, until its other end is closed. No HTTP, no queue."""

import os
import select
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Literal

import numpy as np

from cellclf.card import ModelFile
from cellclf.errors import CellclfError
from cellclf.runtime.buckets import BUCKETS
from cellclf.runtime.classifier import Classifier
from cellclf.serving.runners import Answer, answers, stand_back
from cellclf.serving.work import Image

__all__ = ["Batch", "Done", "Load", "Trouble", "work"]


@dataclass(frozen=True)
class Load:
    """Open a file as network `number` on `device`, which must turn out to be `provider`, and run batches of each size once.

    forget: networks that nobody uses any more.
    """

    number: int
    file: ModelFile
    device: str
    provider: str
    forget: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Images for network `number`, which follow as bytes, so that nobody copies them into this message.

    pixels: for each image whether it is pixels of size_px, else it is a file. forget: networks that nobody uses any more.
    """

    number: int
    pixels: tuple[bool, ...]
    size_px: tuple[int, int]
    max_pixels: int
    forget: tuple[int, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of a message: an answer an image, none for Load."""

    answers: tuple[Answer, ...] = ()


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
    connection = Connection(descriptor)

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        connection.send(Trouble("bug", "".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = tell
    threading.Thread(target=_end_with_the_other, args=(descriptor,), daemon=True).start()
    networks: dict[int, Classifier] = {}
    while True:
        try:
            message = connection.recv()
            images = [_image(connection.recv_bytes(), message.size_px if whole else None) for whole in getattr(message, "pixels", ())]
        except (EOFError, ConnectionError):
            return
        reply = _reply(message, images, networks)
        try:
            connection.send(reply)
        except ConnectionError:
            return


def _end_with_the_other(descriptor: int) -> None:
    """End in the middle of a batch, too, where nobody is there any more to take its answers."""
    watch = select.poll()
    watch.register(descriptor, 0)  # hanging up is told without being asked for
    watch.poll()
    os._exit(1)


def _image(content: bytes, size_px: tuple[int, int] | None) -> Image:
    return content if size_px is None else np.frombuffer(content, dtype=np.uint8).reshape(*size_px, 3)


def _reply(message: Load | Batch, images: list[Image], networks: dict[int, Classifier]) -> Done | Trouble:
    for number in message.forget:
        networks.pop(number, None)
    try:
        if isinstance(message, Load):
            networks[message.number] = _opened(message)
            return Done()
        return Done(tuple(answers(networks[message.number], images, size_px=message.size_px, max_pixels=message.max_pixels)))
    except CellclfError as error:
        return Trouble("network", str(error))


def _opened(message: Load) -> Classifier:
    classifier = Classifier(message.file, device=message.device, threads=1)
    if classifier.provider != message.provider:
        raise CellclfError(f"it opened on {classifier.provider} in a worker process, and on {message.provider} before")
    height, width = classifier.card.height_px, classifier.card.width_px
    for size in (size for size in BUCKETS if size <= classifier.batch_size):
        classifier.probabilities(np.zeros((size, height, width, 3), dtype=np.uint8))
    classifier.file.content = b""  # opened once and for all: the session has its own copy
    return classifier
