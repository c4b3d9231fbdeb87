"""From a request to the files it means: found, hashed, with the families that nothing names recovered from their pixels; not yet split."""

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from cellclf.data.audit.kept import recovered_families
from cellclf.data.cache import OnProgress, hash_files
from cellclf.data.request import BadImage, DataRequest
from cellclf.data.scan import Found, Scan, scan
from cellclf.data.splits import Protocol
from cellclf.errors import DataError

__all__ = ["Listing", "list_files"]

_UNSTORABLE = "its name is not UTF-8 or holds control characters; rename it"


@dataclass(frozen=True)
class Listing:
    """What a request found: files with their content hashes, and those that could not be read.

    recovered: whether the files' groups are families that were found in their pixels, because nothing names them. labels: of all files, readable or
    not.
    """

    found: Scan
    protocol: Protocol
    pairs: list[tuple[Found, str]]
    unreadable: list[BadImage]
    recovered: bool
    labels: frozenset[str]


def list_files(request: DataRequest, *, on_progress: OnProgress | None = None) -> Listing:
    """Find and hash the files of a request; raises DataError.

    Where a named set's families are hidden, they are recovered from all of its files, also for a request of only some of them.
    """
    found = scan(request.data, group_rule=request.group_rule)
    protocol = _protocol(request, found)
    recovered = bool(found.dataset and found.dataset.hidden_families) and not all(file.group for file in found.files)
    wanted = {file.path for file in _limited(found, request)}
    hashed = [file for file in found.files if _storable(file.path) and (recovered or file.path in wanted)]
    hashes = dict(zip((file.path for file in hashed), hash_files([found.root / file.path for file in hashed], on_progress=on_progress), strict=True))
    if recovered:
        found = _with_families(found, hashes, on_progress)
    chosen = [file for file in found.files if file.path in wanted]
    pairs = [(file, sha) for file in chosen if (sha := hashes.get(file.path))]
    unreadable = [
        BadImage(path=file.path, reason=_why_unreadable(found.root / file.path)) for file in chosen if _storable(file.path) and not hashes[file.path]
    ]
    unreadable += [BadImage(path=ascii(file.path)[1:-1], reason=_UNSTORABLE) for file in chosen if not _storable(file.path)]
    return Listing(found, protocol, pairs, unreadable, recovered, frozenset(file.label for file in chosen))


def _with_families(found: Scan, hashes: dict[str, str | None], on_progress: OnProgress | None) -> Scan:
    file_of = {sha: found.root / path for path, sha in hashes.items() if sha}
    families = recovered_families(file_of, on_progress=on_progress)
    return replace(found, files=tuple(replace(file, group=families.get(hashes.get(file.path) or "", "")) for file in found.files))


def _protocol(request: DataRequest, found: Scan) -> Protocol:
    has_test = any(file.split == "test" for file in found.files)
    protocol: Protocol = request.protocol or ("official" if has_test else "grouped")
    if protocol == "official" and not has_test:
        raise DataError(f"{found.name} has no test set of its own, so the protocol 'official' cannot be; use grouped")
    if request.fold is not None and protocol != "grouped":
        raise DataError("--fold goes with the protocol 'grouped'")
    if request.fold is not None and request.fractions != DataRequest.model_fields["fractions"].default:
        raise DataError("--fold and --fractions both say how large the test set is; give one of them")
    if not all(0 < share < 1 for share in request.fractions) or abs(sum(request.fractions) - 1) > 1e-6:
        raise DataError(f"fractions {request.fractions} must be three positive numbers that add up to 1")
    return protocol


def _limited(found: Scan, request: DataRequest) -> tuple[Found, ...]:
    """The asked share of the files of each label and source split, and at most limit_per_label of them, drawn from the seed."""
    if not 0 < request.images_fraction <= 1:
        raise DataError(f"the fraction of images must be above 0 and at most 1; {request.images_fraction:g} was given")
    if request.limit_per_label is not None and request.limit_per_label < 1:
        raise DataError("the limit of images a label must be at least 1")
    if request.limit_per_label is None and request.images_fraction == 1:
        return found.files
    buckets: defaultdict[tuple[str, str | None], list[Found]] = defaultdict(list)
    for file in sorted(found.files, key=lambda file: hashlib.sha256(f"{request.split_seed}\0{file.path}".encode(errors="backslashreplace")).digest()):
        buckets[file.label, file.split].append(file)
    kept = {file.path for files in buckets.values() for file in files[: _kept(len(files), request)]}
    return tuple(file for file in found.files if file.path in kept)


def _kept(files: int, request: DataRequest) -> int:
    share = max(1, round(files * request.images_fraction))
    return share if request.limit_per_label is None else min(share, request.limit_per_label)


def _storable(path: str) -> bool:
    """Whether a name can stand in a UTF-8 file, one line a row."""
    return path.isprintable() and path.encode("utf-8", "replace").decode() == path


def _why_unreadable(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    if not path.exists():
        return "no such file"
    return "a folder, not a file" if path.is_dir() else f"cannot be opened{'' if os.access(path, os.R_OK) else ': no permission'}"
