"""docs/results/training.json → training.md: python -m benchmarks.training_page [RAW.json]; RAW is pytest-benchmark's. `make results-training`."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.records import WINDOWS_KEY
from benchmarks.steadiness import NEEDED, TOLERANCE
from benchmarks.training_records import TRAINING_KEY
from cellclf.backbones import BACKBONES
from cellclf.gains import Gain
from cellclf.training.recipe import Recipe

__all__ = ["page"]

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
DEFAULT = (Recipe.model_fields["precision"].default, Recipe.model_fields["batch_size"].default)
_KEPT = ("environment", "datetime")


def page(content: dict[str, Any]) -> str:
    """The whole page as Markdown."""
    machine = content["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if name in ("keras", "tensorflow", "numpy"))
    lines = [
        "# CPU: what a training step costs",
        "",
        "Written by `make results-training` from training.json; no figure is typed.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; Python {machine['python']}, {versions};",
        f"commit {machine['git_commit']}, {content['datetime'][:10]}.",
        "",
        *_rows([each["extra_info"][TRAINING_KEY] for each in content["benchmarks"]]),
    ]
    return "\n".join([*lines, ""])


def _rows(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        "Steps of `cellclf train`'s own network and loss on pixels from the image cache, fed as it feeds them, without augmentation. Precisions",
        f"have a process each; ways are timed in turn, a figure counts when {NEEDED} windows in a row agree within {TOLERANCE:.0%} (`*`: they",
        "never did). Input stall: what a step takes longer than with a batch that stays in memory; below 0 it is noise. Compiling and validation are",
        "measured at the smallest batch, RAM is the most that the process held through all its batch sizes. The time of a study's row is an",
        "estimate: compiling, the epochs at this speed, and their passes over validation images; decoding, which is done once a data set, and",
        "start-up are left out.",
        f"Load average {_range(found, 'load_average', '.1f')}, other processes' share of the machine {_range(found, 'others_share', '.0%')} (median,",
        "lowest–highest of all windows).",
        "",
        "| backbone | px | precision | batch | images/s | input stall | compile s | validation images/s | RAM MB | study row, estimated h |",
        "|---" * 10 + "|",
    ]
    told = set()
    for each in found:
        row = each["study_row"]
        stall = "" if each["input_stall"] is None else f"{each['input_stall']:+.1%}"
        hours = "" if row is None else f"{row['estimated_s'] / 3600:.1f} ({row['study']}; {row['images']} images, {row['epochs']} epochs)"
        process = (each["backbone"], each["image_size_px"], each["precision"])
        once = [f"{each['compile_s']:.1f}", f"{each['predict_images_per_second']:.1f}", _megabytes(each["peak_ram_mb"])]
        lines.append(
            f"| {BACKBONES[each['backbone']].title} | {each['image_size_px']} | {each['precision']} | {each['batch']} "
            f"| {each['images_per_second']:.2f}{'' if each['steady'] else ' *'} | {stall} "
            f"| {' | '.join(['', '', ''] if process in told else once)} | {hours} |"
        )
        told.add(process)
    return [*lines, *_quickest(found)]


def _quickest(found: list[dict[str, Any]]) -> list[str]:
    """For each network that was trained in several ways: the quickest, and what `cellclf train` does where it is told nothing."""
    networks = dict.fromkeys((each["backbone"], each["image_size_px"]) for each in found)
    lines = []
    for backbone, size in networks:
        ways = [each for each in found if (each["backbone"], each["image_size_px"]) == (backbone, size)]
        usual = next((each for each in ways if (each["precision"], each["batch"]) == DEFAULT), None)
        if len(ways) > 1 and usual is not None:
            gains = {(each["precision"], each["batch"]): _gain(each, usual) for each in ways}
            best = max((way for way in gains if way == DEFAULT or gains[way].better), key=lambda way: gains[way].value)
            figure = "" if best == DEFAULT else f"{gains[best].value:.2f} ± {gains[best].noise:.2f}"
            lines.append(f"| {BACKBONES[backbone].title} | {size} | {best[0]} at batch {best[1]}{' (the default)' * (best == DEFAULT)} | {figure} |")
    if not lines:
        return []
    return [
        "",
        f"Quickest on this machine beyond the noise, against the default, {DEFAULT[0]} at batch {DEFAULT[1]} (median over the rounds ± half their",
        "range). `--precision auto` and `--batch-size auto` of `cellclf train` measure it on the machine and network at hand.",
        "",
        "| backbone | px | quickest | × the default |",
        "|---|---|---|---|",
        *lines,
    ]


def _gain(each: dict[str, Any], usual: dict[str, Any]) -> Gain:
    own, other = each["rounds_images_per_second"], usual["rounds_images_per_second"]
    return Gain([own[number] / other[number] for number in own if number in other])


def _range(found: list[dict[str, Any]], name: str, style: str) -> str:
    windows = [window for each in found for feed in each[WINDOWS_KEY].values() for window in feed]
    values = [window[name] for window in windows if window[name] is not None]
    if not values:
        return "not known"
    return f"{statistics.median(values):{style}} ({min(values):{style}}–{max(values):{style}})"


def _megabytes(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def main() -> None:
    """Write the page; with an argument, store that run first."""
    stored = RESULTS / "training.json"
    if len(sys.argv) > 1:
        raw = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        rows = [{"name": each["name"], "extra_info": each["extra_info"]} for each in raw["benchmarks"] if TRAINING_KEY in each["extra_info"]]
        stored.write_text(json.dumps({**{key: raw[key] for key in _KEPT}, "benchmarks": rows}, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "training.md").write_text(page(json.loads(stored.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
