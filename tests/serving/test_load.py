"""What happens past capacity, past a deadline, when a client leaves, and at the end. Networks are held, so that nothing depends on time."""

import contextlib
import gc
import socket
import threading

import httpx
import pytest

from cellclf.errors import ServingError
from cellclf.serving import engine as engine_module
from cellclf.serving.exchange import Presence
from cellclf.serving.multipart import ImageParts
from cellclf.serving.settings import Settings
from cellclf.serving.work import Work
from tests.serving.conftest import WAIT_S, Hold, Running, connection, picture, send_in_background, serving, wait_until


def wait_until_queued(running: Running, images: int) -> None:
    wait_until(lambda: running.service.engine.queued == images)


ONE = {"threads": 1, "max_batch": 1, "max_wait_ms": 0.0}


def test_past_the_queue_a_request_is_refused_at_once_and_those_who_wait_are_answered(hold: Hold) -> None:
    with serving(**ONE, max_queue_images=2) as running:
        network = hold(running)
        others = [send_in_background(running, content=picture(1))]
        network.wait_until_running()
        for number in (1, 2):
            others.append(send_in_background(running, content=picture(1)))
            wait_until_queued(running, number)
        refused = running.post("/predict", content=picture(1))
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert list(refused.json()) == ["error"]
        assert running.metrics()['cellclf_refusals_total{reason="queue"}'] == 1
        network.let_go()
        for thread, answers in others:
            thread.join(WAIT_S)
            assert [answer.status_code for answer in answers] == [200]


def test_a_request_is_refused_where_the_images_before_it_would_take_too_long(hold: Hold) -> None:
    with serving(**ONE, max_queue_ms=1000.0) as running:
        network = hold(running)
        running.service.engine.seconds_per_image = 0.6
        others = [send_in_background(running, content=picture(1))]
        network.wait_until_running()
        for number in (1, 2):
            others.append(send_in_background(running, content=picture(1)))
            wait_until_queued(running, number)
        refused = running.post("/predict", content=picture(1))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        network.let_go()
        for thread, answers in others:
            thread.join(WAIT_S)
            assert answers[0].status_code == 200


def test_a_refusal_does_not_wait_for_the_body(hold: Hold) -> None:
    with serving(**ONE, max_queue_images=1) as running:
        network = hold(running)
        others = [send_in_background(running, content=picture(1))]
        network.wait_until_running()
        others.append(send_in_background(running, content=picture(1)))
        wait_until(lambda: running.service.engine.queued == 1)
        wire = connection(running)
        wire.putrequest("POST", "/predict")
        wire.putheader("Content-Length", "1000000")
        wire.endheaders()
        assert wire.getresponse().status == 503
        wire.close()
        network.let_go()
        for thread, _ in others:
            thread.join(WAIT_S)


def test_a_refused_client_that_sends_all_before_it_reads_still_has_its_answer(hold: Hold) -> None:
    with serving(**ONE, max_queue_images=1) as running:
        network = hold(running)
        others = [send_in_background(running, content=picture(1))]
        network.wait_until_running()
        others.append(send_in_background(running, content=picture(1)))
        wait_until_queued(running, 1)
        body = bytes(4 << 20)
        with socket.create_connection(("127.0.0.1", running.port), timeout=WAIT_S) as wire:
            wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            answer = b"".join(iter(lambda: wire.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"}")
        network.let_go()
        for thread, _ in others:
            thread.join(WAIT_S)


def test_what_could_not_be_answered_by_its_deadline_is_refused_before_it_is_queued(hold: Hold) -> None:
    with serving(**ONE) as running:
        hold(running)
        running.service.engine.seconds_per_image = 1.0
        refused = running.post("/predict", content=picture(1), headers={"x-timeout-ms": "500"})
        assert refused.status_code == 503
        assert running.metrics()['cellclf_refusals_total{reason="deadline"}'] == 1


@pytest.mark.parametrize("by", ["header", "setting", "parameter"])
def test_a_request_past_its_deadline_is_504_and_gives_its_place_free(hold: Hold, by: str) -> None:
    with serving(**ONE, **({"deadline_ms": 300.0} if by == "setting" else {})) as running:
        network = hold(running)
        running.service.engine.seconds_per_image = 1e-6
        blocking = send_in_background(running, content=picture(1))
        network.wait_until_running()
        if by == "parameter":
            tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA=="]}
            model = running.service.models.find().name
            late = running.post(f"/v2/models/{model}/infer", json={"inputs": [tensor], "parameters": {"timeout": 300_000}})
        else:
            late = running.post("/predict", content=picture(1), headers={"x-timeout-ms": "300"} if by == "header" else {})
        assert late.status_code == 504
        assert running.service.engine.queued == 0
        network.let_go()
        blocking[0].join(WAIT_S)
        wait_until(lambda: running.service.engine.running == 0)
        assert network.batches == [1]


@pytest.mark.parametrize("more_bytes", [0, 1 << 20])
def test_a_client_that_leaves_gives_its_place_free_and_is_never_run(hold: Hold, more_bytes: int) -> None:
    """A body that is larger than what is read ahead stops the reading of the connection, without which no leaving is seen."""
    with serving(**ONE) as running:
        network = hold(running)
        blocking = send_in_background(running, content=picture(1))
        network.wait_until_running()
        with socket.create_connection(("127.0.0.1", running.port)) as wire:
            image = picture(1) + bytes(more_bytes)
            wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(image) + image)
            wait_until(lambda: running.service.engine.queued == 1)
        wait_until(lambda: running.service.engine.queued == 0)
        network.let_go()
        blocking[0].join(WAIT_S)
        assert blocking[1][0].status_code == 200
        wait_until(lambda: running.metrics().get('cellclf_requests_total{route="/predict",status="499"}') == 1)
        assert network.batches == [1]


def test_a_client_that_leaves_in_the_middle_of_its_body_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_ARRIVING_S", WAIT_S)
    with serving() as running:
        with socket.create_connection(("127.0.0.1", running.port)) as wire:
            wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
            wait_until(lambda: running.service.budget.held_bytes > 0)
            assert running.service.engine.arriving == 1
        wait_until(lambda: (running.service.budget.held_bytes, running.service.engine.arriving) == (0, 0))


def test_bodies_that_stall_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them counts as an image that waits, for a moment only: by the time an image takes here, two fill the queue."""
    monkeypatch.setattr(engine_module, "_ARRIVING_S", WAIT_S)
    with serving(max_queue_ms=500, threads=1) as running, contextlib.ExitStack() as stack:
        running.service.engine.seconds_per_image = 0.4
        for _ in range(2):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\nx")
        wait_until(lambda: running.service.budget.held_bytes >= 2)
        assert running.service.engine.arriving == 2
        assert running.post("/predict", content=picture(1)).status_code == 503
        monkeypatch.setattr(engine_module, "_ARRIVING_S", 0.01)
        wait_until(lambda: running.post("/predict", content=picture(1)).status_code == 200 and not running.service.engine.arriving)


def test_a_body_that_does_not_come_in_time_is_408() -> None:
    with serving() as running, socket.create_connection(("127.0.0.1", running.port)) as wire:
        wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Timeout-Ms: 200\r\nContent-Length: 100000\r\n\r\nabc")
        wire.settimeout(WAIT_S)
        assert wire.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_requests_together_hold_no_more_memory_than_allowed() -> None:
    with serving(max_buffered_bytes=100_000, max_body_bytes=100_000) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as wire:
            wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + bytes(80_000))
            wait_until(lambda: running.service.budget.held_bytes >= 80_000)
            refused = running.post("/predict", content=bytes(30_000))
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
        wait_until(lambda: running.service.budget.held_bytes == 0)
        assert running.post("/predict", content=picture(1)).status_code == 200


def test_a_drain_answers_everybody_who_was_let_in_and_nobody_else(hold: Hold) -> None:
    with serving(**ONE, unready_s=float(WAIT_S)) as running:
        network = hold(running)
        others = [send_in_background(running, content=picture(1))]
        network.wait_until_running()
        others += [send_in_background(running, content=picture(number)) for number in range(4)]
        wait_until(lambda: running.service.engine.queued == 4)
        assert running.client.get("/v2/health/ready").status_code == 200
        running.server.drain()
        wait_until(lambda: running.client.get("/v2/health/ready").status_code == 503)
        assert running.client.get("/v2/health/live").status_code == 200
        others.append(send_in_background(running, content=picture(5)))
        wait_until(lambda: running.service.engine.queued == 5)  # unready, but whoever has not heard of it yet is answered
        running.service.admission.draining = True
        refused = running.post("/predict", content=picture(1))
        assert (refused.status_code, refused.headers["connection"]) == (503, "close")
        network.let_go()
        for thread, answers in others:
            thread.join(WAIT_S)
            assert [answer.status_code for answer in answers] == [200]


def test_after_a_drain_the_port_is_closed_and_the_last_answer_was_sent(hold: Hold) -> None:
    with serving(**ONE) as running:
        network = hold(running)
        accepted = send_in_background(running, content=picture(1))
        network.wait_until_running()
        running.server.drain()

        def closed() -> bool:
            try:
                httpx.get(f"{running.server.address}/v2/health/live", timeout=WAIT_S)
            except httpx.TransportError:
                return True
            return False

        wait_until(closed)
        network.let_go()
        accepted[0].join(WAIT_S)
        assert accepted[1][0].status_code == 200


def test_metrics_tell_what_waits_and_what_runs(hold: Hold) -> None:
    with serving(**ONE) as running:
        network = hold(running)
        others = [send_in_background(running, content=picture(1)) for _ in range(3)]
        network.wait_until_running()
        wait_until(lambda: running.service.engine.queued == 2)
        found = running.metrics()
        assert (found["cellclf_queued_images"], found["cellclf_running_images"], found["cellclf_workers"]) == (2, 1, 1)
        network.let_go()
        for thread, _ in others:
            thread.join(WAIT_S)
        wait_until(lambda: running.metrics()["cellclf_batch_images_sum"] == 3)
        found = running.metrics()
        assert found['cellclf_requests_total{route="/predict",status="200"}'] == found['cellclf_images_total{outcome="predicted"}'] == 3
        assert found['cellclf_request_seconds_count{route="/predict"}'] == 3


def test_an_error_that_nobody_foresaw_is_500_without_a_word_of_it_and_the_service_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    with serving(threads=1) as running:
        classifier = running.service.models.find().classifier
        with monkeypatch.context() as patch:
            patch.setattr(classifier, "predictions", lambda *_: 1 / 0)
            answer = running.post("/predict", content=picture(1))
            assert answer.status_code == 500
            assert "division" not in answer.text
            assert "Traceback" not in answer.text
        assert running.post("/predict", content=picture(1)).status_code == 200
    assert isinstance(told[0].exc_value, ZeroDivisionError)


def test_an_error_on_the_event_loop_is_500_with_its_id_and_headers_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(threads=1) as running:
        with monkeypatch.context() as patch:
            patch.setattr(running.service.models, "find", lambda *_: 1 / 0)
            answer = running.post("/predict", content=picture(1), headers={"x-request-id": "mine"})
        assert answer.status_code == 500
        assert answer.headers["x-request-id"] == "mine"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "division" not in answer.text
        assert running.metrics()['cellclf_requests_total{route="/predict",status="500"}'] == 1
        assert running.metrics()['cellclf_refusals_total{reason="bug"}'] == 1
        assert running.post("/predict", content=picture(1)).status_code == 200


def test_a_deadline_that_the_drain_would_not_wait_for_is_refused() -> None:
    with pytest.raises(ServingError, match="--drain-s at least as long"):
        Settings(threads=1, deadline_ms=31_000, drain_s=30)
    assert Settings(threads=1, deadline_ms=30_000, drain_s=30).drain_s == 30


def test_images_that_nobody_waits_for_any_more_are_counted_and_their_bytes_let_go(hold: Hold) -> None:
    """An error that leads to a request's frames would keep its bodies until Python looks for cycles."""
    with serving(**ONE) as running:
        network = hold(running)
        running.service.engine.seconds_per_image = 1e-6
        blocking = send_in_background(running, content=picture(1))
        network.wait_until_running()
        body = picture(2) + bytes(8 << 20)
        gc.collect()
        others = {id(each) for each in gc.get_objects() if isinstance(each, Work)}
        gc.disable()
        try:
            assert running.post("/predict", content=body, headers={"x-timeout-ms": "300"}).status_code == 504
            files = [("images", (str(number), body)) for number in range(2)]
            assert running.post("/predict", files=files, headers={"x-timeout-ms": "500"}).status_code == 504
            assert running.post("/predict", files=[*files, ("top_k", (None, b"1"))]).status_code == 422
            assert not [each for each in gc.get_objects() if isinstance(each, ImageParts) and each._images]
            network.let_go()
            blocking[0].join(WAIT_S)
            wait_until(lambda: not [each for each in gc.get_objects() if isinstance(each, Work) and id(each) not in others])
        finally:
            gc.enable()
        assert running.metrics()['cellclf_images_total{outcome="dropped"}'] == 3


def test_a_client_that_is_gone_before_its_images_are_queued_costs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(**ONE) as running:
        with monkeypatch.context() as patch:
            patch.setattr(Presence, "watch", lambda _, told: told())
            assert running.post("/predict", content=picture(1)).status_code == 500  # uvicorn's answer to one that is there after all
        assert (running.service.engine.queued, running.service.engine.running) == (0, 0)
        assert running.post("/predict", content=picture(1)).status_code == 200
