"""docs/results/cpu.json → cpu.md: python -m benchmarks.cpu_page [RAW.json]…; RAW is pytest-benchmark's. Written by `make results-cpu`."""

import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cpu_rows import Row, Target, compact, rows_of, targets
from benchmarks.engines import ENGINES, OURS
from benchmarks.records import WINDOWS_KEY
from benchmarks.steadiness import NEEDED, TOLERANCE
from cellclf.backbones import BACKBONES

__all__ = ["page"]

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
NOTHING = "not measured"
_OF_ONE_PART = ("keras_backend", "provider")
"""Fields of the environment that tell what the run's last test used."""


def page(content: dict[str, Any]) -> str:
    """The whole page as Markdown."""
    rows = rows_of(content)
    batches = sorted({row.measured.batch for row in rows if row.whole_machine})
    lines = [*_head(content, rows)]
    if batches:
        lines += ["", "## Against the targets", "", *_targets(targets(rows, small=batches[0], large=batches[-1]))]
    lines += ["", "## Predictions", *_subjects(rows), "", "## Accuracy of exactly these files", "", *_accuracy(rows)]
    return "\n".join([*lines, ""])


def _head(content: dict[str, Any], rows: Sequence[Row]) -> list[str]:
    machine = content["environment"]
    versions = {f"{name} {version}" for row in rows for name, version in row.extra["versions"].items() if name != "cellclf"}
    unsteady = sum(not row.measured.steady for row in rows)
    windows = [window for row in rows for window in row.extra[WINDOWS_KEY]]
    skeletons = sorted({row.measured.model for row in rows if row.measured.made == "skeleton"})
    missing = sorted({reason for row in rows for name, reason in row.extra["not_measured"].items() if name == "joules_per_image"})
    return [
        "# CPU: what a prediction costs",
        "",
        "Written by `make results-cpu` from cpu.json, which holds the raw samples; no figure is typed.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; Python {machine['python']}, {', '.join(sorted(versions))};",
        f"commit {machine['git_commit']}, {content['datetime'][:10]}.",
        f"Clocks {_range(windows, 'mhz', '{:.0f}')} MHz, load average {_range(windows, 'load_average', '{:.1f}')},",
        f"other processes' share of the machine {_range(windows, 'others_share', '{:.0%}')}, stolen by the hypervisor",
        f"{_range(windows, 'stolen_share', '{:.0%}')} (median, lowest–highest of {len(windows)} windows).",
        "",
        "Each engine has a process of its own, with the threads stated, and stands still while another works. After a warm-up, windows of a second",
        f"or more are taken in turn, the order rotating. A figure counts when {NEEDED} windows in a row agree within {TOLERANCE:.0%}; `*` marks",
        f"those that never did ({unsteady} of {len(rows)}). `× loop` is the speed over the plain ONNX Runtime loop in fp32 in the same rounds",
        "(median of all rounds), so it holds although the machine drifts; `× loop, cpu` is the same by processor time, which no busy neighbour",
        "stretches, but which counts the plain loop's threads that spin while they wait, too. images/s: the batch over the median call.",
        "A percentile stands where there were calls enough that one lies beyond it. RAM: the most that the engine's process held, its packages and",
        "opening included.",
        "A peer that is asked for one provider and gets another is no row: that benchmark fails.",
        "",
        *(f"Weights do not change an operator's speed. {each}." for each in skeletons),
        *(f"Energy: {NOTHING}; {reason}." for reason in missing),
    ]


def _range(windows: Sequence[dict[str, Any]], name: str, style: str) -> str:
    values = [window[name] for window in windows if window[name] is not None]
    if not values:
        return NOTHING
    return f"{style.format(statistics.median(values))} ({style.format(min(values))}–{style.format(max(values))})"


def _targets(found: Sequence[Target]) -> list[str]:
    lines = ["| | each backbone | mean | mean, cpu | target | |", "|---|---|---|---|---|---|"]
    for each in found:
        marks = {name: " *" if name in each.unsteady else "" for name in each.factors}
        factors = ", ".join(f"{BACKBONES[name].title} {factor:.2f}{marks[name]}" for name, factor in each.factors.items()) or NOTHING
        verdict = "reached" if each.mean is not None and each.mean >= each.wanted else "not reached"
        verdict += ", not all of it steady" if each.unsteady else ""
        if each.mean is None:
            verdict = f"{len(each.factors)} of {len(each.backbones)} backbones measured"
        lines.append(f"| {each.text} | {factors} | {_number(each.mean)} | {_number(each.processor_mean)} | ≥ {each.wanted:g} | {verdict} |")
    return [*lines, "", *_NOT_HERE]


_NOT_HERE = (
    "Single images in int8 against OpenVINO's own loop in many short turns, which tells smaller differences: speed.md. What int8 answers: spine.md,",
    "and cost.md of these five trained from a random start; with ImageNet weights it is not measured, for there are none of them here. The int8 file",
    "of a trained network keeps more of its first convolutions in fp32 where its answers would move too far: cost.md measures such files.",
)


def _number(value: float | None, style: str = ".2f") -> str:
    return "" if value is None else format(value, style)


def _subjects(rows: Sequence[Row]) -> list[str]:
    """A table a network, threads and sessions."""
    lines = []
    for key in dict.fromkeys(_setting(row) for row in rows):
        chosen = [row for row in rows if _setting(row) == key]
        first = chosen[0].measured
        sessions = "one session" if first.sessions == 1 else f"{first.sessions} sessions side by side"
        made = f"`{first.model}`" if first.made == "exported" else "random weights"
        title = f"{BACKBONES[first.backbone].title}, {first.image_size_px} px, {made}; {first.threads} threads, {sessions}"
        lines += ["", f"### {title}", "", *_table(chosen)]
    return lines


def _setting(row: Row) -> tuple[Any, ...]:
    found = row.measured
    return found.backbone, found.image_size_px, found.made, found.labels, found.threads, found.sessions


def _table(rows: Sequence[Row]) -> list[str]:
    figures = ["calls", "p50 ms", "p90", "p95", "p99", "images/s", "× loop", "× loop, cpu", "load s", "cold start s", "RAM MB", "file MB"]
    header = ["engine", "provider", "precision", "batch", *figures]
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *(_line(row) for row in rows)]


def _line(row: Row) -> str:
    found, latency = row.measured, row.measured.latency_ms
    name = ENGINES[found.engine].title
    cells = (
        f"**{name}**" if found.engine == OURS else name,
        found.provider.removesuffix("ExecutionProvider"),
        found.precision,
        str(found.batch),
        str(found.calls),
        *(f"{latency[percent]:.2f}" if found.calls * (100 - int(percent)) >= 100 else "–" for percent in ("50", "90", "95", "99")),
        f"{found.images_per_second:.1f}{'' if found.steady else ' *'}",
        _number(row.ratio),
        _number(row.processor_ratio),
        _number(found.load_s),
        _number(found.cold_start_s),
        _number(found.peak_ram_mb, ".0f"),
        f"{found.file_size_mb:.1f}",
    )
    return "| " + " | ".join(cells) + " |"


def _accuracy(rows: Iterable[Row]) -> list[str]:
    found = [row.measured for row in rows if row.measured.accuracy is not None]
    if not found:
        return [f"{NOTHING}: no exported file whose data set is on this machine took part."]
    lines = ["| file | provider | precision | images | accuracy | balanced | − fp32, points | same labels as fp32 |", "|---" * 8 + "|"]
    for each in found:
        accuracy = each.accuracy
        assert accuracy is not None
        difference = _number(accuracy.difference_to_fp32_points, "+.2f")
        same = "" if accuracy.same_labels_as_fp32 is None else f"{accuracy.same_labels_as_fp32:.2%}"
        where = f"{accuracy.images} of {accuracy.dataset}, {accuracy.split}"
        lines.append(
            f"| `{each.model}` | {each.provider} | {each.precision} | {where} | {accuracy.accuracy:.4f} | {accuracy.balanced_accuracy:.4f} "
            f"| {difference} | {same} |"
        )
    return lines


def main() -> None:
    """Write the page; with arguments, store those runs first. Several are parts of one table, of the same commit and machine."""
    stored = RESULTS / "cpu.json"
    if len(sys.argv) > 1:
        RESULTS.mkdir(parents=True, exist_ok=True)
        raw, *others = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:])
        for other in others:
            differ = [key for key, value in raw["environment"].items() if other["environment"][key] != value and key not in _OF_ONE_PART]
            if differ:
                sys.exit(f"these runs are no parts of one table: {', '.join(differ)} differ")
            raw["benchmarks"] += other["benchmarks"]
        stored.write_text(json.dumps(compact(raw), separators=(",", ":")) + "\n", encoding="utf-8")
    (RESULTS / "cpu.md").write_text(page(json.loads(stored.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
