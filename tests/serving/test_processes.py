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
from cellclf.errors import InferenceError, ModelFileError, ServingError
from cellclf.serving.keys import Keys
from cellclf.serving.models import sources_of
from cellclf.serving.processes import ProcessRunner, why_no_processes
from cellclf.serving.runners import ThreadRunner, WorkerDiedError
from cellclf.serving.server import Server, bind
from cellclf.serving.settings import Settings
from cellclf.serving.work import Image
from tests.model_files import resigned
from tests.serving.conftest import CARD, SHIPPED, WAIT_S, alive, picture, serving, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes want POSIX")

SIZE = CARD.height_px, CARD.width_px
MAX_PIXELS = 1_000_000
IMAGES: list[Image] = [picture(1), b"no image", memoryview(picture(2)), np.full((*SIZE, 3), 7, dtype=np.uint8), bytearray(picture(3))]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(SHIPPED, device="cpu", threads=1)


@pytest.fixture
def runner() -> Iterator[ProcessRunner]:
    found = ProcessRunner(max_pixels=MAX_PIXELS, patience_s=WAIT_S)
    yield found
    found.close()
    assert found.process_id is None


def hurry(runner: ProcessRunner, seconds: float = 0.1) -> None:
    """Let the process that runs now be taken for dead sooner."""
    with socket.socket(fileno=os.dup(runner._connection.fileno())) as shared:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            shared.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 0, int(seconds * 1e6)))


def stop(runner: ProcessRunner) -> int:
    """Let its process stand still, so that it holds what it is given; the process' number."""
    number = runner.process_id
    assert number is not None
    os.kill(number, signal.SIGSTOP)
    return number


def same(found: list[Any], expected: list[Any]) -> bool:
    return len(found) == len(expected) and all(
        one == other if isinstance(other, str) else np.array_equal(one, other) for one, other in zip(found, expected, strict=True)
    )


def test_answers_are_those_of_a_thread_bit_for_bit(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = ThreadRunner(max_pixels=MAX_PIXELS).run(classifier, IMAGES, size_px=SIZE)
    runner.prepare(classifier)
    assert [isinstance(answer, str) for answer in expected] == [False, True, False, False, False]
    assert same(runner.run(classifier, IMAGES, size_px=SIZE), expected)
    assert runner.deaths == 0


def test_the_limit_of_pixels_holds_in_the_process(classifier: Classifier) -> None:
    runner = ProcessRunner(max_pixels=100, patience_s=WAIT_S)
    (answer,) = runner.run(classifier, [picture(1)], size_px=SIZE)
    runner.close()
    assert isinstance(answer, str)
    assert "pixels" in answer


def test_a_process_that_is_killed_with_a_batch_is_told_and_another_takes_the_next(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, IMAGES, size_px=SIZE)
    first = stop(runner)
    told: list[BaseException] = []

    def held() -> None:
        try:
            runner.run(classifier, IMAGES, size_px=SIZE)
        except WorkerDiedError as error:
            told.append(error)

    thread = threading.Thread(target=held)
    thread.start()
    os.kill(first, signal.SIGKILL)
    thread.join(WAIT_S)
    assert [str(error) for error in told] in (["ended"], [])  # it may be dead before it is given the batch, which then goes to the next
    assert runner.deaths == 1
    assert same(runner.run(classifier, IMAGES, size_px=SIZE), expected)
    assert runner.process_id != first


def test_a_process_that_died_while_it_was_idle_costs_nobody_an_answer(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, IMAGES, size_px=SIZE)
    for use in (lambda: runner.run(classifier, IMAGES, size_px=SIZE), lambda: runner.prepare(Classifier(SHIPPED, device="cpu", threads=1))):
        number = runner.process_id
        assert number is not None
        os.kill(number, signal.SIGKILL)
        wait_until(lambda number=number: not alive(number))  # type: ignore[misc]  # default binds
        use()
    assert runner.deaths == 2
    assert same(runner.run(classifier, IMAGES, size_px=SIZE), expected)


def test_a_process_that_gives_no_answer_is_ended(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, [picture(1)], size_px=SIZE)
    for image in (picture(1), bytes(4 << 20)):  # what the socket holds, and what it does not
        hurry(runner)
        stop(runner)
        with pytest.raises(WorkerDiedError, match="gave no answer"):
            runner.run(classifier, [image], size_px=SIZE)
        assert same(runner.run(classifier, [picture(1)], size_px=SIZE), expected)
    assert runner.deaths == 2


def test_a_network_of_which_each_process_dies_cannot_be_had(classifier: Classifier) -> None:
    ends: list[int] = []
    runner = ProcessRunner(max_pixels=MAX_PIXELS, patience_s=0.02, on_end=lambda: ends.append(1))  # less than Python takes to start
    with pytest.raises(InferenceError, match=r"gave no answer for .*, twice, .*--no-processes"):
        runner.prepare(classifier)
    with pytest.raises(InferenceError, match="twice"):  # which is nothing that an image could be blamed for
        runner.run(classifier, [picture(1)], size_px=SIZE)
    assert runner.deaths == len(ends) == 4
    runner.close()


def test_an_answer_that_nobody_took_is_never_taken_for_the_next(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, [picture(2)], size_px=SIZE)

    def no_memory() -> None:
        raise MemoryError

    runner._connection.recv = no_memory  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        runner.run(classifier, [picture(1)], size_px=SIZE)
    assert same(runner.run(classifier, [picture(2)], size_px=SIZE), expected)


def test_it_closes_while_its_process_stands_still_and_starts_no_other(runner: ProcessRunner, classifier: Classifier) -> None:
    runner.prepare(classifier)
    number = stop(runner)
    told: list[BaseException] = []

    def held() -> None:
        try:
            runner.run(classifier, [picture(1)], size_px=SIZE)
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
    expected = runner.run(classifier, [picture(1)], size_px=SIZE)
    number = runner.process_id
    assert number is not None
    os.kill(number, signal.SIGKILL)
    wait_until(lambda: not alive(number))

    def none_left(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", none_left)
        with pytest.raises(InferenceError, match="cannot be started: Resource temporarily unavailable"):
            runner.run(classifier, [picture(1)], size_px=SIZE)
    assert same(runner.run(classifier, [picture(1)], size_px=SIZE), expected)


def test_a_bug_in_the_process_is_raised_with_its_traceback_and_another_process_takes_over(runner: ProcessRunner, classifier: Classifier) -> None:
    expected = runner.run(classifier, [picture(1)], size_px=SIZE)
    first = runner.process_id
    with pytest.raises(RuntimeError, match=r"(?s)in a worker process:.*Traceback.*ValueError"):
        runner.run(classifier, [np.zeros((1, 1, 3), dtype=np.uint8)], size_px=SIZE)  # not the size that it says
    assert runner.deaths == 1
    assert same(runner.run(classifier, [picture(1)], size_px=SIZE), expected)
    assert runner.process_id != first


def test_a_network_that_opens_on_another_provider_there_is_not_run(
    runner: ProcessRunner, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "provider", "CUDAExecutionProvider")
    with pytest.raises(InferenceError, match="CPUExecutionProvider in a worker process"):
        runner.run(classifier, [picture(1)], size_px=SIZE)


def test_networks_that_nobody_uses_any_more_are_let_go_of(runner: ProcessRunner, classifier: Classifier) -> None:
    other = Classifier(SHIPPED, device="cpu", threads=1)
    runner.prepare(other)
    runner.prepare(classifier)
    assert len(runner._held) == 2
    del other
    gc.collect()
    runner.run(classifier, [picture(1)], size_px=SIZE)
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
