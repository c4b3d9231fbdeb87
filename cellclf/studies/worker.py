"""One run of a study in a process of its own: its output goes to a log, its exit code tells how it ended."""

import os
import sys
from pathlib import Path

from cellclf.errors import CellclfError
from cellclf.training.progress import Progress
from cellclf.training.recipe import Recipe
from cellclf.training.run import Epoch, Run
from cellclf.training.train import resume, train

__all__ = ["work"]


class _Log(Progress):
    """A line an epoch."""

    def note(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")

    def epoch_ended(self, row: Epoch, *, best: bool, seconds_left: float) -> None:  # noqa: ARG002  # Progress' signature
        sys.stderr.write(f"{row.model_dump_json()}{' best' if best else ''}\n")
        sys.stderr.flush()


def work(recipe: str, folder: Path, log: Path, threads: int) -> None:
    """Train the recipe (JSON) into the folder, or go on in it; exits with 1 and the reason as the log's last line where that cannot be.

    threads: cores this process may compute on.
    """
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), sys.stdout.fileno())
        os.dup2(stream.fileno(), sys.stderr.fileno())
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    run = Run(folder)
    try:
        if folder.exists():
            resume(run, progress=_Log())
        else:
            train(Recipe.parse(recipe, where=f"the recipe of {run.name}"), folder, progress=_Log())
    except CellclfError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        sys.exit(1)
