"""What survives kill -9: where a run stands after its last whole epoch, with its weights and optimizer, in .npz files of its folder."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.errors import RunError
from cellclf.storage import new_file
from cellclf.training.run import Epoch, write_history

__all__ = ["CHECKPOINT", "FitState", "clear_checkpoints", "load_state", "restore_best_weights", "restore_checkpoint", "store_checkpoint"]

CHECKPOINT = "checkpoint.npz"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What NumPy raises on an .npz file that is not whole."""


@dataclass
class FitState:
    """Where a run stands after its last whole epoch."""

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    stopped_early: bool = False
    compile_s: float = 0.0
    fit_s: float = 0.0
    data_s: float = 0.0

    @property
    def waited(self) -> int:
        """Epochs since the best one."""
        return len(self.history) - self.best_epoch


def load_state(folder: Path) -> FitState:
    """The state of an unfinished run: after its last whole epoch, or fresh where it has none; raises RunError where it is damaged."""
    if not (folder / CHECKPOINT).exists():
        return FitState()
    try:
        with (folder / CHECKPOINT).open("rb") as stream, np.load(stream) as stored:
            fields = json.loads(str(stored["state"]))
    except _DAMAGED as error:
        raise RunError(f"{folder / CHECKPOINT} is damaged: {error}; start a new run") from error
    history = [Epoch.model_validate(row) for row in fields.pop("history")]
    return FitState(history=history, **fields)


def clear_checkpoints(folder: Path) -> None:
    """Remove what only a resume needs, and what killed writes left behind."""
    for path in [*folder.glob("best-*.npz"), *folder.glob(CHECKPOINT), *folder.glob(".*-*")]:
        path.unlink(missing_ok=True)


def store_checkpoint(model: Any, folder: Path, state: FitState) -> None:
    """Store weights, optimizer and history in one file, replaced at once. The best weights carry their epoch in their name, so that a
    checkpoint always names weights that belong to it, whenever the process is killed."""
    arrays = {f"w{number}": variable.numpy() for number, variable in enumerate(model.weights)}
    if state.best_epoch == len(state.history):
        _write_npz(folder / _best_name(state.best_epoch), arrays)
    arrays |= {f"o{number}": np.asarray(variable) for number, variable in enumerate(model.optimizer.variables)}
    fields = vars(state) | {"history": [row.model_dump() for row in state.history]}
    _write_npz(folder / CHECKPOINT, arrays | {"state": np.array(json.dumps(fields))})
    for path in folder.glob("best-*.npz"):
        if path.name != _best_name(state.best_epoch):
            path.unlink()
    write_history(folder, tuple(state.history))


def restore_checkpoint(model: Any, folder: Path, state: FitState) -> None:
    """Give a compiled model the weights and the optimizer's state after the last whole epoch; raises RunError where they do not fit it."""
    _load_npz(model.weights, folder / CHECKPOINT, "w")
    _load_npz(model.optimizer.variables, folder / CHECKPOINT, "o")
    write_history(folder, tuple(state.history))


def restore_best_weights(model: Any, folder: Path, state: FitState) -> None:
    """Give a model the weights of the best epoch; raises RunError where they do not fit it."""
    _load_npz(model.weights, folder / _best_name(state.best_epoch), "w")


def _best_name(epoch: int) -> str:
    return f"best-{epoch:04d}.npz"


def _write_npz(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    with new_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # NumPy's stub confuses ** with allow_pickle


def _load_npz(variables: list[Any], path: Path, prefix: str) -> None:
    try:
        with path.open("rb") as stream, np.load(stream) as stored:
            for number, variable in enumerate(variables):
                variable.assign(stored[f"{prefix}{number}"])
    except _DAMAGED as error:
        raise RunError(f"{path} does not fit this run: {error}; start a new run") from error
