"""What `cellclf tune` found, in service: which networks run by it, where it is said, and when workers can be processes."""

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellclf import Classifier
from cellclf.card import read_model_file
from cellclf.errors import MissingExtraError, ServingError, VerificationError
from cellclf.runtime.buckets import bucket_of
from cellclf.runtime.plan import Machine, Plan, plan_path
from cellclf.runtime.providers import PROVIDERS
from cellclf.serving.keys import Keys
from cellclf.serving.models import load, sources_of, why_not_apart
from cellclf.serving.processes import ProcessRunner
from cellclf.serving.server import Server, bind
from cellclf.serving.settings import Settings
from cellclf.serving.worker import Load, _opened
from tests.model_files import resigned, scaled_head
from tests.runtime.test_plan import plan_for, recorded_openings
from tests.serving.conftest import SHIPPED, Running, needs_openvino, picture, serving, wait_until

CPU, OPENVINO = (PROVIDERS[name].runs_as for name in ("cpu", "openvino"))
CHANGES = {"created": "2099-01-01T00:00:00+00:00"}
Keep = Callable[..., Plan]
Logged = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keep:
    """keep(file, **fields): that plan is kept for the file from now on."""
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))

    def write(file: Path, **fields: object) -> Plan:
        plan = plan_for(read_model_file(file).fingerprint, **fields)
        plan.write(plan_path(plan.model))
        return plan

    return write


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """logged(event): the fields of each such event so far."""
    caplog.set_level(logging.INFO, "cellclf.serving")
    return lambda name: [vars(record)["fields"] for record in caplog.records if record.name == "cellclf.serving" and record.getMessage() == name]


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that nothing can be opened on is told of."""
    for module in ("runtime.plan", "runtime.session", "serving.processes"):
        monkeypatch.setattr(f"cellclf.{module}.gpu_count", lambda: 1)


def provider(running: Running, model: str) -> str:
    """The provider of a model, as its answers and the list of models name it alike."""
    (listed,) = (each["provider"] for each in running.client.get("/models").json() if each["name"] == model)
    (answer,) = running.post(f"/predict?model={model}", content=picture(1)).json()
    assert answer["provider"] == listed
    return str(listed)


@needs_openvino
@pytest.mark.parametrize("processes", [False, True])
def test_a_plan_that_holds_decides_the_provider_of_each_worker_and_is_logged_once(keep: Keep, logged: Logged, *, processes: bool) -> None:
    plan = keep(SHIPPED, device="openvino")
    with serving(SHIPPED, device="auto", processes=processes) as running:
        assert provider(running, SHIPPED.stem) == OPENVINO
        expected = Classifier(SHIPPED, device="openvino", threads=1).predict(picture(1)).probabilities
        assert running.post("/predict", content=picture(1)).json()[0]["probabilities"] == pytest.approx(expected, abs=1e-5)
        assert running.service.models.find().classifier.threads == 1
    version = plan.model[:12]
    assert logged("plan") == [
        {"model": SHIPPED.stem, "version": version, "outcome": "used", "device": "openvino", "options": {}, "measured": plan.measured}
    ]


def test_a_plan_of_another_machine_is_not_used_and_that_is_logged_as_predict_says_it(keep: Keep, logged: Logged) -> None:
    plan = keep(SHIPPED, device="openvino", machine=Machine.this().model_copy(update={"cpu": "another"}))
    notes: list[str] = []
    Classifier(SHIPPED, on_note=notes.append)
    with serving(SHIPPED, device="auto", processes=True) as running:
        assert provider(running, SHIPPED.stem) == CPU
    assert logged("plan") == [{"model": SHIPPED.stem, "version": plan.model[:12], "outcome": "not used", "reason": notes[0]}]


def test_a_device_that_is_asked_for_goes_before_the_plan_and_without_a_plan_nothing_is_logged(keep: Keep, logged: Logged) -> None:
    assert load(sources_of([str(SHIPPED)], device="auto")[0], Settings(threads=1)).classifier.provider == CPU
    keep(SHIPPED, device="openvino")
    with serving(SHIPPED, device="cpu") as running:
        assert provider(running, SHIPPED.stem) == CPU
    assert logged("plan") == []


@needs_openvino
def test_each_of_several_files_has_its_own_plan_or_none(keep: Keep, tmp_path: Path) -> None:
    other = resigned(SHIPPED, tmp_path / "other.onnx", card=CHANGES)
    keep(other, device="openvino")
    with serving(f"one={SHIPPED}", f"other={other}", device="auto", processes=True) as running:
        assert [provider(running, name) for name in ("one", "other")] == [CPU, OPENVINO]


@needs_openvino
@pytest.mark.parametrize("first", ["planned", "unplanned"])
def test_a_changed_file_takes_over_by_its_own_plan_or_none(keep: Keep, logged: Logged, tmp_path: Path, first: str) -> None:
    file, new = Path(shutil.copy(SHIPPED, tmp_path / "mine.onnx")), resigned(SHIPPED, tmp_path / "new", card=CHANGES)
    keep(file if first == "planned" else new, device="openvino")
    before, after = (OPENVINO, CPU) if first == "planned" else (CPU, OPENVINO)
    with serving(file, device="auto", processes=True, reload_s=0.01) as running:
        assert provider(running, "mine") == before
        new.replace(file)
        wait_until(lambda: [each["outcome"] for each in logged("reload")] == ["replaced"])
        assert provider(running, "mine") == after
    assert len(logged("plan")) == 1


@needs_openvino
def test_a_plan_that_is_kept_while_the_file_is_served_is_not_said_to_be_used_where_the_file_is_only_touched(
    keep: Keep, logged: Logged, tmp_path: Path
) -> None:
    file = Path(shutil.copy(SHIPPED, tmp_path / "mine.onnx"))
    with serving(file, device="auto", reload_s=0.01) as running:
        keep(file, device="openvino")
        file.touch()
        wait_until(lambda: [each["outcome"] for each in logged("reload")] == ["same"])
        assert provider(running, "mine") == CPU
    assert logged("plan") == []


@needs_openvino
def test_the_golden_cases_are_replayed_on_the_provider_of_the_plan(keep: Keep, tmp_path: Path) -> None:
    wrong = resigned(SHIPPED, tmp_path / "wrong.onnx", network=scaled_head(3.0))
    keep(wrong, device="openvino")
    with pytest.raises(VerificationError, match=f"on {OPENVINO} here"):
        load(sources_of([str(wrong)], device="auto")[0], Settings(threads=1))


def test_where_the_plans_provider_cannot_be_opened_no_other_takes_its_place(keep: Keep, logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(SHIPPED, device="openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    for opens in (lambda: load(sources_of([str(SHIPPED)], device="auto")[0], Settings(threads=1)), lambda: Classifier(SHIPPED)):
        with pytest.raises(MissingExtraError, match="device openvino"):
            opens()
    assert [each["outcome"] for each in logged("plan")] == ["used"], "the log tells whose wish it was"


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize(("planned", "apart"), [(None, False), ("cpu", True), ("openvino", True), ("cuda", False), ("xla", False)])
def test_where_there_is_a_gpu_workers_are_processes_if_the_plan_keeps_to_the_cpu(keep: Keep, planned: str | None, *, apart: bool) -> None:
    if planned is not None:
        keep(SHIPPED, device=planned)
    assert (why_not_apart(sources_of([str(SHIPPED)], device="auto")) is None) == apart
    assert why_not_apart(sources_of([str(SHIPPED)], device="cpu")) is None
    assert "GPU" in str(why_not_apart(sources_of([str(SHIPPED)], device="cuda")))


@pytest.mark.usefixtures("one_gpu")
def test_workers_are_threads_where_one_of_several_files_may_need_a_gpu(keep: Keep, tmp_path: Path) -> None:
    other = resigned(SHIPPED, tmp_path / "other.onnx", card=CHANGES)
    keep(SHIPPED, device="cpu")
    both = sources_of([str(SHIPPED), str(other)], device="auto")
    assert why_not_apart(both) is not None
    keep(other, device="cpu")
    assert why_not_apart(both) is None


@pytest.mark.usefixtures("one_gpu")
def test_processes_that_are_asked_for_and_a_plan_for_a_gpu_are_an_error_that_names_the_plan(keep: Keep) -> None:
    keep(SHIPPED, device="cuda")
    with bind("127.0.0.1", 0) as listener, pytest.raises(ServingError, match=r"plan of .*, for cuda: .*--no-processes"):
        Server(sources_of([str(SHIPPED)], device="auto"), Settings(threads=1, processes=True), listener=listener, keys=Keys({}))


@pytest.mark.usefixtures("one_gpu")
def test_a_changed_file_that_would_need_a_gpu_does_not_take_over_among_processes(keep: Keep, logged: Logged, tmp_path: Path) -> None:
    file, new = Path(shutil.copy(SHIPPED, tmp_path / "mine.onnx")), resigned(SHIPPED, tmp_path / "new", card=CHANGES)
    keep(file, device="cpu")
    with serving(file, device="auto", processes=True, reload_s=0.01) as running:
        new.replace(file)
        wait_until(lambda: len(logged("reload")) == 1)
        assert provider(running, "mine") == CPU
    assert logged("reload")[0]["outcome"] == "kept"
    assert "no worker processes for --device auto" in logged("reload")[0]["reason"]


@pytest.mark.parametrize(("batch", "max_batch", "sizes"), [(16, 64, [1, 2, 4, 8, 16]), (16, 3, [1, 2, 4]), (6, 64, [1, 2, 4, 8])])
def test_a_worker_opens_with_the_plans_options_and_makes_ready_for_its_batch_up_to_max_batch(
    keep: Keep, monkeypatch: pytest.MonkeyPatch, batch: int, max_batch: int, sizes: list[int]
) -> None:
    opened = recorded_openings(monkeypatch)
    plan = keep(SHIPPED, options={"some": "option"}, threads=1, batch=batch)
    ran: list[int] = []
    answer = Classifier.probabilities

    def counted(self: Classifier, images: Any) -> Any:
        ran.append(len(images))
        return answer(self, images)

    monkeypatch.setattr(Classifier, "probabilities", counted)
    network = _opened(Load(0, read_model_file(SHIPPED), "cpu", CPU, plan, max_batch))
    assert [(each["device"], each["threads"], each["sessions"], each["options"]) for each in opened] == [("cpu", 1, 1, {"some": "option"})]
    assert network.batch_size == batch
    assert ran == sizes
    assert all(bucket_of(size) in sizes for size in range(1, min(batch, max_batch) + 1))


def test_a_worker_process_is_told_the_plan_of_its_network(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = keep(SHIPPED, threads=1)
    runner = ProcessRunner(max_pixels=1_000_000, max_batch=7, patience_s=60.0)
    sent: list[Any] = []
    exchange = runner._exchange

    def heard(message: Any) -> Any:
        sent.append(message)
        return exchange(message)

    monkeypatch.setattr(runner, "_exchange", heard)
    try:
        runner.prepare(load(sources_of([str(SHIPPED)], device="auto")[0], Settings(threads=1, processes=True)).classifier)
    finally:
        runner.close()
    assert [(message.device, message.provider, message.plan, message.max_batch) for message in sent] == [("cpu", CPU, plan, 7)]
