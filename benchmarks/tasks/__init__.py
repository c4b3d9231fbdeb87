"""TASKS: one row = one thing done from beginning to end, ours or what a peer does instead; opened in a worker process of its own."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.tasks.commands import Command
from benchmarks.tasks.epochs import FedEpochs, KerasEpochs
from benchmarks.tasks.files import Inference, NaiveLoop, OurPipeline, Shares, Stages
from benchmarks.tasks.frozen import FrozenKeras, FrozenOurs
from benchmarks.tasks.single import EngineCalls, SessionCalls
from benchmarks.tasks.task import Task
from benchmarks.tasks.varying import KerasVaryingSteps, VaryingSteps
from cellclf.tables import Table

__all__ = ["TASKS", "Row", "Task"]


@dataclass(frozen=True)
class Row:
    """A name, and how to make the task from its arguments, which are plain data."""

    name: str
    open: Callable[..., Task]


TASKS: Table[Row] = Table(
    "task",
    [
        Row("command", Command),
        Row("pipeline", OurPipeline),
        Row("naive-loop", NaiveLoop),
        Row("shares", Shares),
        Row("inference", Inference),
        Row("stages", Stages),
        Row("session-calls", SessionCalls),
        Row("engine-calls", EngineCalls),
        Row("fed-epochs", FedEpochs),
        Row("keras-epochs", KerasEpochs),
        Row("frozen-ours", FrozenOurs),
        Row("frozen-keras", FrozenKeras),
        Row("varying-steps", VaryingSteps),
        Row("keras-varying-steps", KerasVaryingSteps),
    ],
)
