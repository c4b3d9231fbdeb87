"""What came back of the GPU machine: KIND.json, and KIND-WORD.json of other sittings of the same kind."""

from pathlib import Path

from benchmarks.gpu.record import Result

__all__ = ["NOT_YET", "measured_on_a_gpu", "sittings"]

NOT_YET = "not yet measured on a GPU"


def measured_on_a_gpu(folder: Path) -> dict[str, Result]:
    """What was measured on a GPU, by file name."""
    found = {path.stem: Result.read(path) for path in sorted(folder.glob("*.json"), key=lambda path: path.stem)}
    return {name: result for name, result in found.items() if not result.check and result.machine.gpu}


def sittings(kind: str, found: dict[str, Result]) -> dict[str, Result]:
    """The sittings of a kind, by file name."""
    return {name: result for name, result in found.items() if name == kind or name.startswith(f"{kind}-")}
