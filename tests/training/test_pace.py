"""What trains quickest here: measured, chosen, remembered."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cellclf.errors import CellclfError, RunError
from cellclf.gains import Gain
from cellclf.training import pace
from cellclf.training.pace import Pace, Paces, quickest
from cellclf.training.progress import Progress
from cellclf.training.recipe import Recipe
from tests.conftest import Completed, small_recipe

STEADY = {("float32", 32): 100.0, ("float32", 16): 90.0, ("float32", 64): 130.0, ("mixed_bfloat16", 32): 50.0}


class Notes(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def recipe(**choices: Any) -> Recipe:
    return small_recipe(**{"precision": "float32", "batch_size": 32, **choices})


def pretend(
    monkeypatch: pytest.MonkeyPatch,
    rates: Mapping[tuple[str, int], float | list[float]],
    *,
    cpu: bool = True,
    reopens: bool = True,
    dies_once: tuple[str, int] | None = None,
) -> list[tuple[str, int]]:
    """Processes that tell these rates, in turn where several are given, and die of what is not there; gives the list of what was asked."""
    asked: list[tuple[str, int]] = []
    died: list[tuple[str, int]] = []

    class Process:
        def __init__(self, recipe: Recipe) -> None:
            self.precision, self.cpu, self.opened = recipe.precision, cpu, 0

        def __enter__(self) -> "Process":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def open(self) -> None:
            self.opened += 1
            if not any(precision == self.precision for precision, _ in rates) or (self.opened > 1 and not reopens):
                raise RunError("it cannot be opened")

        def rate(self, batch: int, seconds: float) -> float:
            way = (self.precision, batch)
            if way not in rates or (seconds and way == dies_once and way not in died):
                died.append(way)
                raise RunError("it died")
            if seconds:
                asked.append(way)
            found = rates[way]
            return found if isinstance(found, float) else found[asked.count(way) - 1 if seconds else 0]

    monkeypatch.setattr(pace, "_Process", Process)
    return asked


def test_the_quickest_way_is_taken_and_what_died_of_it_left_out(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    asked = pretend(monkeypatch, STEADY)
    found = quickest(recipe(), precision=True, batch_size=True)
    assert (found.best.precision, found.best.batch_size) == ("float32", 64)
    assert found.left_out == dict.fromkeys(("mixed_bfloat16 at batch 16", "mixed_bfloat16 at batch 64"), "it died")
    assert [asked.count(way) for way in STEADY] == [5] * len(STEADY), "each as often, in turns"
    assert not (cache / "paces").exists(), "what a process died of is not remembered"
    assert set(asked[: len(STEADY)]) == set(STEADY), "all of them before any has its second turn"
    assert "quickest here: float32 at batch 64; against float32 at batch 32" in str(found)


def test_the_default_is_kept_where_the_gain_is_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {("float32", 32): 100.0, ("mixed_bfloat16", 32): [80.0, 90.0, 105.0, 130.0, 140.0]})
    assert quickest(recipe(), precision=True, batch_size=False).best.precision == "float32"


def test_a_default_is_left_for_no_less_than_a_twentieth(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {("float32", 32): 100.0, ("mixed_bfloat16", 32): 104.0})
    found = quickest(recipe(), precision=True, batch_size=False)
    assert found.gain(found.paces[1]).better and found.best is found.paces[0]


def test_a_precision_whose_process_cannot_be_opened_again_is_left_out_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {("float32", 32): 100.0, ("mixed_bfloat16", 32): 150.0, ("mixed_bfloat16", 16): 150.0}, reopens=False)
    monkeypatch.setattr(pace, "CPU_BATCHES", (16, 32, 64))
    found = quickest(recipe(), precision=True, batch_size=False)
    assert found.best.precision == "mixed_bfloat16" and not found.left_out
    with pytest.raises(RunError, match="it died"):  # float32 at batch 16 dies, and the default's process with it
        quickest(recipe(), precision=True, batch_size=True)


def test_a_default_that_dies_once_of_another_s_memory_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {("float32", 32): 100.0, ("mixed_bfloat16", 32): 150.0}, dies_once=("float32", 32))
    assert quickest(recipe(), precision=True, batch_size=False).best.precision == "mixed_bfloat16"


def test_only_what_is_asked_for_is_chosen_and_a_given_value_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretend(monkeypatch, STEADY | {("mixed_bfloat16", 8): 55.0, ("float32", 8): 10.0})
    assert quickest(recipe(batch_size=8), precision=True, batch_size=False).best.precision == "mixed_bfloat16"
    assert set(asked) == {("float32", 8), ("mixed_bfloat16", 8)}
    assert quickest(recipe(precision="mixed_bfloat16"), precision=False, batch_size=True).best.batch_size == 32


def test_larger_batches_of_slow_networks_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretend(monkeypatch, {("float32", 32): 5.0, ("float32", 16): 6.0, ("float32", 64): 9.0})
    found = quickest(recipe(), precision=False, batch_size=True)
    assert ("float32", 64) not in asked
    assert found.left_out == {"float32 at batch 64": "a step of the default takes over 5 s"}
    assert found.best.batch_size == 16


def test_a_gpu_gets_larger_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {("float32", size): 100.0 + size for size in pace.GPU_BATCHES}, cpu=False)
    assert quickest(recipe(), precision=False, batch_size=True).best.batch_size == 256


def test_a_default_that_cannot_be_trained_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {("mixed_bfloat16", 32): 50.0})
    with pytest.raises(RunError, match="float32 cannot be trained here: it cannot be opened"):
        quickest(recipe(), precision=True, batch_size=False)


def test_an_answer_is_remembered_until_the_question_is_another(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    asked = pretend(monkeypatch, STEADY)
    first = quickest(recipe(), precision=False, batch_size=True)
    often = len(asked)
    assert quickest(recipe(), precision=False, batch_size=True) == first
    assert len(asked) == often
    quickest(recipe(augmentation="light"), precision=False, batch_size=True)
    assert len(asked) > often
    assert len(list((cache / "paces").glob("*.json"))) == 2


def test_a_damaged_answer_is_measured_anew_and_said(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    asked = pretend(monkeypatch, STEADY)
    quickest(recipe(), precision=False, batch_size=True)
    (file,) = (cache / "paces").glob("*.json")
    content = json.loads(file.read_text())
    content["paces"][0]["images_per_second"][0] = -1
    file.write_text(json.dumps(content))
    often, notes = len(asked), Notes()
    quickest(recipe(), precision=False, batch_size=True, progress=notes)
    assert len(asked) == 2 * often
    assert "measured anew: " in notes.texts[0]


def test_a_gain_counts_when_it_is_beyond_the_noise() -> None:
    assert Gain([1.2, 1.21, 1.19, 5.0, 0.1]).better
    assert not Gain([1.2, 0.9, 1.5, 1.1, 1.0]).better
    assert Gain([2.0]).value == 2 and Gain([2.0]).noise == 0


def test_features_that_are_computed_once_have_no_steps_to_measure() -> None:
    with pytest.raises(CellclfError, match="with a frozen backbone the features are computed once: give a value"):
        quickest(recipe(freeze="all", augmentation="none"), precision=True, batch_size=False)


def test_real_steps_are_timed_in_processes_of_their_own_and_a_dying_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_WINDOW_S", 0.0)
    found = quickest(recipe(batch_size=2), precision=True, batch_size=False)
    assert {each.precision for each in found.paces} == {"float32", "mixed_bfloat16"}
    assert all(rate > 0 for each in found.paces for rate in each.images_per_second)
    assert isinstance(found, Paces) and isinstance(found.best, Pace)
    with pace._Process(recipe()) as process:
        process.open()
        with pytest.raises(RunError, match=r"ended with 1: .*images_per_second.*batch"):
            process._ask(json.dumps({"seconds": 0}))


def test_what_cannot_be_measured_is_said_at_once(cli: Any, tmp_path: Path) -> None:
    found: Completed = cli("train", "--data", "sample", "--batch-size", "many")
    assert found.code == 2
    assert "'many' is neither a number of images nor auto" in found.err
    found = cli("train", "--data", "sample", "--precision", "Auto")
    assert found.code == 2
    assert "'Auto' is none of float32, mixed_bfloat16, mixed_float16, auto" in found.err
    (tmp_path / "runs" / "there").mkdir(parents=True)
    found = cli("train", "--data", "sample", "--batch-size", "auto", "--name", "there", "--runs", str(tmp_path / "runs"), "--weights", "none")
    assert found.code == 1 and "there exists already" in found.err, "said before minutes are spent on measuring"
    found = cli("train", "--data", "sample", "--batch-size", "auto", "--freeze", "all", "--weights", "none")
    assert (found.code, found.out) == (1, "")
    assert found.err.count("\n") == 1 and "give a value" in found.err


def test_an_answer_that_cannot_be_kept_is_used_and_that_is_said(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    pretend(monkeypatch, STEADY)
    cache.mkdir()
    (cache / "paces").write_text("a file where the folder would be")
    notes = Notes()
    assert quickest(recipe(), precision=False, batch_size=True, progress=notes).best.batch_size == 64
    assert notes.texts[0].startswith("not remembered: ")


def test_an_answer_whose_default_was_cut_out_is_measured_anew(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    asked = pretend(monkeypatch, STEADY)
    quickest(recipe(), precision=False, batch_size=True)
    (file,) = (cache / "paces").glob("*.json")
    content = json.loads(file.read_text())
    content["paces"] = content["paces"][1:]
    file.write_text(json.dumps(content))
    often = len(asked)
    quickest(recipe(), precision=False, batch_size=True)
    assert len(asked) == 2 * often
