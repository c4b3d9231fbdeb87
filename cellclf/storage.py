"""Files and folders that are whole or not there. Imports nothing of ours."""

import contextlib
import csv
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["cache_folder", "is_ours", "locked", "new_file", "new_folder", "sha256_of_file", "write_csv"]


_HEAD_BYTES = 1024


def cache_folder() -> Path:
    """Where decoded images and the drawn sample are kept: $CELLCLF_CACHE, else ~/.cache/cellclf."""
    return Path(os.environ.get("CELLCLF_CACHE") or Path.home() / ".cache" / "cellclf")


def temporary_beside(path: Path) -> Path:
    """A name in path's own folder (made if missing) that no other process uses; it keeps path's suffixes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent / f".{os.getpid()}-{os.urandom(4).hex()}-{path.name}"


def is_ours(path: Path, mark: bytes) -> bool:
    """Whether what stands at `path` may be replaced: nothing is there, or a file that begins as ours do, with the mark in it."""
    if not path.exists():
        return True
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return mark in stream.read(_HEAD_BYTES)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to; on leaving without an error it replaces `path`, else nothing is left. Errors name `path`."""
    temporary = temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        if str(error.filename) == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on leaving without an error it becomes `path`, unless another process made it first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        try:
            temporary.replace(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of that name, a file that others of us see; gives whether it was free. It ends with the process, however that ends.

    A folder that was made for it and stayed empty is removed.
    """
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        stream = path.open("ab")
        free = _lock(stream)
        if not free or _is_still(stream, path):
            break
        stream.close()  # whoever held it removed the file meanwhile: what was locked is nobody's
    try:
        yield free
    finally:
        if free:
            path.unlink(missing_ok=True)
        stream.close()
        if made:
            with contextlib.suppress(OSError):  # it holds something by now
                path.parent.rmdir()


def _lock(stream: BinaryIO) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_still(stream: BinaryIO, path: Path) -> bool:
    """Whether the open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a whole CSV file at once: comma, header line, \\n line ends."""
    lines = [_csv_line(header), *map(_csv_line, rows)]
    with new_file(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="")


def _csv_line(row: Sequence[Any]) -> str:
    """One line; Python's writer quotes a field with a carriage return only where its own line end has one."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(row)
    return text.getvalue().removesuffix("\r\n") + "\n"
