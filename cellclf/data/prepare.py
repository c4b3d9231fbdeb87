"""From what a user asked for to a manifest and its pixels: scan, hash, decode, drop or refuse bad images, split, look for leaks."""

import hashlib
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cellclf.data.cache import OnProgress, PixelCache, hash_files, open_cache
from cellclf.data.leaks import find_leaks
from cellclf.data.manifest import SPLITS, Entry, Leak, Manifest, Split
from cellclf.data.scan import Found, Scan, scan
from cellclf.data.splits import Fractions, Protocol, deal, fold_sides, merge_identical
from cellclf.documents import Document
from cellclf.errors import BadImagesError, DataError

__all__ = ["BadImage", "DataRecord", "DataRequest", "Prepared", "has_test_set", "list_images", "prepare", "reopen"]

_SHOWN = 5
_UNSTORABLE = "its name is not UTF-8 or holds control characters; rename it"
UNKNOWN_GROUPS = (
    "groups are unknown: each file counts as its own; if several files show one patient or cell, "
    "name it with --group-rule or a group column, or the figures will be too good"
)


class DataRequest(Document):
    """What to train on and how to divide it.

    data: a data set's name, a folder, or a .csv file. protocol: None = official where the source has a test set, else grouped.
    fractions: shares of train, validation and test (official cuts validation : train in the ratio of the first two). fold: 'K/N'.
    images_fraction: share of the files of each label and source split that is used at all, drawn from split_seed; limit_per_label: at most so many.
    """

    data: str
    protocol: Protocol | None = None
    fractions: Fractions = (0.64, 0.16, 0.20)
    fold: str | None = None
    split_seed: int = 0
    group_rule: str | None = None
    on_bad_image: Literal["error", "skip"] = "error"
    limit_per_label: int | None = None
    images_fraction: float = 1.0


class BadImage(Document):
    """An image that was left out, and why."""

    path: str
    reason: str


class DataRecord(Document):
    """What was really used; stored with every run."""

    name: str
    root: str
    request: DataRequest
    protocol: Protocol
    fingerprint: str
    labels: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    groups: int
    groups_known: bool
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]
    skipped: tuple[BadImage, ...]
    augmentation: str
    intended_use: str
    licence: str


@dataclass(frozen=True)
class Prepared:
    """A manifest, its pixels, and the record of how they came about."""

    manifest: Manifest
    pixels: PixelCache
    record: DataRecord


@dataclass(frozen=True)
class _Listed:
    """What a request found: files with their content hashes, and those that could not be read."""

    found: Scan
    protocol: Protocol
    pairs: list[tuple[Found, str]]
    unreadable: list[BadImage]


def _listed(request: DataRequest, on_progress: OnProgress | None) -> _Listed:
    found = scan(request.data, group_rule=request.group_rule)
    protocol = _protocol(request, found)
    everything = _limited(found, request)
    files = [file for file in everything if _storable(file.path)]
    hashes = hash_files([found.root / file.path for file in files], on_progress=on_progress)
    lost = [file.path for file, sha in zip(files, hashes, strict=True) if not sha]
    unreadable = [BadImage(path=path, reason=_why_unreadable(found.root / path)) for path in lost]
    unreadable += [BadImage(path=ascii(file.path)[1:-1], reason=_UNSTORABLE) for file in everything if not _storable(file.path)]
    return _Listed(found, protocol, [(file, sha) for file, sha in zip(files, hashes, strict=True) if sha], unreadable)


def prepare(request: DataRequest, *, image_size_px: int, on_progress: OnProgress | None = None) -> Prepared:
    """Scan, hash, decode and split; raises DataError, and BadImagesError before anything is trained on a broken file."""
    listed = _listed(request, on_progress)
    found, pairs = listed.found, listed.pairs
    file_of = {sha: found.root / file.path for file, sha in pairs}
    cache = open_cache(file_of, height_px=image_size_px, width_px=image_size_px, on_progress=on_progress)
    readable = [(file, sha) for file, sha in pairs if sha not in cache.errors]
    bad = (
        listed.unreadable + [BadImage(path=file.path, reason=cache.errors[sha]) for file, sha in pairs if sha in cache.errors] + _two_labels(readable)
    )
    if bad and request.on_bad_image == "error":
        raise BadImagesError(_bad_message(bad, found.root))
    left_out = {image.path for image in bad}
    manifest = _divide(found, [(file, sha) for file, sha in pairs if file.path not in left_out], listed.protocol, request)
    return Prepared(manifest, cache, _record(found, request, listed.protocol, manifest, tuple(bad)))


def has_test_set(request: DataRequest) -> bool:
    """Whether the source itself says which images are the test set."""
    return any(file.split == "test" for file in scan(request.data, group_rule=request.group_rule).files)


def list_images(request: DataRequest, *, divided: bool, image_size_px: int = 128) -> Manifest:
    """The very manifest that `prepare` makes of the same request; with divided=False every file is 'test', also those that cannot
    be read (their hash is ''). Raises DataError.

    Images are decoded (to image_size_px, into the cache) only where broken ones are to be left out before the division.
    """
    if divided and request.on_bad_image == "skip":
        return prepare(request, image_size_px=image_size_px).manifest
    listed = _listed(request, None)
    if divided:
        if listed.unreadable:
            raise BadImagesError(_bad_message(listed.unreadable, listed.found.root))
        return _divide(listed.found, listed.pairs, listed.protocol, request)
    known = {file.path: sha for file, sha in listed.pairs}
    everything = request.limit_per_label is None and request.images_fraction == 1
    files = (file for file in listed.found.files if file.path in known or everything)
    return Manifest(listed.found.root, tuple(Entry(file.path, known.get(file.path, ""), file.label, file.group, "test") for file in files))


def reopen(manifest: Manifest, record: DataRecord, *, image_size_px: int, on_progress: OnProgress | None = None) -> Prepared:
    """The pixels of a stored manifest again, from the cache or decoded anew; raises DataError where files changed or the manifest did."""
    if manifest.fingerprint != record.fingerprint:
        raise DataError(f"manifest.csv does not match its recorded fingerprint {record.fingerprint[:12]}: it was changed")
    file_of = {entry.sha256: manifest.file(entry) for entry in manifest.entries}
    try:
        cache = open_cache(file_of, height_px=image_size_px, width_px=image_size_px, on_progress=on_progress)
    except OSError as error:
        raise DataError(f"an image of the manifest cannot be read: {error.filename}: {error.strerror}") from error
    if cache.errors:
        raise BadImagesError(f"{len(cache.errors)} images of the manifest cannot be decoded any more")
    return Prepared(manifest, cache, record)


def _protocol(request: DataRequest, found: Scan) -> Protocol:
    has_test = any(file.split == "test" for file in found.files)
    groups = all(file.group for file in found.files)
    protocol: Protocol = request.protocol or ("official" if has_test else "grouped")
    if protocol == "official" and not has_test:
        raise DataError(f"{found.name} has no test set of its own, so the protocol 'official' cannot be; use grouped")
    if protocol == "grouped" and not groups and found.dataset and found.dataset.hidden_families:
        raise DataError(
            f"{found.name} cannot be split by group: its files are augmented copies and their names do not tell which belong together; "
            "use --protocol official, or give a .csv with a group column"
        )
    if request.fold is not None and protocol != "grouped":
        raise DataError("--fold goes with the protocol 'grouped'")
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


def _two_labels(pairs: list[tuple[Found, str]]) -> list[BadImage]:
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for file, sha in pairs:
        labels[sha].add(file.label)
    return [
        BadImage(path=file.path, reason=f"the same image stands under two labels: {', '.join(sorted(labels[sha]))}")
        for file, sha in pairs
        if len(labels[sha]) > 1
    ]


def _divide(found: Scan, pairs: list[tuple[Found, str]], protocol: Protocol, request: DataRequest) -> Manifest:
    units = merge_identical([file.group for file, _ in pairs], [sha for _, sha in pairs])
    if protocol == "random":
        units = [file.path for file, _ in pairs]
    splits = [file.split for file, _ in pairs] if protocol == "official" else [None] * len(pairs)
    has_validation = "validation" in splits
    open_units: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (file, _), unit, split in zip(pairs, units, splits, strict=True):
        if split is None or (split == "train" and not has_validation):
            open_units[unit][file.label] += 1
    sides = _sides(open_units, protocol, request)
    chosen = [sides.get(unit, split) if split != "test" else split for unit, split in zip(units, splits, strict=True)]
    entries = tuple(Entry(file.path, sha, file.label, file.group, side) for (file, sha), side in zip(pairs, chosen, strict=True) if side is not None)
    manifest = Manifest(found.root, entries)
    _check_labels(manifest)
    return manifest


def _sides(units: dict[str, Counter[str]], protocol: Protocol, request: DataRequest) -> dict[str, Split]:
    by_name: dict[str, Split] = {split: split for split in SPLITS}
    train, validation, test = request.fractions
    if protocol == "official":
        shares = {"train": train, "validation": validation}
    elif request.fold is not None:
        fold, folds = _fold(request.fold)
        by_name = fold_sides(fold, folds)
        shares = {str(number): 1.0 for number in range(1, folds + 1)}
    else:
        shares = {"train": train, "validation": validation, "test": test}
    return {unit: by_name[side] for unit, side in deal(units, shares, seed=request.split_seed).items()}


def _fold(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None:
        raise DataError(f"fold {text!r} must be K/N, for example 1/5")
    return int(match[1]), int(match[2])


def _check_labels(manifest: Manifest) -> None:
    if len(manifest.labels) < 2:
        raise DataError(f"at least two labels are needed; found {', '.join(manifest.labels) or 'none'}")
    for split in SPLITS:
        missing = sorted(set(manifest.labels) - set(manifest.counts(split)))
        if missing:
            raise DataError(f"the {split} set has no image of {', '.join(missing)}: too few images or groups of that label to divide")


def _record(found: Scan, request: DataRequest, protocol: Protocol, manifest: Manifest, skipped: tuple[BadImage, ...]) -> DataRecord:
    known = all(entry.group for entry in manifest.entries)
    hidden = bool(found.dataset and found.dataset.hidden_families) and not known
    notes = () if known or hidden else (UNKNOWN_GROUPS,)
    return DataRecord(
        name=found.name,
        root=str(found.root),
        request=request,
        protocol=protocol,
        fingerprint=manifest.fingerprint,
        labels=manifest.labels,
        counts={split: {label: manifest.counts(split)[label] for label in manifest.labels} for split in SPLITS},
        groups=len({key for split in SPLITS for key in manifest.group_keys(split)}),
        groups_known=known,
        leaks=find_leaks(manifest, protocol, hidden_families=hidden),
        notes=notes,
        skipped=skipped,
        augmentation=found.dataset.augmentation if found.dataset else "light",
        intended_use=found.dataset.intended_use if found.dataset else "Research and education; not validated for diagnosis.",
        licence=found.dataset.licence if found.dataset else "images: as their owner states",
    )


def _storable(path: str) -> bool:
    """Whether a name can stand in a UTF-8 file, one line a row."""
    return path.isprintable() and path.encode("utf-8", "replace").decode() == path


def _why_unreadable(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    if not path.exists():
        return "no such file"
    return "a folder, not a file" if path.is_dir() else f"cannot be opened{'' if os.access(path, os.R_OK) else ': no permission'}"


def _bad_message(bad: list[BadImage], root: Path) -> str:
    shown = "; ".join(f"{root / image.path}: {image.reason}" for image in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return f"{len(bad)} images cannot be used: {shown}{more}. Mend or remove them, or leave them out with --on-bad-image skip"
