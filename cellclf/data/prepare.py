"""From what a user asked for to a manifest and its pixels: scan, hash, decode, drop or refuse bad images, split, look for leaks."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cellclf.data.cache import OnProgress, PixelCache, open_cache
from cellclf.data.crops import View
from cellclf.data.leaks import find_leaks
from cellclf.data.listing import Listing, list_files
from cellclf.data.manifest import SPLITS, Entry, Leak, Manifest, Split
from cellclf.data.request import BadImage, DataRequest
from cellclf.data.scan import Found, scan
from cellclf.data.splits import Protocol, deal, fold_sides, merge_identical
from cellclf.documents import Document
from cellclf.errors import BadImagesError, DataError

__all__ = ["BadImage", "DataRecord", "DataRequest", "GroupsSource", "Prepared", "has_test_set", "list_images", "prepare", "reopen"]

_SHOWN = 5
_ANY = View(128, 128)
UNKNOWN_GROUPS = (
    "groups are unknown: each file counts as its own; if several files show one patient or cell, "
    "name it with --group-rule or a group column, or the figures will be too good"
)
RECOVERED_GROUPS = "nothing names the groups; they are families of files that show the same field, found in the pixels by `cellclf data audit`"
OWN_SPLIT = "the source's own division ({}) is not used: protocol {} divides all images anew{}"
TEST_FAMILIES = "{} training files are left out: they show the same field as images of the test set"

GroupsSource = Literal["given", "recovered", "unknown"]
"""Whether the data name the groups, or they are families found in the pixels, or nothing tells them."""


class DataRecord(Document):
    """What was really used; stored with every run."""

    # A file that was left out is in `skipped` where it cannot be used, and in `notes` where it shows what the official test set shows.
    name: str
    root: str
    request: DataRequest
    protocol: Protocol
    fingerprint: str
    labels: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    groups: int
    groups_known: bool
    groups_source: GroupsSource
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


def prepare(request: DataRequest, *, view: View, on_progress: OnProgress | None = None) -> Prepared:
    """Scan, hash, decode and split; raises DataError, and BadImagesError before anything is trained on a broken file."""
    listed = list_files(request, on_progress=on_progress)
    found, pairs = listed.found, listed.pairs
    file_of = {sha: found.root / file.path for file, sha in pairs}
    cache = open_cache(file_of, view, on_progress=on_progress)
    readable = [(file, sha) for file, sha in pairs if sha not in cache.errors]
    bad = (
        listed.unreadable + [BadImage(path=file.path, reason=cache.errors[sha]) for file, sha in pairs if sha in cache.errors] + _two_labels(readable)
    )
    if bad and (request.on_bad_image == "error" or len(bad) == len(listed.unreadable) + len(pairs)):
        raise BadImagesError(_bad_message(bad, found.root))
    left_out = {image.path for image in bad}
    usable = replace(listed, pairs=[(file, sha) for file, sha in pairs if file.path not in left_out])
    if lost := sorted(listed.labels - {file.label for file, _ in usable.pairs}):
        raise BadImagesError(f"no image of {', '.join(lost)} can be used, so no network can learn it. {_bad_message(bad, found.root)}")
    try:
        manifest = _divide(usable, request)
    except DataError as error:
        if bad:  # what was left out may be why
            raise BadImagesError(f"{error}. {_bad_message(bad, found.root)}") from error
        raise
    return Prepared(manifest, cache, _record(usable, request, manifest, tuple(bad)))


def has_test_set(request: DataRequest) -> bool:
    """Whether the source itself says which images are the test set."""
    return any(file.split == "test" for file in scan(request.data, group_rule=request.group_rule).files)


def list_images(request: DataRequest, *, divided: bool, view: View = _ANY) -> Manifest:
    """The very manifest that `prepare` makes of the same request; with divided=False every file is 'test', also those that cannot
    be read (their hash is ''). Raises DataError.

    Images are decoded (as `view` says, into the cache) only where those that cannot be used are to be left out before the division.
    """
    if divided and request.on_bad_image == "skip":
        return prepare(request, view=view).manifest
    listed = list_files(request)
    if divided:
        if listed.unreadable:
            raise BadImagesError(_bad_message(listed.unreadable, listed.found.root))
        return _divide(listed, request)
    known = {file.path: sha for file, sha in listed.pairs}
    everything = request.limit_per_label is None and request.images_fraction == 1
    files = (file for file in listed.found.files if file.path in known or everything)
    return Manifest(listed.found.root, tuple(Entry(file.path, known.get(file.path, ""), file.label, file.group, "test") for file in files))


def reopen(manifest: Manifest, record: DataRecord, *, view: View, on_progress: OnProgress | None = None) -> Prepared:
    """The pixels of a stored manifest again, from the cache or decoded anew; raises DataError where files changed or the manifest did."""
    if manifest.fingerprint != record.fingerprint:
        raise DataError(f"manifest.csv does not match its recorded fingerprint {record.fingerprint[:12]}: it was changed")
    file_of = {entry.sha256: manifest.file(entry) for entry in manifest.entries}
    try:
        cache = open_cache(file_of, view, on_progress=on_progress)
    except OSError as error:
        raise DataError(f"an image of the manifest cannot be read: {error.filename}: {error.strerror}") from error
    if cache.errors:
        raise BadImagesError(f"{len(cache.errors)} images of the manifest cannot be decoded any more")
    return Prepared(manifest, cache, record)


def _two_labels(pairs: list[tuple[Found, str]]) -> list[BadImage]:
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for file, sha in pairs:
        labels[sha].add(file.label)
    return [
        BadImage(path=file.path, reason=f"the same image stands under two labels: {', '.join(sorted(labels[sha]))}")
        for file, sha in pairs
        if len(labels[sha]) > 1
    ]


def _divide(listed: Listing, request: DataRequest) -> Manifest:
    protocol, pairs = listed.protocol, _without_test_families(listed)
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
    manifest = Manifest(listed.found.root, entries)
    _check_labels(manifest)
    return manifest


def _without_test_families(listed: Listing) -> list[tuple[Found, str]]:
    """The files of an official division, less those to train on that show what a test image shows.

    Only where the families were found in the pixels: where the data name the groups, the data say how they are divided, and a leak is marked.
    """
    if listed.protocol != "official" or not listed.recovered:
        return listed.pairs
    tested = {file.group for file in listed.found.files if file.split == "test"}
    return [(file, sha) for file, sha in listed.pairs if file.split == "test" or file.group not in tested]


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


def _record(listed: Listing, request: DataRequest, manifest: Manifest, skipped: tuple[BadImage, ...]) -> DataRecord:
    found, protocol = listed.found, listed.protocol
    known = all(entry.group for entry in manifest.entries)
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
        groups_source="recovered" if listed.recovered else "given" if known else "unknown",
        leaks=find_leaks(manifest, protocol),
        notes=_notes(listed, request, known),
        skipped=skipped,
        augmentation=found.dataset.augmentation if found.dataset else "light",
        intended_use=found.dataset.intended_use if found.dataset else "Research and education; not validated for diagnosis.",
        licence=found.dataset.licence if found.dataset else "images: as their owner states",
    )


def _notes(listed: Listing, request: DataRequest, known: bool) -> tuple[str, ...]:
    left_out = len(listed.pairs) - len(_without_test_families(listed))
    notes = list(listed.found.notes)
    own = sorted({file.split for file in listed.found.files if file.split})
    if own and listed.protocol != "official" and not listed.found.dataset:
        why = "" if request.protocol else ", for want of a test set of its own"
        notes.append(OWN_SPLIT.format(", ".join(own), listed.protocol, why))
    if not known:
        notes.append(UNKNOWN_GROUPS)
    if listed.recovered:
        notes.append(RECOVERED_GROUPS)
    if left_out:
        notes.append(TEST_FAMILIES.format(left_out))
    return tuple(notes)


def _bad_message(bad: list[BadImage], root: Path) -> str:
    shown = "; ".join(f"{root / image.path}: {image.reason}" for image in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return f"{len(bad)} images cannot be used: {shown}{more}. Mend or remove them, or leave them out with --on-bad-image skip"
