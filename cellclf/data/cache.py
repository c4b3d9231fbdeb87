"""Decode once: the pixels of many files as one uint8 array on disk, keyed by content, view and decoder. Built in parallel, whole or not at all."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellclf.data.crops import View
from cellclf.data.decoding import DECODER_VERSION, Pixels, decode
from cellclf.documents import Document
from cellclf.environment import usable_cores
from cellclf.errors import DataError, DecodeError
from cellclf.storage import cache_folder, new_folder, sha256_of_file

__all__ = ["OnProgress", "PixelCache", "hash_files", "images_folder", "open_cache"]

OnProgress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and how much there is."""

_CHUNK = 32
_STALE_S = 24 * 3600


class _Index(Document):
    """Which row of the array is which content, and what could not be decoded."""

    contents: tuple[str, ...]
    errors: dict[str, str]


@dataclass(frozen=True)
class PixelCache:
    """pixels: uint8 [images, height, width, 3], memory-mapped; row_of: row by content hash; errors: reason by content hash."""

    pixels: Pixels
    row_of: dict[str, int]
    errors: dict[str, str]

    def rows(self, contents: Iterable[str]) -> npt.NDArray[np.int64]:
        """Row numbers of these contents, in order."""
        return np.array([self.row_of[content] for content in contents], dtype=np.int64)


def images_folder() -> Path:
    """Where decoded images are kept."""
    return cache_folder() / "images"


def hash_files(files: Sequence[Path], *, on_progress: OnProgress | None = None) -> list[str | None]:
    """SHA-256 of each file's bytes, in order, read in parallel; None where a file cannot be read."""

    def digest(path: Path) -> str | None:
        try:
            return sha256_of_file(path)
        except OSError:
            return None

    digests: list[str | None] = []
    parts = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]  # a task a file would cost more than most files do
    with ThreadPoolExecutor(usable_cores()) as pool:
        for values in pool.map(lambda part: [digest(path) for path in part], parts):
            digests += values
            if on_progress:
                on_progress("reading", len(digests), len(files))
    return digests


def open_cache(file_of: dict[str, Path], view: View, *, on_progress: OnProgress | None = None) -> PixelCache:
    """The decoded pixels of these contents; decodes what is not there yet.

    file_of: a file by its content hash. Raises DataError where the disk is too small or a file changed after it was hashed.
    """
    contents = sorted(file_of)
    key = hashlib.sha256("\n".join((f"{DECODER_VERSION} {view.resize} {view.height_px}x{view.width_px}", *contents)).encode()).hexdigest()
    folder = images_folder() / key[:40]
    if not (folder / "index.json").exists():
        _build(folder, contents, file_of, view, on_progress)
    index = _Index.read(folder / "index.json")
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return PixelCache(pixels, {content: row for row, content in enumerate(index.contents)}, dict(index.errors))


def _build(folder: Path, contents: list[str], file_of: dict[str, Path], view: View, on_progress: OnProgress | None) -> None:
    _remove_stale(folder.parent)
    shape = (len(contents), view.height_px, view.width_px, 3)
    _check_space(folder.parent, int(np.prod(shape)))
    errors: dict[str, str] = {}
    with new_folder(folder) as temporary:
        array = np.lib.format.open_memmap(temporary / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)

        def fill(start: int) -> int:
            rows = range(start, min(start + _CHUNK, len(contents)))
            for row in rows:
                try:
                    array[row] = _pixels_of(file_of[contents[row]], contents[row], view)
                except DecodeError as error:
                    errors[contents[row]] = str(error)
            return len(rows)

        with ThreadPoolExecutor(usable_cores()) as pool:
            done = 0
            for count in pool.map(fill, range(0, len(contents), _CHUNK)):
                done += count
                if on_progress:
                    on_progress("decoding", done, len(contents))
        array.flush()
        _Index(contents=tuple(contents), errors=dict(sorted(errors.items()))).write(temporary / "index.json")


def _pixels_of(path: Path, content: str, view: View) -> Pixels:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != content:
        raise DataError(f"{path} is no longer the file that the manifest names: its content changed")
    return decode(data, view)


def _check_space(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"decoded images need {needed / 1e9:.1f} GB in {folder} but {free / 1e9:.1f} GB are free; set CELLCLF_CACHE to a larger disk")


def _remove_stale(folder: Path) -> None:
    """Remove what killed builds left behind more than a day ago."""
    for left in folder.glob(".*"):
        if left.is_dir() and time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)
