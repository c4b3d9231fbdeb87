"""A command, as a process of its own that starts and ends."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from benchmarks.tasks.task import Task

__all__ = ["Command"]


class Command(Task):
    """A program with its arguments; environment: variables that it gets besides, None = those it does not. A failure ends the worker."""

    def __init__(self, *, arguments: Sequence[str], environment: Mapping[str, str | None]) -> None:
        self.arguments = list(arguments)
        changed = {**os.environ, **environment}
        self.environment = {name: value for name, value in changed.items() if value is not None}

    def run(self) -> None:
        """Start it, and wait for its end."""
        subprocess.run(self.arguments, check=True, stdin=subprocess.DEVNULL, capture_output=True, env=self.environment)
