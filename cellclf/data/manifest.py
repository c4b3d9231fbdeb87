"""The manifest: which image has which label, group and split. Every later step reads it; nothing else decides what is trained or tested on."""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cellclf.documents import Document
from cellclf.errors import StoredFileError
from cellclf.storage import write_csv

__all__ = ["SPLITS", "Entry", "Leak", "Manifest", "Split", "read_manifest"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_HEADER = ("path", "sha256", "label", "group", "split")


@dataclass(frozen=True)
class Entry:
    """One image: path (POSIX, relative to the manifest's root unless absolute), content hash, label, group ('' = unknown), split."""

    path: str
    sha256: str
    label: str
    group: str
    split: Split


class Leak(Document):
    """Why figures on `split` are too good: something of it was trained on."""

    split: Split
    reason: str

    def __str__(self) -> str:
        return f"{self.split} LEAKS: {self.reason}"


@dataclass(frozen=True)
class Manifest:
    """Images by split. `root` is where relative paths begin; `labels` are sorted and number the classes."""

    root: Path
    entries: tuple[Entry, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted: the order of the network's outputs."""
        return tuple(sorted({entry.label for entry in self.entries}))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted rows; independent of the root and of the order of the rows."""
        digest = hashlib.sha256()
        for entry in sorted(self.entries, key=lambda entry: entry.path):
            digest.update("\t".join((entry.path, entry.sha256, entry.label, entry.group, entry.split)).encode() + b"\n")
        return digest.hexdigest()

    def split(self, split: Split) -> tuple[Entry, ...]:
        """The entries of one split, in the manifest's order."""
        return tuple(entry for entry in self.entries if entry.split == split)

    def counts(self, split: Split) -> Counter[str]:
        """Images a label in one split."""
        return Counter(entry.label for entry in self.split(split))

    def group_keys(self, split: Split) -> list[str]:
        """The group of each entry of a split; an entry of unknown group is its own (by content)."""
        return [entry.group or entry.sha256 for entry in self.split(split)]

    def file(self, entry: Entry) -> Path:
        """Where an entry's image is."""
        return self.root / entry.path

    def write(self, path: Path) -> None:
        """Write manifest.csv."""
        write_csv(path, _HEADER, ((e.path, e.sha256, e.label, e.group, e.split) for e in self.entries))


def read_manifest(path: Path, *, root: Path) -> Manifest:
    """Read a manifest.csv that `Manifest.write` wrote; raises StoredFileError."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return Manifest(root, tuple(_entries(csv.DictReader(stream), path)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoredFileError(f"{path} cannot be read: {error}") from error


def _entries(rows: "csv.DictReader[str]", path: Path) -> Iterable[Entry]:
    if tuple(rows.fieldnames or ()) != _HEADER:
        raise StoredFileError(f"{path} is no manifest: its columns are not {', '.join(_HEADER)}")
    by_name: dict[str, Split] = {split: split for split in SPLITS}
    for number, row in enumerate(rows, start=2):
        if row["split"] not in by_name:
            raise StoredFileError(f"{path}, line {number}: unknown split {row['split']!r}")
        yield Entry(row["path"], row["sha256"], row["label"], row["group"], by_name[row["split"]])
