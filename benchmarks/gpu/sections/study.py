"""The four-backbone study on a GPU: wall time and accuracy of each sitting, and whether one sitting ran all of it in the time."""

from typing import Any

from benchmarks.gpu.record import Result, title
from benchmarks.gpu.sittings import NOT_YET

__all__ = ["study_lines"]

TARGET_STUDY_S = 600


def study_lines(results: dict[str, Result]) -> list[str]:
    """A table a sitting."""
    if not results:
        return [f"Wall time and accuracy of 30 epochs each: {NOT_YET}."]
    lines = [
        "All compile at once and then train in turns. From a random start the few hidden units behind ReLU can die at once: a run whose",
        "accuracies stand at a label's share calls every image the same. That says nothing of the backbone, whose ImageNet weights were not",
        f"at hand, and its speed is the same. {_whole_study(results)}",
        "",
    ]
    for name, result in results.items():
        whole, *runs = result.rows
        state = "" if whole["done"] == whole["backbones"] else f", {whole['done']} of {whole['backbones']} backbones done"
        lines += [
            f"{name}, route {whole['route']}: {whole['wall_s']:.0f} s of wall time, PyTorch's turns included{state}; "
            f"target {TARGET_STUDY_S} s for all.",
            "",
            "| backbone | epochs | batch | weights | images/s | data s | compile s | fit s | validation accuracy | official test accuracy |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in runs:
            if row["state"] != "done":
                reason = f"unfinished: {row.get('failure', 'the time was up').replace('|', '/')}"
                lines.append(f"| {title(row['backbone'])} | {row.get('epochs', 0)} | | {reason} |||||||")
                continue
            recipe = row["recipe"]
            weights = "random start" if recipe["weights"] == "none" else recipe["weights"]
            weights += f", rate {recipe['learning_rate']:g} {recipe['schedule']}"
            lines.append(
                f"| {title(row['backbone'])} | {row['epochs']} | {recipe['batch_size']} | {weights} "
                f"| {row['images_per_second']:,.0f} | {row['data_s']:.0f} | {row['compile_s']:.0f} | {row['fit_s']:.0f} "
                f"| {_interval(row, 'validation')} | {_interval(row, 'test')} |"
            )
        lines.append("")
    return lines[:-1]


def _whole_study(results: dict[str, Result]) -> str:
    """Whether one sitting ran all of it in the time."""
    wholes = [result.rows[0] for result in results.values()]
    done = {row["backbone"] for result in results.values() for row in result.rows[1:] if row["state"] == "done"}
    if times := [whole["wall_s"] for whole in wholes if whole["done"] == whole["backbones"]]:
        return f"All in one sitting, {min(times):.0f} s: {'reached' if min(times) <= TARGET_STUDY_S else 'MISSED'}."
    return f"{len(done)} of {wholes[0]['backbones']} backbones have run; no sitting was long enough for all, so the time for all is {NOT_YET}."


def _interval(row: dict[str, Any], split: str) -> str:
    low, high = row.get(f"{split}_interval") or (None, None)
    value = f"{row[f'{split}_accuracy']:.3f}"
    return value if low is None else f"{value} [{low:.3f}, {high:.3f}]"
