"""FORMATS: one row = one form in which `cellclf export` writes. Imports no framework."""

from collections.abc import Callable
from dataclasses import dataclass

from cellclf.artifact.triton import Written, write_triton
from cellclf.tables import Table

__all__ = ["FORMATS", "FormatRow"]


@dataclass(frozen=True, kw_only=True)
class FormatRow:
    """A name; what it is; and, for a repository of models, what adds a file to it: write(file, folder, name=…, deployment=…)."""

    name: str
    description: str
    write: Callable[..., Written] | None = None


FORMATS: Table[FormatRow] = Table(
    "format",
    [
        FormatRow(name="onnx", description="one file that proves itself"),
        FormatRow(
            name="triton",
            description="a model in the repository DIR of a Triton Inference Server: config, labels, the next version",
            write=write_triton,
        ),
    ],
)
