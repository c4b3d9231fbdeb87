"""pytest-benchmark's file → docs/results/speed.json and speed.md: python -m benchmarks.speed_page NEW.json [--keep]. Written by `make results-speed`.

--keep: benchmarks that NEW.json does not hold stay as they were measured (--keep PART: those of them whose name holds PART); each row says of which
commit it is.
"""

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from benchmarks.records import WINDOWS_KEY
from benchmarks.steadiness import NEEDED, TOLERANCE

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
SHOWN = (
    "images_per_second",
    "naive_over_ours",
    "share_of_bound",
    "most_over_naive",
    "images",
    "limit",
    "share_of_step",
    "share_of_step_keras",
    "test_accuracy_ours",
    "test_accuracy_keras",
    "test_accuracy_peer",
)
_BY_OPENING = "peer_over_ours_by_opening"
SINGLE_INT8 = "test_one_image_in_int8_against_openvino_s_own_loop"


_OLDER = "†: measured before windows were kept, ours and the peer in turn in one process, in as many rounds as stand under windows."


def merged(new: dict[str, Any], old: dict[str, Any] | None, keep: str = "") -> dict[str, Any]:
    """The new file, its benchmarks marked with their commit; of the old one what the new one does not hold and whose name holds `keep`."""
    for found in new["benchmarks"]:
        found["extra_info"]["commit"] = new["environment"]["git_commit"]
    names = {found["name"] for found in new["benchmarks"]}
    kept = [found for found in old["benchmarks"] if found["name"] not in names and keep in found["name"]] if old else []
    for found in kept:
        found["extra_info"].setdefault("commit", old["environment"]["git_commit"] if old else "")
    return {**new, "benchmarks": kept + new["benchmarks"]}


def row(found: dict[str, Any]) -> str:
    """One benchmark as a line of the table; `*` where the windows never agreed."""
    extra = found["extra_info"]
    older = "steady" not in extra
    if older:
        extra = {**extra, "ours_s": found["stats"]["median"], "steady": {"ours": True}, WINDOWS_KEY: {"ours": found["stats"]["data"]}}
    steady = extra["steady"]
    peer = ratio = ""
    if "peer_median_s" in extra:
        peer = f"{extra['peer_median_s']:.3f}" + _mark(all(agreed for name, agreed in steady.items() if name != "ours"))
        ratio = f"{extra['peer_over_ours']:.2f} ({extra['peer_over_ours_lowest']:.2f}–{extra['peer_over_ours_highest']:.2f})"
    others = [f"{name} {extra[name]:,.2f}" for name in SHOWN if name in extra]
    if "stages_ms" in extra:
        others.append("ms an image: " + ", ".join(f"{stage} {value:.3f}" for stage, value in extra["stages_ms"].items()))
    windows = len(extra[WINDOWS_KEY]["ours"])
    cells = [
        found["name"] + " †" * older,
        f"{extra['ours_s']:.3f}" + _mark(steady["ours"]),
        peer,
        ratio,
        _target(extra),
        windows,
        ", ".join(others),
        extra["commit"],
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _mark(steady: bool) -> str:
    return "" if steady else " *"


def _target(extra: dict[str, Any]) -> str:
    """The target and whether it was reached."""
    doubt = "" if all(extra["steady"].values()) else ", not steady"
    if extra.get("target"):
        return f"≥ {extra['target']:.2f}: {'reached' if extra['peer_over_ours'] >= extra['target'] else 'MISSED'}{doubt}"
    if "target_s" in extra:
        return f"≤ {extra['target_s']} s: {'reached' if extra['ours_s'] <= extra['target_s'] else 'MISSED'}{doubt}"
    return ""


def quicker_than_openvino(benchmarks: list[dict[str, Any]]) -> list[str]:
    """Of benchmarks/test_openvino.py: the geometric mean over the backbones of the better of our two providers."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in benchmarks:
        test, _, names = each["name"].partition("[")
        if test == SINGLE_INT8:
            found.setdefault(names.rstrip("]").partition("-")[2], []).append(each["extra_info"])
    if not found:
        return []
    best = [max(rows, key=lambda extra: extra["peer_over_ours"]) for rows in found.values()]
    mean = math.exp(statistics.fmean(math.log(extra["peer_over_ours"]) for extra in best))
    lines = [
        "",
        f"One image in int8, the quicker of our providers against OpenVINO's own loop: {mean:.3f}, the geometric mean of {', '.join(found)};",
        f"target ≥ 1: {'reached' if mean >= 1 else 'MISSED'}.",
    ]
    if all(_BY_OPENING in extra for extra in best):
        own, like = ([[math.log(ratio) for ratio in extra[key]] for extra in best] for key in (_BY_OPENING, "peer_over_its_like_by_opening"))
        lines += [
            f"By opening, each with processes of its own: {_mean_and_doubt(own)} (geometric mean ± two standard errors); OpenVINO's own loop against",
            f"itself in a second process: {_mean_and_doubt(like)}. Which provider is the quicker was told by these very figures: a little too good.",
        ]
    return [*lines, "The provider openvino is the same runtime: its ratios differ from 1 by what our engine adds, and noise."]


def _mean_and_doubt(logs: list[list[float]]) -> str:
    """Of logarithms of ratios, a row each: their geometric mean over the rows, and two standard errors of it, from what differs within rows."""
    mean = statistics.fmean(statistics.fmean(row) for row in logs)
    doubt = 2 * math.sqrt(sum(statistics.variance(row) / len(row) for row in logs)) / len(logs)
    return f"{math.exp(mean):.3f} ± {doubt:.3f}"


def of_one_cores_time(benchmarks: list[dict[str, Any]], cores: int) -> list[str]:
    """The pipeline's speed beside 1 / (all stages of one core that works alone), times the cores; [] where one of the two was not measured."""
    by_name = {found["name"]: found for found in benchmarks}
    stages, whole = by_name.get("test_where_the_time_goes"), by_name.get("test_the_work_conserving_bound[cpu]")
    if stages is None or whole is None:
        return []
    rate = whole["extra_info"]["images"] / whole["extra_info"]["ours_s"]
    bound = 1000 * cores / sum(stages["extra_info"]["stages_ms"].values())
    return [
        "",
        f"Files → predictions reach {rate:,.0f} images/s: {rate / bound:.2f} of what {cores} cores would if each were as quick beside the other as",
        "one alone (1 / the sum of the stages above, each). No two processes are, not even with nothing to do with one another: they share caches",
        "and memory. share_of_bound is therefore of what independent processes really reach.",
    ]


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("new", type=Path)
    parser.add_argument("--keep", nargs="?", const="", metavar="PART", help="of the benchmarks that NEW.json lacks, those whose name holds this")
    options = parser.parse_args()
    old = json.loads((RESULTS / "speed.json").read_text()) if options.keep is not None else None
    results = merged(json.loads(options.new.read_text()), old, options.keep or "")
    (RESULTS / "speed.json").write_text(json.dumps(results, indent=4) + "\n")
    machine = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    gpu = ", ".join(machine["gpus"]) or "none (gpu.md has one)"
    lines = [
        "# Speed",
        "",
        "Written by `make results-speed` (a part: `python -m benchmarks.speed_page --keep`) from speed.json; no figure is typed. Medians in seconds.",
        "Ours and the peer each have a process of their own, on the same cores, and stand still while another works; after a warm-up, windows are",
        f"taken in turn, the order rotating, until everyone's agree within {TOLERANCE:.0%} in the same {NEEDED} rounds, which give the figures",
        "(all rounds do where there are no such: `*`). Ratios peer / ours are taken round by round (median, lowest–highest), so",
        "they hold although the machine is shared and noisy. What is compared stands in each benchmark's docstring (benchmarks/).",
        "share_of_bound: of what as many independent processes as cores reach;",
        "most_over_naive: how far that bound is above the naive loop, so no pipeline of this decoder and network gains more on this machine.",
        "share_of_step: what varying the images takes of a training step, by our layer and by Keras' (whose images a second the peer's are);",
        "limit: how many times more images the peer sends through the frozen backbone; ours runs it with constant weights, which is quicker.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, GPU: {gpu}. Python {machine['python']}, {versions}.",
        "",
        "| benchmark | ours, s | peer, s | peer / ours | target | windows | | commit |",
        "|---|---|---|---|---|---|---|---|",
        *[row(found) for found in results["benchmarks"]],
        *(["", _OLDER] if any("steady" not in found["extra_info"] for found in results["benchmarks"]) else []),
        *of_one_cores_time(results["benchmarks"], machine["cores"]),
        *quicker_than_openvino(results["benchmarks"]),
    ]
    (RESULTS / "speed.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
