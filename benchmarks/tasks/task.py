"""What every task has. Imports no framework: a task imports what it needs when it is opened."""

import resource
from abc import ABC, abstractmethod
from typing import Any

__all__ = ["Task"]


class Task(ABC):
    """Something that is done again and again, and timed as a whole."""

    @abstractmethod
    def run(self) -> None:
        """Do it once."""

    def warm_up(self) -> None:
        """Do what only the first time costs; the whole once, where nothing less does."""
        self.run()

    def facts(self) -> dict[str, Any]:
        """What came of the last time, as plain data."""
        return {}

    def cpu_s(self) -> float:
        """Processor seconds so far, those of children that have ended too."""
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
