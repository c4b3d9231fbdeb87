"""docs/results/training.json → training.md: python -m benchmarks.training_page [RAW.json]; RAW is pytest-benchmark's. `make results-training`."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.training_records import TRAINING_KEY
from cellclf.backbones import BACKBONES
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
        "Steps of `cellclf train`'s own network and loss on pixels from the image cache, without augmentation. Input stall: what a step takes",
        "longer than with a batch that stays in memory. The time of a study's row is an estimate: compiling, the epochs at this speed, and their",
        "passes over validation images; decoding, which is done once a data set, and start-up are left out. `*`: windows never agreed.",
        "",
        "| backbone | px | precision | batch | images/s | input stall | compile s | validation images/s | RAM MB | study row, estimated h |",
        "|---" * 10 + "|",
    ]
    for each in found:
        row = each["study_row"]
        stall = "" if each["input_stall"] is None else f"{each['input_stall']:+.1%}"
        hours = "" if row is None else f"{row['estimated_s'] / 3600:.1f} ({row['study']}; {row['images']} images, {row['epochs']} epochs)"
        lines.append(
            f"| {BACKBONES[each['backbone']].title} | {each['image_size_px']} | {each['precision']} | {each['batch']} "
            f"| {each['images_per_second']:.2f}{'' if each['steady'] else ' *'} | {stall} | {each['compile_s']:.1f} "
            f"| {each['predict_images_per_second']:.1f} | {_megabytes(each['peak_ram_mb'])} | {hours} |"
        )
    return [*lines, *_quickest(found)]


def _quickest(found: list[dict[str, Any]]) -> list[str]:
    """For each network that was trained in several ways: the quickest, and what `cellclf train` does where it is told nothing."""
    networks = dict.fromkeys((each["backbone"], each["image_size_px"]) for each in found)
    lines = []
    for backbone, size in networks:
        ways = [each for each in found if (each["backbone"], each["image_size_px"]) == (backbone, size)]
        usual = next((each for each in ways if (each["precision"], each["batch"]) == DEFAULT), None)
        if len(ways) > 1 and usual is not None:
            best = max(ways, key=lambda each: float(each["images_per_second"]))
            gain = best["images_per_second"] / usual["images_per_second"]
            lines.append(f"| {BACKBONES[backbone].title} | {size} | {best['precision']} at batch {best['batch']} | {gain:.2f} |")
    if not lines:
        return []
    return [
        "",
        f"Quickest on this machine, against the default, {DEFAULT[0]} at batch {DEFAULT[1]}. `--precision auto` and `--batch-size auto` of",
        "`cellclf train` measure it on the machine and network at hand.",
        "",
        "| backbone | px | quickest | × the default |",
        "|---|---|---|---|",
        *lines,
    ]


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
