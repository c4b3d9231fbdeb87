"""Files → predictions: the pipeline against the loop that most people write, with the same file on the same images, and against what can be had."""

import statistics
from typing import Any

import pytest

from benchmarks.conftest import MODEL
from benchmarks.contest import usable_providers
from benchmarks.race import Race, Racer, against, raced
from benchmarks.records import ReplayClock
from benchmarks.steadiness import Plan
from benchmarks.tasks.files import STAGES
from cellclf.runtime.providers import PROVIDERS

CLOCK = ReplayClock()
FOLDER_OF = 4
"""How often each image is taken where a whole folder's time is wanted."""

BATCHES = (1, 4, 16, 64)

pytestmark = [pytest.mark.benchmark(timer=CLOCK), pytest.mark.timeout(600)]


def exact_providers() -> list[str]:
    """Providers of this machine that compute in the file's own precision."""
    return [name for name in usable_providers() if not PROVIDERS[name].golden_tolerance]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The table's providers; a quick run measures one of them, on a machine with a GPU the GPU, in its own batches."""
    if "device" not in metafunc.fixturenames:
        return
    providers = exact_providers()
    gpus = [name for name in providers if PROVIDERS[name].gpu]
    full = metafunc.config.getoption("--full")
    chosen = providers if full else [*gpus, "cpu"][:1]
    if "batch" not in metafunc.fixturenames:
        metafunc.parametrize("device", chosen)
        return
    sizes = {name: sorted({PROVIDERS[name].batch, *(BATCHES if full and name == "cpu" else ())}) for name in chosen}
    metafunc.parametrize(("device", "batch"), [(name, size) for name, found in sizes.items() for size in found])


def naive_loop(files: list[str]) -> Racer:
    """The plain loop on these files."""
    return Racer("naive-loop", {"model": str(MODEL), "files": files})


def pipeline(files: list[str], device: str, batch: int | None = None) -> Racer:
    """Ours on these files."""
    return Racer("pipeline", {"model": str(MODEL), "device": device, "files": files, "batch": batch})


def require_same_labels(race: Race, peer: str) -> None:
    """Fail where ours and the plain loop do not say the same of every file."""
    found = race.facts[race.ours]["labels"]
    assert found and None not in found
    assert found == race.facts[peer]["labels"]


def test_files_to_predictions_against_a_naive_loop(benchmark: Any, cells: list[str], device: str, batch: int, races: Plan) -> None:
    """Target: ≥ 4 times the naive loop, which gives the same labels; what the cores allow at most is most_over_naive of the bound."""
    race = raced({"ours": pipeline(cells, device, batch), "naive": naive_loop(cells)}, plan=races)
    require_same_labels(race, "naive")
    against(benchmark, CLOCK, race, peer="naive", target=4.0)
    benchmark.extra_info |= {"provider": race.facts["ours"]["provider"], "images": len(cells), "images_per_second": len(cells) / race.seconds("ours")}


def test_the_work_conserving_bound(benchmark: Any, cells: list[str], device: str, races: Plan) -> None:
    """Target: ≥ 90 % of the bound. On a CPU that is what as many independent processes as cores reach, each with its part of the files and nothing
    to wait for; on a GPU the slower of its two: those processes decoding only, and the network alone on images in memory.

    Each file is taken several times, so that a round is as long as a folder of some thousand files. A core's time alone is no bound: two cores at
    work share caches and memory, and are together slower than twice one. most_over_naive: how far the bound is above the naive loop, which no
    pipeline of this decoder and network exceeds.
    """
    files = cells * FOLDER_OF
    gpu = PROVIDERS[device].gpu
    shares = {"model": str(MODEL), "files": files}
    bound = {"shares": Racer("shares", {**shares, "device": "cpu" if gpu else device, "infer": not gpu})}
    if gpu:
        bound["network"] = Racer("inference", {"model": str(MODEL), "device": device, "images": len(files)})
    race = raced({"ours": pipeline(files, device), **bound, "naive": naive_loop(files)}, plan=races)
    require_same_labels(race, "naive")
    slower = max(bound, key=race.seconds)
    against(benchmark, CLOCK, race, peer=slower, target=0.9)
    benchmark.extra_info |= {
        "provider": race.facts["ours"]["provider"],
        "batch": race.facts["ours"]["batch"],
        "bound": slower,
        "share_of_bound": benchmark.extra_info["peer_over_ours"],
        "images": len(files),
        "naive_over_ours": statistics.median(race.ratios("naive").wall),
        "most_over_naive": race.seconds("naive") / race.seconds(slower),
    }


def test_where_the_time_goes(benchmark: Any, cells: list[str], races: Plan) -> None:
    """Milliseconds of one core an image, stage by stage. Resize is what decoding to the network's size takes more than to the image's own."""
    race = raced({"ours": Racer("stages", {"model": str(MODEL), "files": cells})}, plan=races)
    against(benchmark, CLOCK, race)
    benchmark.extra_info |= {"images": len(cells), **race.facts["ours"]}
    assert set(race.facts["ours"]["stages_ms"]) == set(STAGES)
