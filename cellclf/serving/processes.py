"""ProcessRunner: one worker's batches in a process of their own, which is started anew where it dies. POSIX only."""

import itertools
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pickle import PickleBuffer

import numpy as np

from cellclf.data.crops import View
from cellclf.errors import InferenceError
from cellclf.runtime.classifier import Classifier
from cellclf.runtime.providers import gpu_count, parse_device
from cellclf.serving.logs import event
from cellclf.serving.runners import Answer, WorkerDiedError
from cellclf.serving.wire import Wire
from cellclf.serving.work import Image, Network
from cellclf.serving.worker import Batch, Done, Load, Trouble

__all__ = ["ProcessRunner", "why_no_processes"]

_END_S = 1.0
"""What a process whose socket is closed or broken is given to end by itself; then it is killed."""

_FLAGS = (("isolated", "-I"), ("ignore_environment", "-E"), ("no_user_site", "-s"))


def why_no_processes(device: str) -> str | None:
    """Why workers cannot be processes for a --device; None where they can. Raises UnknownNameError."""
    target = parse_device(device)
    if target.provider.gpu if target is not None else gpu_count():
        return "workers share a GPU's session, which is one process's"
    return None if os.name == "posix" else "they are passed a socket's number, which is POSIX"


class ProcessRunner:
    """Runs batches in a process that holds its own copy of each network, so that workers do not wait for one another's Python lock.

    max_batch: images of the largest batch that it will be given. patience_s: after so long without a byte to or from it the process counts as dead.
    on_end: told of each death. deaths: how many there were.
    """

    def __init__(self, *, max_pixels: int, max_batch: int, patience_s: float, on_end: Callable[[], None] = lambda: None) -> None:
        self._max_pixels, self._max_batch, self._patience_s, self._on_end = max_pixels, max_batch, patience_s, on_end
        self.deaths = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._held: dict[int, weakref.ref[Network]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._start()

    @property
    def process_id(self) -> int | None:
        """The worker process now; None between two of them."""
        process = self._process
        return None if process is None else process.pid

    def begin(self) -> None:
        """The thread only waits; the process stands back."""

    def prepare(self, network: Network) -> None:
        """See Runner; raises InferenceError where the process cannot open it, or dies of it twice."""
        with self._lock:
            self._number_of(network)

    def run(self, network: Network, images: Sequence[Image], *, view: View) -> list[Answer]:
        """See Runner; raises WorkerDiedError where the process died with these images, InferenceError where there is none that could take them."""
        with self._lock:
            number = self._number_of(network)
            sent = tuple(image if isinstance(image, np.ndarray) else PickleBuffer(image) for image in images)
            return self._exchange(Batch(number, sent, view, self._max_pixels, self._unused())).answers()

    def close(self) -> None:
        """End the process, whatever it does; none is started any more."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # not under the lock: whoever holds it waits for this very process
        with self._lock:
            self._discard()

    def _number_of(self, network: Network) -> int:
        """The network's number in a process that lives, which opens it where it has not yet; one that dies of it gets a second try."""
        if self._process is not None and self._process.poll() is not None:
            self._died("ended while it was idle")
        for number, held in self._held.items():
            if held() is network:
                return number
        assert isinstance(network, Classifier)
        try:
            return self._opened(network)
        except WorkerDiedError:
            pass
        try:
            return self._opened(network)
        except WorkerDiedError as error:
            raise InferenceError(
                f"a worker process {error}, twice, while it opened {network.path}; with --no-processes workers share one copy of a network"
            ) from error

    def _opened(self, network: Classifier) -> int:
        if self._process is None:
            self._start()
        number = next(self._numbers)
        self._exchange(Load(number, network.file, network.device, network.provider, network.plan, self._max_batch, self._unused()))
        self._held[number] = weakref.ref(network)
        return number

    def _unused(self) -> tuple[int, ...]:
        """Numbers of networks that nobody uses any more, which the next message lets the process forget."""
        gone = tuple(number for number, held in self._held.items() if held() is None)
        for number in gone:
            del self._held[number]
        return gone

    def _exchange(self, message: Load | Batch) -> Done:
        """Send a message, and wait for the answer to it.

        Whatever goes wrong between the first byte and the last ends the process: what it might still answer would be taken for the next answer.
        """
        reply: Done | Trouble | None = None
        try:
            self._wire.send(message)
            reply = self._wire.receive()
        except BlockingIOError as error:
            raise self._died(f"gave no answer for {self._patience_s:g} s", wait_s=0.0) from error
        except (EOFError, OSError) as error:
            raise self._died("ended") from error
        finally:
            if reply is None:
                self._discard(wait_s=0.0)
        if isinstance(reply, Done):
            return reply
        if reply.kind == "network":
            raise InferenceError(reply.text)
        self._died("met a bug")
        raise RuntimeError(f"in a worker process:\n{reply.text}")

    def _start(self) -> None:
        if self._closed:
            raise InferenceError("the service ends")
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise InferenceError(f"a worker process cannot be started: {error.strerror}") from error
        with theirs:
            patience = struct.pack("ll", int(self._patience_s), int(self._patience_s % 1 * 1e6))
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                ours.setsockopt(socket.SOL_SOCKET, option, patience)
            try:
                self._process = subprocess.Popen(
                    _command(theirs.fileno()), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
                )
            except OSError as error:
                ours.close()
                raise InferenceError(f"a worker process cannot be started: {error.strerror}") from error
            self._wire = Wire(ours)

    def _died(self, how: str, *, wait_s: float = _END_S) -> WorkerDiedError:
        """Tell of a death; the next message starts another process."""
        process_id, code = self.process_id, self._discard(wait_s)
        if not self._closed:
            self.deaths += 1
            event("worker", logging.ERROR, outcome="ended", pid=process_id, reason=f"{how}, exit code {code}")
            self._on_end()
        return WorkerDiedError(how)

    def _discard(self, wait_s: float = _END_S) -> int | None:
        """Close the socket, wait, kill; the exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        self._wire.close()
        self._held.clear()
        try:
            return process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _command(descriptor: int) -> list[str]:
    """A Python that imports what this one imports, and works on the socket of that number."""
    signals = "import signal; [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]"
    code = f"{signals}; import sys; sys.path[:] = {sys.path!r}; from cellclf.serving.worker import work; work({descriptor})"
    return [sys.executable, *(flag for name, flag in _FLAGS if getattr(sys.flags, name)), "-c", code]
