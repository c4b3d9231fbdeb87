"""What a user names on the command line → image paths: files, folders, globs, and a list on standard input."""

import glob
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from cellclf.data.decoding import is_image_name
from cellclf.errors import DataError

__all__ = ["expand"]


def expand(names: Iterable[str]) -> Iterator[str]:
    """Paths in order; raises DataError where nothing fits. A folder gives its images, sorted, sub-folders' too; '-' reads one path a line.

    A file that does not exist is passed on, so that it becomes an error record of its own. All names are looked at before the first line of
    standard input is read.
    """
    return itertools.chain.from_iterable([_standard_input() if name == "-" else _named(name) for name in names])


def _standard_input() -> Iterator[str]:
    """One path a line, or ended by a NUL each, as find -print0 has them."""
    return (name for line in sys.stdin for name in line.rstrip("\r\n").split("\0") if name.strip())


def _named(name: str) -> list[str]:
    """One name; os.path answers False, not an error, for names that no file can have."""
    if os.path.isdir(name):  # noqa: PTH112
        return _images_in(Path(name))
    if os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  # absolute patterns too
    if not matches:
        raise DataError(f"no file matches {name!r}")
    return [path for match in matches for path in (_images_in(Path(match)) if os.path.isdir(match) else [match])]  # noqa: PTH112


def _images_in(folder: Path) -> list[str]:
    found = (path for path in sorted(folder.rglob("*")) if is_image_name(path) and (path.is_file() or path.is_symlink()))
    images = [str(path) for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not images:
        raise DataError(f"folder {folder} holds no images")
    return images
