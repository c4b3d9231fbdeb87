"""A table of named rows: the one place where a backbone, data set, provider … is added. Imports errors only."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from cellclf.errors import UnknownNameError

__all__ = ["Named", "Table"]


class Named(Protocol):
    """A row: anything with a name."""

    @property
    def name(self) -> str:
        """The row's key, as a user types it."""


Row = TypeVar("Row", bound=Named)


class Table(Mapping[str, Row]):
    """Rows by name, in the order in which they were added; refuses a second row of one name."""

    def __init__(self, kind: str, rows: Iterable[Row] = ()) -> None:
        self.kind = kind
        self._rows: dict[str, Row] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> Row:
        """Add one row and return it; raises ValueError where the name is taken."""
        if row.name in self._rows:
            raise ValueError(f"the table of {self.kind}s has a row {row.name!r} already")
        self._rows[row.name] = row
        return row

    def find(self, name: str) -> Row:
        """The row of that name; raises UnknownNameError with the near names and all that there are."""
        if name in self._rows:
            return self._rows[name]
        near = difflib.get_close_matches(name.lower(), self._rows, n=2, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ";"
        raise UnknownNameError(f"unknown {self.kind} {name!r}{hint} known: {', '.join(self._rows)}")

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
