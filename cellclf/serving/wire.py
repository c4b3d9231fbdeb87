"""Wire: messages between two processes of ours over a socket; a message and all of its images go in one system call. Imports nothing of ours."""

import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["Wire"]

_PREFIX = struct.Struct("=QQ")
_LENGTH = "Q"
_MOST_AT_ONCE = 512
"""Pieces a system call; POSIX lets no system take fewer than 16, and Linux takes 1,024."""


class Wire:
    """One end of a stream socket, for one thread at a time.

    A message is any object that pickle can take; buffers of it that are wrapped in pickle.PickleBuffer, and arrays, are sent from where they lie and
    received as memoryviews, or arrays, on one block of memory. Pickle trusts what it reads: both ends must be the same program's.

    As it goes over the wire: the pickle's length and the number of buffers, each buffer's length, the pickle, the buffers.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: object) -> None:
        """Send all of a message; raises OSError, BlockingIOError where the socket's SO_SNDTIMEO goes by without a byte."""
        large: list[pickle.PickleBuffer] = []
        plain = pickle.dumps(message, protocol=5, buffer_callback=large.append)
        views = [buffer.raw() for buffer in large]
        lengths = struct.pack(f"={len(views)}{_LENGTH}", *map(len, views))
        self._send_all([memoryview(_PREFIX.pack(len(plain), len(views)) + lengths + plain), *(view for view in views if len(view))])

    def receive(self) -> Any:
        """The next message; raises EOFError where the other end is closed, OSError, BlockingIOError where SO_RCVTIMEO goes by without a byte."""
        plain_bytes, count = _PREFIX.unpack(self._received(_PREFIX.size))
        head = self._received(count * struct.calcsize(f"={_LENGTH}") + plain_bytes)
        lengths = struct.unpack_from(f"={count}{_LENGTH}", head)
        whole, start, views = self._received(sum(lengths)), 0, []
        for length in lengths:
            views.append(whole[start : start + length])
            start += length
        return pickle.loads(head[len(head) - plain_bytes :], buffers=views)

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._end.fileno()

    def _send_all(self, pieces: Sequence[memoryview]) -> None:
        rest = list(pieces)
        while rest:
            sent = self._end.sendmsg(rest[:_MOST_AT_ONCE])
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if sent:
                rest[0] = rest[0][sent:]

    def _received(self, count: int) -> memoryview:
        block = memoryview(bytearray(count))
        got = 0
        while got < count:
            now = self._end.recv_into(block[got:], 0, socket.MSG_WAITALL)
            if not now:
                raise EOFError
            got += now
        return block
