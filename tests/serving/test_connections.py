"""Connections that hold a server up: heads without end, heads that never come, too many at once."""

import contextlib
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellclf.serving import server
from tests.serving.conftest import WAIT_S, Hold, Running, picture, serving, wait_until


def wire_to(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=WAIT_S)


def send_cut(wire: socket.socket, whole: bytes, cuts: Iterable[int]) -> None:
    """Send in segments that end at these places."""
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start, stop in itertools.pairwise((0, *cuts, len(whole))):
        wire.sendall(whole[start:stop])
        time.sleep(0.002)


def one_answer(wire: socket.socket) -> bytes:
    """One whole answer, which may come in pieces, and nothing behind it."""
    found = b""
    while b"\r\n\r\n" not in found and (piece := wire.recv(1)):
        found += piece
    length = re.search(rb"content-length: (\d+)\r\n", found)
    assert length is not None, found
    whole = len(found) + int(length[1])
    while len(found) < whole and (piece := wire.recv(whole - len(found))):
        found += piece
    return found


def connections_of(running: Running) -> list[Any]:
    """The service's side of its connections."""
    return list(running.server._uvicorn.server_state.connections)


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


def test_a_head_that_is_too_large_and_comes_at_once_is_refused() -> None:
    with serving(max_header_bytes=10_000) as running, wire_to(running) as wire:
        wire.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"X-Filling: aaaaaaaaaaaaaaaaaaaa\r\n" * 500 + b"\r\n")
        assert everything(wire).startswith(b"HTTP/1.1 431 ")


def test_a_request_before_a_head_that_is_not_complete_is_answered() -> None:
    """A client that sends the next request before the answer; the first one's bytes are not the second one's head."""
    image = picture(1, (600, 400))
    assert len(image) > 10_000
    first = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(image) + image
    with serving(max_header_bytes=10_000, header_s=3.0) as running:
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


def test_empty_lines_after_an_answer_hold_no_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end the wait for the next request, which begins with none of them."""
    monkeypatch.setattr(server, "_KEEP_ALIVE_S", 1)
    with serving() as running, wire_to(running) as wire:
        for _ in range(2):
            wire.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one_answer(wire).startswith(b"HTTP/1.1 200 ")
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


def test_what_is_no_http_is_400_or_closed(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as running:
        for nonsense in (
            b"\x16\x03\x01\x02\x00",
            b"GET\r\n\r\n",
            b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"\0" * 1000,
            b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
            b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            with wire_to(running) as wire:
                wire.sendall(nonsense)
                wire.shutdown(socket.SHUT_WR)
                assert everything(wire).startswith((b"HTTP/1.1 400 ", b""))
        assert running.client.get("/v2").status_code == 200
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_two_lengths_or_a_length_and_chunks_are_refused() -> None:
    with serving() as running:
        for head in (b"Content-Length: 1\r\nContent-Length: 2\r\n", b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"):
            with wire_to(running) as wire:
                wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + head + b"\r\nx")
                assert everything(wire).startswith(b"HTTP/1.1 400 ")


def http(method: str, path: str, body: bytes = b"", *, headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%s %s HTTP/1.1\r\nHost: x\r\n%s%s\r\n%s" % (method.encode(), path.encode(), headers, length, body)


def test_a_client_that_leaves_after_pipelining_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """uvicorn tells the last request of a connection only that its client has left."""
    with serving() as running:
        for others in ([http("POST", "/predict", picture(2))], [http("GET", "/v2")] * 3):
            with wire_to(running) as wire:
                wire.sendall(b"".join([http("POST", "/predict", picture(1)), *others]))
        wait_until(lambda: not running.service.engine.queued and not running.service.engine.running)
        wait_until(lambda: running.metrics()["cellclf_connections"] <= 1)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_a_wish_for_another_protocol_costs_no_image() -> None:
    """As Java's client has by default: httptools leaves the body of such a request out."""
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\n"
    image = picture(1)
    with serving() as running:
        whole = http("POST", "/predict", image, headers=wish)
        expected = running.post("/predict", content=image).json()[0]["probabilities"]
        head = len(whole) - len(image)
        for cuts in (*([cut] for cut in range(1, head + 3)), range(1, head + 1), []):
            with wire_to(running) as wire:
                send_cut(wire, whole, cuts)
                answer = one_answer(wire)
            assert answer.startswith(b"HTTP/1.1 200 "), cuts
            assert json.loads(answer.partition(b"\r\n\r\n")[2])[0]["probabilities"] == expected
        with wire_to(running) as wire:  # what cannot be read rightly is not read at all
            wire.sendall(http("GET", "/v2/health/live") + whole)
            answer = everything(wire)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_that_looks_like_a_wish_for_another_protocol_stays_as_it_is() -> None:
    """What is hidden of a head must not be looked for in a body, where it would change an image, or the place where the next request begins."""
    inner = http("GET", "/v2/health/ready")
    body = b"x" + b"\r\nupgrade: x" * (len(inner) // 2) + inner
    part = b'--B\r\nContent-Disposition: form-data; name="a"\r\nUpgrade: x\r\n\r\n' + picture(1) + b"\r\n--B--"
    form = http("POST", "/predict", part, headers=b"Content-Type: multipart/form-data; boundary=B\r\n")
    with serving() as running:
        for whole, sent, status in ((http("POST", "/predict", body), body, b"422"), (form, part, b"200")):
            for before in range(6):
                with wire_to(running) as wire:
                    wire.sendall(whole[: -len(sent) - before])
                    time.sleep(0.02)
                    wire.sendall(whole[len(whole) - len(sent) - before :])
                    answer = one_answer(wire)
                    wire.settimeout(0.05)
                    with contextlib.suppress(TimeoutError):
                        answer += wire.recv(65536)
                assert answer.startswith(b"HTTP/1.1 " + status), before
                assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", ["/v2", "/predict?model=none", "/no/such/path"])
def test_a_body_that_never_ends_behind_its_answer_closes_the_connection(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_KEEP_ALIVE_S", 1)
    with serving() as running, wire_to(running) as wire:
        method = b"GET" if path == "/v2" else b"POST"
        wire.sendall(method + b" " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert one_answer(wire).startswith(b"HTTP/1.1 ")
        wire.sendall(b"x")
        everything(wire)


def test_trailers_are_neither_kept_nor_endless() -> None:
    image = picture(1)
    with serving(max_header_bytes=10_000) as running:
        chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(image), image)
        with wire_to(running) as wire:
            wire.sendall(chunked + b"X-Model: none\r\nAuthorization: x\r\n\r\n")
            assert one_answer(wire).startswith(b"HTTP/1.1 200 ")
        for trailer in (b"X-Filling: " + b"a" * 1000 + b"\r\n", b"a" * 1000):
            with wire_to(running) as wire:
                wire.sendall(chunked)
                with contextlib.suppress(ConnectionError):
                    for _ in range(100):
                        wire.sendall(trailer)
                        time.sleep(0.001)
                answer = everything(wire)
            assert b"HTTP/1.1 200 " not in answer
        assert running.client.get("/v2").status_code == 200


def test_a_head_that_does_not_come_behind_a_request_does_not_cost_its_answer(hold: Hold) -> None:
    with serving(threads=1, header_s=0.2) as running, wire_to(running) as wire:
        network = hold(running)
        wire.sendall(http("POST", "/predict", picture(1)) + b"GET /v2")
        network.wait_until_running()
        time.sleep(0.5)
        network.let_go()
        assert everything(wire).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("behind", [b"\x16\x03\x01 no HTTP\r\n\r\n", b"GET /v2 HTTP/1.1\r\nX-Long: " + b"a" * 20_000])
def test_what_is_no_request_behind_one_is_not_its_answer(hold: Hold, behind: bytes) -> None:
    with serving(threads=1, max_header_bytes=10_000) as running, wire_to(running) as wire:
        network = hold(running)
        wire.sendall(http("POST", "/predict", picture(1)) + behind[:8])
        network.wait_until_running()
        wire.sendall(behind[8:])
        wait_until(lambda: any(connection._deaf for connection in connections_of(running)))
        network.let_go()
        answer = everything(wire)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("busy_s", [0.0, 0.8], ids=["at once", "after something long"])
def test_what_lies_in_connections_when_the_service_ends_is_refused_and_not_reset(busy_s: float) -> None:
    """The loop stands still while clients connect, send and the service is told to end; and it may have something long to do just then."""
    with serving() as running:
        loop = running.server._loop
        assert loop is not None
        still, go = threading.Event(), threading.Event()
        kept = wire_to(running)
        kept.sendall(http("GET", "/v2/health/live"))
        assert one_answer(kept)

        def stand() -> None:
            still.set()
            assert go.wait(WAIT_S)

        loop.call_soon_threadsafe(stand)
        assert still.wait(WAIT_S)
        wires = [kept, *(wire_to(running) for _ in range(5))]
        for wire in wires:
            wire.sendall(http("POST", "/predict", picture(1)))
        running.server.drain()
        loop.call_soon_threadsafe(time.sleep, busy_s)
        go.set()
        for wire in wires:
            answer = everything(wire)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"shutting down" in answer
            wire.close()


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


CHUNKED = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_chunks_whose_heads_come_with_the_bytes_before_them_are_no_trailers() -> None:
    content = picture(1) + bytes(100_000)
    with serving(max_header_bytes=10_000) as running, wire_to(running) as wire:
        wire.sendall(CHUNKED % b"/predict" + b"7530\r\n")
        for start in range(0, len(content), 0x7530):
            part, rest = content[start : start + 0x7530], len(content) - start - 0x7530
            time.sleep(0.02)
            wire.sendall(part + b"\r\n" + (b"%x\r\n" % min(0x7530, rest) if rest > 0 else b"0\r\n\r\n"))
        assert one_answer(wire).startswith(b"HTTP/1.1 200 ")


def test_a_slow_upload_to_a_path_that_was_answered_early_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_KEEP_ALIVE_S", 3)
    with serving() as running, wire_to(running) as wire:
        wire.sendall(b"POST /no/such/path HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n")
        assert one_answer(wire).startswith(b"HTTP/1.1 404 ")
        for _ in range(8):
            time.sleep(0.5)
            wire.sendall(b"x")
        wire.sendall(http("POST", "/predict", picture(1)))
        assert one_answer(wire).startswith(b"HTTP/1.1 200 ")


def test_a_broken_body_behind_a_request_is_not_its_answer(hold: Hold) -> None:
    with serving(threads=1) as running, wire_to(running) as wire:
        network = hold(running)
        wire.sendall(http("POST", "/predict", picture(1)) + http("GET", "/v2") + CHUNKED % b"/predict" + b"zz\r\n")
        network.wait_until_running()
        wait_until(lambda: any(connection._deaf for connection in connections_of(running)))
        network.let_go()
        answer = everything(wire)
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1 ") == 2


def test_what_is_broken_behind_its_own_answer_gets_no_second_one() -> None:
    with serving() as running, wire_to(running) as wire:
        wire.sendall(CHUNKED % b"/no/such/path")
        assert one_answer(wire).startswith(b"HTTP/1.1 404 ")
        wire.sendall(b"zz\r\n")
        assert everything(wire) == b""


def test_a_client_that_takes_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_KEEP_ALIVE_S", 2)
    with serving() as running, socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(("127.0.0.1", running.port))
        wire.sendall(http("GET", "/openapi.json") * 400)
        wait_until(lambda: any(connection._stuck for connection in connections_of(running)))
        wait_until(lambda: running.metrics()["cellclf_connections"] == 1)


def test_requests_are_answered_in_their_order_however_they_are_cut() -> None:
    image = picture(1, (600, 400))
    trap = picture(1) + b"\r\n\r\nUpgrade: h2c\r\nGET / HTTP/1.1\r\n\r\n"
    known = (
        (http("GET", "/v2/health/live"), 200),
        (http("HEAD", "/v2/health/ready"), 200),
        (http("POST", "/predict", image), 200),
        (http("POST", "/predict", trap), 200),
        (CHUNKED % b"/predict" + chunk(image[:7]) + chunk(image[7:]) + b"0\r\nX-Trailer: x\r\n\r\n", 200),
        (http("POST", "/predict", b"no image\r\n\r\nupgrade: x\r\n"), 422),
        (http("POST", "/predict?model=none", image), 404),
        (http("GET", "/predict"), 405),
        (http("POST", "/no/such/path", trap), 404),
        (b"\r\n\r\n" + http("GET", "/v2/health/live"), 200),
    )
    end = http("GET", "/v2/health/live", headers=b"Connection: close\r\n")
    with serving() as running:

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.sampled_from(known), min_size=1, max_size=4), st.lists(st.floats(0, 1), max_size=6))
        def holds(requests: list[tuple[bytes, int]], places: list[float]) -> None:
            whole = b"".join(request for request, _ in requests) + end
            cuts = sorted({round(place * len(whole)) for place in places})
            with wire_to(running) as wire:
                send_cut(wire, whole, cuts)
                answer = everything(wire)
            assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", answer)] == [*(status for _, status in requests), 200]

        holds()
