"""Connections that hold a server up: heads without end, heads that never come, too many at once."""

import contextlib
import socket
import time

from tests.serving.conftest import WAIT_S, Running, picture, serving, wait_until


def wire_to(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=WAIT_S)


def everything(wire: socket.socket) -> bytes:
    """What comes until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := wire.recv(65536):
            found += piece
    return found


def test_a_head_without_end_is_refused() -> None:
    with serving(max_header_bytes=10_000) as running:
        for filling in (b"X-Filling: " + b"a" * 1000 + b"\r\n", b"a" * 1000):
            with wire_to(running) as wire:
                with contextlib.suppress(ConnectionError):
                    wire.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\nX-Long: ")
                    for _ in range(100):
                        wire.sendall(filling)
                answer = everything(wire)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
        assert running.client.get("/v2").status_code == 200


def test_a_request_before_a_head_that_is_not_complete_is_answered() -> None:
    """A client that sends the next request before the answer; the first one's bytes are not the second one's head."""
    image = picture(1, (600, 400))
    assert len(image) > 10_000
    first = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(image) + image
    with serving(max_header_bytes=10_000) as running:
        for pieces in ([first + b"GET /v2 HTTP/1.1\r\n"], [first[:5000], first[5000:] + b"GET /v2 HTTP/1.1\r\n"]):
            with wire_to(running) as wire:
                for piece in pieces:
                    wire.sendall(piece)
                    time.sleep(0.1)  # so that the service reads what was sent so far alone
                wire.sendall(b"Host: x\r\nConnection: close\r\n\r\n")
                answer = everything(wire)
            assert answer.count(b"HTTP/1.1 200 ") == 2, answer[:200]
        with wire_to(running) as wire:
            wire.sendall(first + b"GET /v2 HTTP/1.1\r\nX-Long: ")
            with contextlib.suppress(ConnectionError):
                for _ in range(30):
                    wire.sendall(b"a" * 1000)
            assert b"HTTP/1.1 431 " in everything(wire) or not running.service.engine.queued


def test_a_head_that_does_not_come_closes_the_connection() -> None:
    with serving(header_s=0.2) as running:
        for beginning in (b"", b"GET /v2 HTTP/1.1\r\nHost:", b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\nGET /v"):
            with wire_to(running) as wire:
                wire.sendall(beginning)
                everything(wire)
        assert running.client.get("/v2").status_code == 200


def test_empty_lines_after_an_answer_hold_no_connection_open() -> None:
    """They end the wait for the next request, which begins with none of them."""
    with serving(header_s=0.2) as running, wire_to(running) as wire:
        for _ in range(2):
            wire.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.recv(65536).startswith(b"HTTP/1.1 200 ")
        wire.sendall(b"\r\n")
        everything(wire)


def test_one_connection_too_many_is_refused_and_its_place_is_free_again() -> None:
    with serving(max_connections=3) as running:
        running.client.get("/v2")
        open_ones = [wire_to(running) for _ in range(2)]
        wait_until(lambda: running.metrics()["cellclf_connections"] == 3)
        with wire_to(running) as wire:
            assert everything(wire).startswith(b"HTTP/1.1 503 ")
        for wire in open_ones:
            wire.close()
        wait_until(lambda: running.metrics()["cellclf_connections"] == 1)
        assert running.post("/predict", content=picture(1)).status_code == 200


def test_what_is_no_http_is_400_or_closed() -> None:
    with serving() as running:
        for nonsense in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"\0" * 1000):
            with wire_to(running) as wire:
                wire.sendall(nonsense)
                wire.shutdown(socket.SHUT_WR)
                assert everything(wire).startswith((b"HTTP/1.1 400 ", b""))
        assert running.client.get("/v2").status_code == 200


def test_two_lengths_or_a_length_and_chunks_are_refused() -> None:
    with serving() as running:
        for head in (b"Content-Length: 1\r\nContent-Length: 2\r\n", b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"):
            with wire_to(running) as wire:
                wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + head + b"\r\nx")
                assert everything(wire).startswith(b"HTTP/1.1 400 ")
