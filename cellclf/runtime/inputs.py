"""What a user names on the command line → image paths: files, folders, globs, and a list on standard input."""

import glob
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from cellclf.data.decoding import is_image_name
from cellclf.errors import DataError

__all__ = ["expand"]


def expand(names: Iterable[str]) -> Iterator[str]:
    """Paths in order; raises DataError where nothing fits. A folder gives its images, sorted, sub-folders' too; '-' reads one path a line.

    A file that does not exist is passed on, so that it becomes an error record of its own.
    """
    for name in names:
        if name == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        elif Path(name).is_dir():
            yield from _images_in(Path(name))
        elif not Path(name).exists() and glob.has_magic(name):
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  # absolute patterns too
            if not matches:
                raise DataError(f"no file matches {name!r}")
            yield from (match for match in matches if not Path(match).is_dir())
        else:
            yield name


def _images_in(folder: Path) -> list[str]:
    images = [str(path) for path in sorted(folder.rglob("*")) if is_image_name(path) and path.is_file()]
    if not images:
        raise DataError(f"folder {folder} holds no images")
    return images
