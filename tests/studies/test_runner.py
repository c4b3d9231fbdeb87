"""Studies are really run here, on the small sample, in processes of their own."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellclf.errors import DataError, StudyError
from cellclf.studies.plan import PlannedRun, StudyPlan, open_study, start_study
from cellclf.studies.runner import StudyWatcher, run_study
from cellclf.studies.scale import Scale
from cellclf.studies.study import Study, Variation

FAST = {"epochs": 2, "image_size_px": 32, "weights": "none", "learning_rate": 1e-3, "batch_size": 8, "augmentation": "none", "patience": 0}


def small_study(**changes: object) -> Study:
    fields: dict[str, object] = {
        "name": "small",
        "title": "Small",
        "data": "sample",
        "protocols": ("official",),
        "factors": ("hidden",),
        "common": FAST,
        "variations": (
            Variation(name="one", title="One", backbone="mobilenet025", choices={"hidden": (4,)}),
            Variation(name="two", title="Two", backbone="mobilenet025", choices={"hidden": (4, 4)}),
        ),
    }
    return Study.model_validate({**fields, **changes})


def plan(study: Study, **changes: object) -> StudyPlan:
    fields: dict[str, object] = {"study": study, "scale": Scale(), "protocols": ("official",), "seeds": (0,)}
    return StudyPlan.model_validate({**fields, **changes})


class Recorder(StudyWatcher):
    def __init__(self) -> None:
        self.started: list[str] = []
        self.resumed: list[str] = []
        self.events: list[str] = []

    def run_started(self, planned: PlannedRun, *, resumed: bool) -> None:
        self.started.append(planned.name)
        self.events.append(f"start {planned.name}")
        if resumed:
            self.resumed.append(planned.name)

    def run_ended(self, planned: PlannedRun, *, seconds: float, left: int, seconds_left: float) -> None:
        self.events.append(f"end {planned.name}")


@pytest.fixture(autouse=True)
def _sample(sample_folder: Path) -> Iterator[None]:
    assert sample_folder.is_dir()
    yield


def test_seeds_come_outermost_and_every_combination_is_planned(tmp_path: Path) -> None:
    folder = start_study(plan(small_study(), protocols=("random", "official"), seeds=(0, 1)), tmp_path / "s")
    names = [planned.name for planned in folder.planned()]
    assert names[:4] == ["random-one-s0", "random-two-s0", "official-one-s0", "official-two-s0"]
    assert len(set(names)) == 8
    assert {planned.recipe.seed for planned in folder.planned()} == {0, 1}
    assert open_study(tmp_path / "s").plan.model_dump_json() == folder.plan.model_dump_json()


def test_a_folder_grows_by_seeds_and_protocols_but_keeps_its_study_and_scale(tmp_path: Path) -> None:
    start_study(plan(small_study()), tmp_path / "s")
    grown = start_study(plan(small_study(), protocols=("random",), seeds=(2,)), tmp_path / "s")
    assert (grown.plan.protocols, grown.plan.seeds) == (("official", "random"), (0, 2))
    with pytest.raises(StudyError, match=r"at another scale \(full scale\)"):
        start_study(plan(small_study(), scale=Scale(epochs=1)), tmp_path / "s")
    with pytest.raises(StudyError, match="another study of that name"):
        start_study(plan(small_study(title="Other")), tmp_path / "s")


def test_a_failed_run_does_not_stop_the_others_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELLCLF_WEIGHTS", raising=False)
    missing = tmp_path / "weights.h5"
    variations = (
        Variation(name="broken", title="Broken", backbone="mobilenet025", choices={"weights": str(missing)}),
        Variation(name="whole", title="Whole", backbone="mobilenet025"),
    )
    folder = start_study(plan(small_study(variations=variations)), tmp_path / "s")
    (failed,) = run_study(folder)
    broken, whole = folder.planned()
    assert failed == broken
    assert (broken.state, whole.state) == ("failed", "done")
    failure = broken.failure()
    assert failure is not None
    assert f"no weights file '{missing}'" in failure.reason
    assert whole.run.metrics().epochs_run == 2
    again = Recorder()
    run_study(folder, watcher=again)
    assert again.started == ["official-broken-s0"]


def test_a_run_that_is_killed_takes_only_itself_along_and_goes_on_next_time(tmp_path: Path) -> None:
    long = Variation(name="long", title="Long", backbone="mobilenet025", choices={"epochs": 40})
    short = Variation(name="short", title="Short", backbone="mobilenet025", choices={"epochs": 1})
    folder = start_study(plan(small_study(variations=(long, short))), tmp_path / "s")
    first, second = folder.planned()

    def kill_first() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and len(first.run.history() if first.run.folder.exists() else ()) < 2:
            time.sleep(0.05)
        os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), signal.SIGKILL)

    killer = threading.Thread(target=kill_first)
    killer.start()
    (failed,) = run_study(folder, watcher=_WritesPid(tmp_path / "pid", first.name))
    killer.join()
    failure = failed.failure()
    assert failed == first
    assert failure is not None
    assert failure.exit_code == -signal.SIGKILL
    assert "killed by signal 9 (out of memory?)" in failure.reason
    assert second.state == "done"
    recorder = Recorder()
    assert run_study(folder, watcher=recorder) == ()
    assert recorder.resumed == [first.name]
    assert [epoch.epoch for epoch in first.run.history()] == list(range(1, 41))


class _WritesPid(StudyWatcher):
    """Finds the process of one run by its name, once it has started."""

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, name

    def run_started(self, planned: PlannedRun, *, resumed: bool) -> None:
        if planned.name == self.name:
            threading.Thread(target=self._find, daemon=True).start()

    def _find(self) -> None:
        import multiprocessing

        while True:
            for child in multiprocessing.active_children():
                if child.name == self.name and child.pid:
                    self.file.write_text(str(child.pid), encoding="utf-8")
                    return
            time.sleep(0.02)


def test_runs_can_go_side_by_side(tmp_path: Path) -> None:
    folder = start_study(plan(small_study(common={**FAST, "epochs": 1}), jobs=2), tmp_path / "s")
    order = Recorder()
    assert run_study(folder, jobs=2, watcher=order) == ()
    assert order.events[:2] == ["start official-one-s0", "start official-two-s0"]
    assert sorted(order.events[2:]) == ["end official-one-s0", "end official-two-s0"]


def test_data_that_cannot_be_used_stop_the_study_before_anything_is_trained(tmp_path: Path) -> None:
    folder = start_study(plan(small_study(data=str(tmp_path / "nowhere"))), tmp_path / "s")
    with pytest.raises(DataError, match="nowhere"):
        run_study(folder)
    assert {planned.state for planned in folder.planned()} == {"waiting"}
