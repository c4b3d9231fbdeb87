"""docs/results/audit.json → docs/results/audit.md; every figure comes from the JSON. Written by `make results-audit`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEADER = ["copies", "files", "originals", "recall of pairs", "precision of pairs", "families found", "s, all in"]


def write_page(results: dict[str, Any], target: Path) -> None:
    """Write the page of whatever was measured."""
    machine = results["environment"]
    lines = [
        "# The audit: families of augmented copies",
        "",
        "Written by `make results-audit` from audit.json; no figure is typed. Truth is made by augmenting originals that were held apart, with known",
        "parameters (benchmarks/augmenting.py); labels and names are never looked at. A pair is two files of one original; recall is the part of",
        "such pairs that the audit puts in one family, precision the part of the pairs it puts in one family that are such.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, shared and noisy: beside each time stands the processor time, which is less so.",
        f"Python {machine['python']}, NumPy {machine['packages']['numpy']}, Pillow {machine['packages']['pillow']}.",
    ]
    if "published" in results:
        lines += ["", "## As many files as the published set, in families of its sizes", "", *table(HEADER, [measured(results["published"])])]
    if "difficulties" in results:
        lines += ["", "## By difficulty", "", "Each row changes only what it names against the first.", ""]
        lines += table(HEADER, [measured(found) for found in results["difficulties"]])
    if "chest" in results:
        first = results["chest"][0]
        lines += [
            "",
            "## Chest X-rays",
            "",
            f"Copies of one X-ray each of {first['originals']} patients among {first['strangers']} X-rays of others.",
            "",
        ]
        lines += table(HEADER, [measured(found) for found in results["chest"]])
    for name in ("blood-cells", "chest-xray"):
        if name in results:
            lines += ["", f"## The real set: {name}", "", *real(results[name])]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measured(found: dict[str, Any]) -> list[str]:
    """One measurement as a row."""
    pairs, cost = found["by_family"], found["cost"]
    return [
        found["difficulty"],
        str(cost["files"]),
        str(found["originals"]),
        share(pairs["recall"]),
        share(pairs["precision"]),
        str(found["families"] - found["strangers"]),
        f"{cost['wall_s']:.1f} ({cost['processor_s']:.0f} of processor)",
    ]


def real(found: dict[str, Any]) -> list[str]:
    """What the audit says of a real set."""
    cost = found["cost"]
    total = cost["wall_s"] + found["hashing_s"]
    header = ["", "number", "of one file", "smallest", "median", "largest", "crossing the official split", "under two labels"]
    rows = []
    for kind in ("families", "groups"):
        of = found[kind]
        crossing = f"{of['crossing_the_split']}"
        if of["crossing_the_split"]:
            crossing += f" ({of['crossing_files']['train']} training, {of['crossing_files']['test']} test files)"
        rows.append(
            [kind, *(str(of[column]) for column in ("number", "alone", "smallest", "median", "largest")), crossing, str(of["under_two_labels"])]
        )
    by_label = "; ".join(f"{label} {number}" for label, number in sorted(found["families"]["of_each_label"].items()))
    lines = [
        f"{found['files']} files, {found['byte_identical']} of them byte for byte like another, in {total:.1f} s all in: hashing, decoding,",
        f"everything ({cost['processor_s']:.0f} s of processor; load {cost['load_before']} before, {cost['load_after']} after, by others too).",
        f"The same in reverse order of files: {'yes' if found['same_in_reverse_order'] else 'NO'}.",
        "",
        *table(header, rows),
        "",
        f"Families by label, which the audit never saw: {by_label}.",
    ]
    if "pairs" in found:
        lines.append(f"Pairs of files that are not identical and show the same: {found['pairs']}; of two patients: {found['pairs_of_two_patients']}.")
    return lines


def share(value: float | None) -> str:
    """A share with four digits; nothing where there is none."""
    return "–" if value is None else f"{value:.4f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows)]
