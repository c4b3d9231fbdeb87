"""Messages over a socket: what arrives is what was sent, however the socket cuts it up."""

import os
import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.serving.wire import Wire

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pieces are sent with sendmsg")

WAIT_S = 60


@pytest.fixture
def ends() -> Iterator[tuple[Wire, Wire]]:
    one, other = map(Wire, socket.socketpair())
    yield one, other
    one.close()
    other.close()


def over(ends: tuple[Wire, Wire], message: object) -> Any:
    """Send from one end while the other receives."""
    told: list[Any] = []
    thread = threading.Thread(target=lambda: told.append(ends[1].receive()))
    thread.start()
    ends[0].send(message)
    thread.join(WAIT_S)
    return told[0]


@given(parts=st.lists(st.binary(max_size=100_000), max_size=20), word=st.text())
def test_a_message_arrives_with_its_parts_in_order(parts: list[bytes], word: str) -> None:
    one, other = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that most messages are cut up
    with one, other:
        found, said = over((Wire(one), Wire(other)), ([pickle.PickleBuffer(part) for part in parts], word))
    assert [bytes(part) for part in found] == parts
    assert said == word


def test_more_parts_than_a_system_call_takes(ends: tuple[Wire, Wire]) -> None:
    parts = [bytes([number % 256]) * (number % 7) for number in range(3000)]
    assert [bytes(part) for part in over(ends, [pickle.PickleBuffer(part) for part in parts])] == parts


def test_arrays_are_not_copied_into_the_message(ends: tuple[Wire, Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(300_000, dtype=np.uint8).reshape(100, 1000, 3)
    sizes: list[int] = []
    dumps = pickle.dumps

    def seen(*given: Any, **how: Any) -> bytes:
        sizes.append(len(found := dumps(*given, **how)))
        return found

    monkeypatch.setattr(pickle, "dumps", seen)
    (found,) = over(ends, (pixels,))
    np.testing.assert_array_equal(found, pixels)
    assert sizes[0] < 1000


def test_messages_follow_one_another(ends: tuple[Wire, Wire]) -> None:
    for number in range(3):
        ends[0].send(number)
    assert [ends[1].receive() for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("before", [b"", b"\0" * 7, struct.pack("=QQ", 100, 0) + b"cut"])
def test_an_end_in_the_middle_is_told(before: bytes) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(before)
        one.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            Wire(other).receive()


def test_patience_is_the_sockets_own(ends: tuple[Wire, Wire]) -> None:
    with socket.socket(fileno=os.dup(ends[0].fileno())) as shared:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            shared.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 0, 10_000))
    with pytest.raises(BlockingIOError):
        ends[0].receive()
    with pytest.raises(BlockingIOError):
        ends[0].send(pickle.PickleBuffer(bytes(10 << 20)))
