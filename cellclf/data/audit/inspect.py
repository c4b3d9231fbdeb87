"""The audit: what is wrong with a data set, found in its files, its groups and its pixels. Labels are compared only after the families are found."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cellclf.data.audit.families import Copy, Families, find_families
from cellclf.data.audit.findings import Audit, Crossing, CrossingKind, Duplicates, LabelConflict, PairShown
from cellclf.data.audit.shortcuts import Sample, check_available, measure_shortcuts
from cellclf.data.cache import OnProgress, hash_files
from cellclf.data.crops import View
from cellclf.data.decoding import decode_file
from cellclf.data.request import BadImage
from cellclf.data.scan import Found, Scan, scan
from cellclf.data.splits import merge_identical
from cellclf.errors import DataError, DecodeError

__all__ = ["Audited", "audit", "describe_map"]

_SHOWN = 24
_STILL_DEGREES, _STILL_PX, _STILL_SCALE = 2.0, 2.0, 0.03
"""Within these two images are near duplicates rather than augmented copies: of a thumbnail of 80 px, 2 px are 2.5 % of the image."""


@dataclass(frozen=True)
class Audited:
    """The findings, and each file with the group that keeps its patient, its copies and its field on one side of a split."""

    audit: Audit
    scan: Scan
    group_of: dict[str, str]


def audit(data: str, *, group_rule: str | None = None, on_progress: OnProgress | None = None) -> Audited:
    """Look for duplicates, copies, label conflicts, what crosses the split, imbalance, broken files and shortcuts; raises DataError."""
    check_available()
    started = time.perf_counter()
    found = scan(data, group_rule=group_rule)
    hashes = hash_files([found.root / file.path for file in found.files], on_progress=on_progress)
    sha_of = {file.path: sha for file, sha in zip(found.files, hashes, strict=True) if sha}
    file_of = {sha: found.root / path for path, sha in sha_of.items()}
    if len(file_of) < 2:
        raise DataError(f"{found.name} has {len(file_of)} readable files; an audit compares at least two")
    families = find_families(file_of, on_progress=on_progress)
    files = [file for file in found.files if file.path in sha_of]
    groups = merge_identical([file.group for file in files], [families.group_of[sha_of[file.path]] for file in files])
    group_of = {file.path: group for file, group in zip(files, groups, strict=True)}
    unreadable = set(families.unreadable)
    samples = [Sample(found.root / file.path, file.label, group_of[file.path]) for file in files if sha_of[file.path] not in unreadable]
    near, augmented = _by_kind(families.copies)
    conflicts, crossings = _conflicts(files, sha_of, families), _crossings(files, sha_of, families)
    counts = _counts(found.files)
    totals = Counter(file.label for file in found.files)
    findings = Audit(
        name=found.name,
        files=len(found.files),
        counts=counts,
        unbalanced=max(totals.values()) / min(totals.values()),
        broken=_broken(found, sha_of, unreadable),
        duplicates=_duplicates(files, sha_of),
        near_duplicates=len(near),
        augmented_pairs=len(augmented),
        copies=len({content for copy in families.copies for content in (copy.first, copy.second)}),
        families=len(families.members),
        largest_family=max(len(members) for members in families.members.values()),
        groups_given=len({file.group for file in found.files if file.group}),
        label_conflicts=conflicts,
        crossings=crossings,
        shortcuts=measure_shortcuts(samples),
        pairs=_pairs(files, sha_of, near, augmented),
        seconds=time.perf_counter() - started,
    )
    return Audited(findings, found, group_of)


def describe_map(copy: Copy) -> str:
    """How the second is made of the first, in words: mirrored, turned by so many degrees, shifted by so much of the image, scaled."""
    (a, b, x), (c, d, y) = copy.map
    determinant = a * d - b * c
    scale = math.sqrt(abs(determinant))
    mirrored = determinant < 0
    angle = math.degrees(math.atan2(-c if mirrored else c, -a if mirrored else a)) if mirrored else math.degrees(math.atan2(c, a))
    parts = ["mirrored"] if mirrored else []
    if abs(angle) > _STILL_DEGREES:
        parts.append(f"turned by {angle:.0f}°")
    if not parts and math.hypot(x, y) > _STILL_PX:
        parts.append("shifted")
    if abs(scale - 1) > _STILL_SCALE:
        parts.append(f"scaled by {scale:.2f}")
    return ", ".join(parts) or "the same place"


def _by_kind(copies: Iterable[Copy]) -> tuple[list[Copy], list[Copy]]:
    """Near duplicates, and augmented copies; surest first."""
    ordered = sorted(copies, key=lambda copy: (-copy.correlation, copy.first, copy.second))
    near = [copy for copy in ordered if describe_map(copy) == "the same place"]
    return near, [copy for copy in ordered if describe_map(copy) != "the same place"]


def _counts(files: Iterable[Found]) -> dict[str, dict[str, int]]:
    """Every split has every label, so that columns of a table agree."""
    by_split: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for file in files:
        by_split[file.split or "all"][file.label] += 1
    labels = sorted({label for counts in by_split.values() for label in counts})
    return {split: {label: counts[label] for label in labels} for split, counts in sorted(by_split.items())}


def _broken(found: Scan, sha_of: dict[str, str], unreadable: set[str]) -> tuple[BadImage, ...]:
    broken = [BadImage(path=file.path, reason="cannot be opened") for file in found.files if file.path not in sha_of]
    return (*broken, *(BadImage(path=path, reason=_reason(found.root / path)) for path, sha in sha_of.items() if sha in unreadable))


def _reason(path: Path) -> str:
    try:
        decode_file(path, View(16, 16))
    except DecodeError as error:
        return str(error)
    return "no thumbnail can be made of it"


def _duplicates(files: list[Found], sha_of: dict[str, str]) -> tuple[Duplicates, ...]:
    return tuple(
        Duplicates(
            sha256=sha,
            paths=tuple(file.path for file in same),
            labels=tuple(sorted({file.label for file in same})),
            splits=tuple(sorted({file.split for file in same if file.split})),
        )
        for sha, same in _gathered(files, lambda file: sha_of[file.path]).items()
        if len(same) > 1
    )


def _conflicts(files: list[Found], sha_of: dict[str, str], families: Families) -> tuple[LabelConflict, ...]:
    found: list[LabelConflict] = []
    for same in _gathered(files, lambda file: families.family_of[sha_of[file.path]]).values():
        labels = Counter(file.label for file in same)
        if len(labels) > 1:
            identical = len({sha_of[file.path] for file in same}) == 1
            examples = tuple(next(file.path for file in same if file.label == label) for label in sorted(labels))
            kind = "byte-identical files" if identical else "copies of one original"
            found.append(LabelConflict(kind=kind, images=dict(sorted(labels.items())), examples=examples))
    return tuple(sorted(found, key=lambda conflict: (-min(conflict.images.values()), conflict.examples)))


def _crossings(files: list[Found], sha_of: dict[str, str], families: Families) -> tuple[Crossing, ...]:
    """What is on two sides of the source's own split; validation folders count as a side of their own."""
    kinds: tuple[tuple[CrossingKind, Callable[[Found], str]], ...] = (
        ("byte-identical files", lambda file: sha_of[file.path]),
        ("copies of one field", lambda file: families.group_of[sha_of[file.path]]),
        ("group", lambda file: file.group),
    )
    divided = [file for file in files if file.split]
    found = []
    for kind, key in kinds:
        for name, same in _gathered(divided, key).items():
            splits = Counter(str(file.split) for file in same)
            if name and len(splits) > 1:
                examples = tuple(next(file.path for file in same if file.split == split) for split in sorted(splits))
                found.append(Crossing(kind=kind, name=name, images=dict(sorted(splits.items())), examples=examples))
    return tuple(found)


def _pairs(files: list[Found], sha_of: dict[str, str], near: list[Copy], augmented: list[Copy]) -> tuple[PairShown, ...]:
    """Pairs to look at: what crosses the split, what carries two labels, then others; weakest evidence first, so that a false one is seen."""
    file_of = {sha_of[file.path]: file for file in reversed(files)}
    crossing, doubtful, plain = [], [], []
    for copy in sorted((*near, *augmented), key=lambda copy: copy.correlation):
        first, second = file_of[copy.first], file_of[copy.second]
        if first.split != second.split:
            crossing.append(_shown(copy, first, second, f"one in {first.split}, one in {second.split}"))
        elif first.label != second.label:
            doubtful.append(_shown(copy, first, second, f"labelled {first.label} and {second.label}"))
        else:
            plain.append(_shown(copy, first, second, "near duplicate" if copy in near[:_SHOWN] else "augmented copy"))
    third = _SHOWN // 3
    return (*crossing[:third], *doubtful[:third], *plain[:third])


def _shown(copy: Copy, first: Found, second: Found, why: str) -> PairShown:
    return PairShown(first=first.path, second=second.path, why=why, transformation=describe_map(copy), correlation=copy.correlation, map=copy.map)


def _gathered(files: Iterable[Found], key: Callable[[Found], str]) -> dict[str, list[Found]]:
    gathered: defaultdict[str, list[Found]] = defaultdict(list)
    for file in files:
        gathered[key(file)].append(file)
    return dict(gathered)
