"""What a commit changed: python -m benchmarks.compare OLD.json NEW.json

Each figure is a ratio to the plain ONNX Runtime loop of the same run and the same rounds (start-up, pipeline, epochs and frozen training: to
the benchmark's own peer), so that two runs need not see the machine equally busy.
Ratios of processor time stand beside those of wall time: a busy neighbour stretches the one and hardly the other.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines import OURS
from benchmarks.noise import geometric_mean, median_ratio, residuals, smallest_visible_change
from cellclf.studies.measurements import EXTRA_INFO_KEY

__all__ = ["Change", "Paired", "changes", "paired", "report"]

Key = tuple[str, ...]

_IDENTITY = ("backbone", "image_size_px", "labels", "engine", "provider", "precision", "batch", "threads", "sessions", "file")


@dataclass(frozen=True)
class Paired:
    """One row's ratios to the plain loop, a round each: by wall time, and by processor time."""

    wall: tuple[float, ...]
    processor: tuple[float, ...]
    steady: bool


@dataclass(frozen=True)
class Change:
    """One row in both runs: its figure in each, new / old, and from which factor on a change can be told from noise."""

    key: Key
    old: float
    new: float
    visible: float
    steady: bool

    @property
    def factor(self) -> float:
        """new / old: above 1 = quicker."""
        return self.new / self.old

    @property
    def seen(self) -> bool:
        """Whether it is larger than the noise."""
        return max(self.factor, 1 / self.factor) > 1 + self.visible


def paired(content: Mapping[str, Any]) -> dict[Key, Paired]:
    """The rows of a pytest-benchmark JSON that have a reference or a peer, but for the reference itself."""
    found = {}
    for row in content["benchmarks"]:
        extra = row["extra_info"]
        if not extra.get("ratios"):
            continue
        measured = extra.get(EXTRA_INFO_KEY)
        if measured is None:  # a task and its peer (benchmarks.race)
            steady, key = all(extra["steady"].values()), (row["name"], *[""] * (len(_IDENTITY) - 1))
        elif measured["engine"] == extra["reference"]:
            continue
        else:
            fields = {**measured, "file": measured["model"] if measured["made"] == "exported" else measured["made"]}
            steady, key = bool(measured["steady"]), tuple(str(fields[name]) for name in _IDENTITY)
        found[key] = Paired(tuple(extra["ratios"]), tuple(extra["processor_ratios"]), steady)
    return found


def changes(old: Mapping[Key, Paired], new: Mapping[Key, Paired], *, by: str) -> tuple[list[Change], Change | None]:
    """Rows that both runs have, by 'wall' or 'processor' time, and ours together (geometric mean), None where nothing of ours is in both.

    The noise is that of all rows of both runs: three windows of one row alone would not tell it. Raises ValueError where no row has two windows.
    """
    common = [key for key in old if key in new and getattr(old[key], by) and getattr(new[key], by)]
    noise = residuals([getattr(run[key], by) for run in (old, new) for key in common])
    rows = [_change([key], key, old, new, noise, by) for key in common]
    ours = [key for key in common if key[_IDENTITY.index("engine")] == OURS]
    return rows, _change(ours, ("ours, geometric mean",), old, new, noise, by) if ours else None


def _change(keys: Sequence[Key], name: Key, old: Mapping[Key, Paired], new: Mapping[Key, Paired], noise: Any, by: str) -> Change:
    before, after = ([getattr(run[key], by) for key in keys] for run in (old, new))
    return Change(
        name,
        geometric_mean([median_ratio(each) for each in before]),
        geometric_mean([median_ratio(each) for each in after]),
        smallest_visible_change(noise, [len(each) for each in before], [len(each) for each in after]),
        all(run[key].steady for run in (old, new) for key in keys),
    )


def report(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The comparison as Markdown."""
    speed = "Each figure is the speed over the plain ONNX Runtime loop's, or the benchmark's own peer's, in the same rounds."
    lines = [f"Old: {_commit(old)}; new: {_commit(new)}. {speed}", ""]
    if apart := _apart(old["environment"], new["environment"]):
        lines += [f"What changed need not be the commit: the runs differ in {', '.join(apart)}.", ""]
    if not set(paired(old)) & set(paired(new)):
        raise ValueError("they have no row in common")
    for by in ("wall", "processor"):
        rows, ours = changes(paired(old), paired(new), by=by)
        lines += [f"By {by} time:", "", "| " + " | ".join((*_IDENTITY, "old", "new", "new / old", "visible from", "")) + " |"]
        lines += ["|" + "---|" * (len(_IDENTITY) + 5)]
        lines += [_line(row) for row in rows]
        if ours is not None:
            lines += ["", f"Ours together: {ours.old:.3f} → {ours.new:.3f}, {_told(ours)}."]
        lines.append("")
    return "\n".join(lines)


def _apart(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The machine's and the versions' differences, with both values."""
    fields = [(name, str(old.get(name)), str(new.get(name))) for name in ("cpu", "cores", "memory_gib", "python")]
    packages = [each.get("packages", {}) for each in (old, new)]
    fields += [(name, *(each.get(name, "none") for each in packages)) for name in sorted(set(packages[0]) | set(packages[1]))]
    return [f"{name} ({before} → {after})" for name, before, after in fields if before != after]


def _line(row: Change) -> str:
    marks = ", ".join([*(["changed"] if row.seen else []), *([] if row.steady else ["not steady"])])
    figures = (f"{row.old:.3f}", f"{row.new:.3f}", f"{row.factor:.3f}", f"± {row.visible:.1%}", marks)
    return "| " + " | ".join((*row.key, *figures)) + " |"


def _told(row: Change) -> str:
    size = f"{row.factor - 1:+.1%}; the noise lets one see changes from {row.visible:.1%} on"
    return f"{size}: {'a change' if row.seen else 'no change that can be seen'}"


def _commit(content: Mapping[str, Any]) -> str:
    return f"commit {content['environment']['git_commit']} on {content['environment']['cpu']}"


def main() -> None:
    """Compare two files."""
    if len(sys.argv) != 3:
        sys.exit("python -m benchmarks.compare OLD.json NEW.json")
    try:
        old, new = (json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:])
        print(report(old, new))
    except OSError as error:
        sys.exit(f"{error.filename} cannot be read: {error.strerror}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        sys.exit(f"these files cannot be compared, are both of pytest benchmarks/ --benchmark-json? {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
