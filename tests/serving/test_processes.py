"""Workers that are processes: the same answers, and what happens where one dies, hangs, or meets a bug."""

import gc
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellclf import Classifier
from cellclf.data.crops import View
from cellclf.errors import InferenceError, ModelFileError, ServingError
from cellclf.serving.keys import Keys
from cellclf.serving.models import sources_of
from cellclf.serving.processes import ProcessRunner, why_no_processes
from cellclf.serving.runners import ThreadRunner, WorkerDiedError
from cellclf.serving.server import Server, bind
from cellclf.serving.settings import Settings
from cellclf.serving.work import Image
from tests.model_files import resigned
from tests.serving.conftest import CARD, SHIPPED, WAIT_S, Running, alive, picture, send_in_background, serving, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes want POSIX")

SIZE = CARD.height_px, CARD.width_px
MAX_PIXELS = 1_000_000
IMAGES: list[Image] = [picture(1), b"no image", memoryview(picture(2)), np.full((*SIZE, 3), 7, dtype=np.uint8), bytearray(picture(3))]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(SHIPPED, device="cpu", threads=1)


@pytest.fixture
def runner() -> Iterator[ProcessRunner]:
    found = ProcessRunner(max_pixels=MAX_PIXELS, max_batch=16, patience_s=WAIT_S)
    yield found
    found.close()
    assert found.process_id is None


def hurry(runner: ProcessRunner, seconds: float = 0.1) -> None:
    """Let the process that runs now be taken for dead sooner."""
    with socket.socket(fileno=os.dup(runner._wire.fileno())) as shared:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            shared.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 0, int(seconds * 1e6)))


def stop(runner: ProcessRunner) -> int:
    """Let its process stand still, so that it holds what it is given; the process' number."""
    number = runner.process_id
    assert number is not None
    os.kill(number, signal.SIGSTOP)
    return number


def killed(runner: ProcessRunner) -> None:
    """Kill its process, which is gone with all of its threads then, and left for the runner to find."""
    number = runner.process_id
    assert number is not None
    os.kill(number, signal.SIGKILL)
    os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)


def same(found: list[Any], expected: list[Any]) -> bool:
    return len(found) == len(expected) and all(
        one == other if isinstance(other, str) else np.array_equal(one, other) for one, other in zip(found, expected, strict=True)
    )


def test_answers_are_those_of_a_thread_bit_for_bit(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = ThreadRunner(max_pixels=MAX_PIXELS).run(classifier, IMAGES, view=View(*SIZE))
    runner.prepare(classifier)
    assert [isinstance(answer, str) for answer in expected] == [False, True, False, False, False]
    assert same(runner.run(classifier, IMAGES, view=View(*SIZE)), expected)
    assert runner.deaths == 0


def test_the_limit_of_pixels_holds_in_the_process(classifier: Classifier) -> None:
    runner = ProcessRunner(max_pixels=100, max_batch=16, patience_s=WAIT_S)
    (answer,) = runner.run(classifier, [picture(1)], view=View(*SIZE))
    runner.close()
    assert isinstance(answer, str)
    assert "pixels" in answer


def test_a_process_that_is_killed_with_a_batch_is_told_and_another_takes_the_next(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, IMAGES, view=View(*SIZE))
    first = stop(runner)
    told: list[BaseException] = []

    def held() -> None:
        try:
            runner.run(classifier, IMAGES, view=View(*SIZE))
        except WorkerDiedError as error:
            told.append(error)

    thread = threading.Thread(target=held)
    thread.start()
    os.kill(first, signal.SIGKILL)
    thread.join(WAIT_S)
    assert [str(error) for error in told] in (["ended"], [])  # it may be dead before it is given the batch, which then goes to the next
    assert runner.deaths == 1
    assert same(runner.run(classifier, IMAGES, view=View(*SIZE)), expected)
    assert runner.process_id != first


def test_a_process_that_died_while_it_was_idle_costs_nobody_an_answer(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, IMAGES, view=View(*SIZE))
    for use in (lambda: runner.run(classifier, IMAGES, view=View(*SIZE)), lambda: runner.prepare(Classifier(SHIPPED, device="cpu", threads=1))):
        killed(runner)
        use()
    assert runner.deaths == 2
    assert same(runner.run(classifier, IMAGES, view=View(*SIZE)), expected)


def test_a_process_that_gives_no_answer_is_ended(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, [picture(1)], view=View(*SIZE))
    for image in (picture(1), bytes(4 << 20)):  # what the socket holds, and what it does not
        hurry(runner)
        stop(runner)
        with pytest.raises(WorkerDiedError, match="gave no answer"):
            runner.run(classifier, [image], view=View(*SIZE))
        assert same(runner.run(classifier, [picture(1)], view=View(*SIZE)), expected)
    assert runner.deaths == 2


def test_a_network_of_which_each_process_dies_cannot_be_had(classifier: Classifier) -> None:
    ends: list[int] = []
    runner = ProcessRunner(max_pixels=MAX_PIXELS, max_batch=16, patience_s=0.02, on_end=lambda: ends.append(1))  # less than Python takes to start
    with pytest.raises(InferenceError, match=r"gave no answer for .*, twice, .*--no-processes"):
        runner.prepare(classifier)
    with pytest.raises(InferenceError, match="twice"):  # which is nothing that an image could be blamed for
        runner.run(classifier, [picture(1)], view=View(*SIZE))
    assert runner.deaths == len(ends) == 4
    runner.close()


def test_an_answer_that_nobody_took_is_never_taken_for_the_next(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, [picture(2)], view=View(*SIZE))

    def no_memory() -> None:
        raise MemoryError

    runner._wire.receive = no_memory  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        runner.run(classifier, [picture(1)], view=View(*SIZE))
    assert same(runner.run(classifier, [picture(2)], view=View(*SIZE)), expected)


def test_it_closes_while_its_process_stands_still_and_starts_no_other(runner: ProcessRunner, classifier: Classifier) -> None:
    runner.prepare(classifier)
    number = stop(runner)
    told: list[BaseException] = []

    def held() -> None:
        try:
            runner.run(classifier, [picture(1)], view=View(*SIZE))
        except (WorkerDiedError, InferenceError) as error:
            told.append(error)

    thread = threading.Thread(target=held)
    thread.start()
    runner.close()
    thread.join(WAIT_S)
    assert len(told) == 1
    assert not alive(number)
    with pytest.raises(InferenceError, match="the service ends"):
        runner.prepare(classifier)
    assert runner.process_id is None
    assert runner.deaths == 0


def test_a_process_that_cannot_be_started_is_an_error_of_this_batch_only(
    runner: ProcessRunner, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = runner.run(classifier, [picture(1)], view=View(*SIZE))
    killed(runner)

    def none_left(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", none_left)
        with pytest.raises(InferenceError, match="cannot be started: Resource temporarily unavailable"):
            runner.run(classifier, [picture(1)], view=View(*SIZE))
    assert same(runner.run(classifier, [picture(1)], view=View(*SIZE)), expected)


def test_a_bug_in_the_process_is_raised_with_its_traceback_and_another_process_takes_over(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, [picture(1)], view=View(*SIZE))
    first = runner.process_id
    with pytest.raises(RuntimeError, match=r"(?s)in a worker process:.*Traceback.*ValueError"):
        runner.run(classifier, [picture(1), np.zeros((1, 1, 3), dtype=np.uint8)], view=View(*SIZE))  # pixels of another size
    assert runner.deaths == 1
    assert same(runner.run(classifier, [picture(1)], view=View(*SIZE)), expected)
    assert runner.process_id != first


def test_a_network_that_opens_on_another_provider_there_is_not_run(
    runner: ProcessRunner, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "provider", "CUDAExecutionProvider")
    with pytest.raises(InferenceError, match="CPUExecutionProvider in a worker process"):
        runner.run(classifier, [picture(1)], view=View(*SIZE))


def test_networks_that_nobody_uses_any_more_are_let_go_of(runner: ProcessRunner, classifier: Classifier) -> None:
    other = Classifier(SHIPPED, device="cpu", threads=1)
    runner.prepare(other)
    runner.prepare(classifier)
    assert len(runner._held) == 2
    del other
    gc.collect()
    runner.run(classifier, [picture(1)], view=View(*SIZE))
    assert [held() for held in runner._held.values()] == [classifier]


def test_a_service_of_processes_answers_as_predict_and_takes_changed_files_over(tmp_path: Path) -> None:
    file = Path(shutil.copy(SHIPPED, tmp_path / "mine.onnx"))
    with serving(file, processes=True, reload_s=0.01) as running:
        before = running.post("/predict", content=picture(1)).json()[0]
        expected = Classifier(SHIPPED, device="cpu", threads=1).predict(picture(1)).as_dict()
        assert before == expected
        resigned(SHIPPED, tmp_path / "new", card={"created": "2099-01-01T00:00:00+00:00"}).replace(file)
        wait_until(lambda: running.metrics().get('cellclf_reloads_total{model="mine",outcome="replaced"}') == 1)
        after = running.post("/predict", content=picture(1)).json()[0]
        assert after["model"] != before["model"]
        assert after["probabilities"] == before["probabilities"]
        assert running.metrics()["cellclf_worker_ends_total"] == 0


@pytest.fixture
def held() -> Iterator[tuple[Running, int]]:
    """A service of one worker process that stands still, and that process; batches of one image."""
    with serving(threads=1, processes=True, max_batch=1, max_wait_ms=0.0) as running:
        assert running.post("/predict", content=picture(1)).status_code == 200
        (worker,) = running.service.engine._runners
        assert isinstance(worker, ProcessRunner)
        number = stop(worker)
        yield running, number
        if alive(number):
            os.kill(number, signal.SIGCONT)


def test_a_drain_answers_everybody_whose_image_a_process_has_or_will_get(held: tuple[Running, int]) -> None:
    running, number = held
    others = [send_in_background(running, content=picture(seed)) for seed in range(4)]
    wait_until(lambda: (running.service.engine.running, running.service.engine.queued) == (1, 3))
    running.server.drain()
    wait_until(lambda: running.service.admission.draining)
    os.kill(number, signal.SIGCONT)
    for thread, answers in others:
        thread.join(WAIT_S)
        assert [answer.status_code for answer in answers] == [200]


def test_a_process_that_is_killed_under_requests_costs_nobody_an_answer(held: tuple[Running, int]) -> None:
    running, number = held
    expected = [Classifier(SHIPPED, device="cpu", threads=1).predict(picture(seed)).probabilities for seed in range(3)]
    others = [send_in_background(running, content=picture(seed)) for seed in range(3)]
    wait_until(lambda: (running.service.engine.running, running.service.engine.queued) == (1, 2))
    os.kill(number, signal.SIGKILL)
    for (thread, answers), values in zip(others, expected, strict=True):
        thread.join(WAIT_S)
        assert answers[0].json()[0]["probabilities"] == values
    assert running.metrics()["cellclf_worker_ends_total"] == 1


def test_deadlines_and_clients_that_leave_free_their_places_while_a_process_stands_still(held: tuple[Running, int]) -> None:
    running, number = held
    running.service.engine.seconds_per_image = 1e-6
    first = send_in_background(running, content=picture(1))
    wait_until(lambda: running.service.engine.running == 1)
    assert running.post("/predict", content=picture(2), headers={"x-timeout-ms": "300"}).status_code == 504
    with socket.create_connection(("127.0.0.1", running.port)) as wire:
        image = picture(3)
        wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(image) + image)
        wait_until(lambda: running.service.engine.queued == 1)
    wait_until(lambda: running.service.engine.queued == 0)
    os.kill(number, signal.SIGCONT)
    first[0].join(WAIT_S)
    assert first[1][0].status_code == 200


def test_requests_during_a_reload_are_all_answered_by_the_old_or_the_new_file(tmp_path: Path) -> None:
    file = Path(shutil.copy(SHIPPED, tmp_path / "mine.onnx"))
    with serving(file, processes=True, reload_s=0.01) as running:
        resigned(SHIPPED, tmp_path / "new", card={"created": "2099-01-01T00:00:00+00:00"}).replace(file)
        models: list[str] = []

        def taken_over() -> bool:
            answer = running.post("/predict", content=picture(1))
            assert answer.status_code == 200
            models.append(answer.json()[0]["model"])
            return len(set(models)) == 2

        wait_until(taken_over)
        assert models == sorted(models, key=models.index), "once the new file answers, the old one does not any more"


def test_processes_are_for_cpus() -> None:
    assert why_no_processes("cpu") is why_no_processes("openvino") is None
    assert "GPU" in str(why_no_processes("cuda:0"))
    with bind("127.0.0.1", 0) as listener, pytest.raises(ServingError, match="--no-processes"):
        Server(sources_of([str(SHIPPED)], device="cuda"), Settings(threads=1, processes=True), listener=listener, keys=Keys({}))


def test_no_process_is_left_where_a_model_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ProcessRunner] = []
    begin = ProcessRunner.__init__

    def seen(self: ProcessRunner, **how: Any) -> None:
        begin(self, **how)
        made.append(self)

    monkeypatch.setattr(ProcessRunner, "__init__", seen)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with bind("127.0.0.1", 0) as listener, pytest.raises(ModelFileError, match="bad"):
        Server(sources_of([str(tmp_path / "bad.onnx")], device="cpu"), Settings(threads=2, processes=True), listener=listener, keys=Keys({}))
    assert [runner.process_id for runner in made] == [None, None]
