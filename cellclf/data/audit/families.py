"""Which files are copies of one original, and which originals show one field. Labels and names are never looked at."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellclf.data.audit.candidates import nearest
from cellclf.data.audit.clusters import components
from cellclf.data.audit.originals import Evidence, looks_mixed, photographs
from cellclf.data.audit.pairs import Pair, Pairs
from cellclf.data.audit.thumbnails import look_at
from cellclf.data.cache import OnProgress

__all__ = ["FAMILIES_VERSION", "Copy", "Families", "find_families"]

FAMILIES_VERSION = 4
"""Part of every key under which families are kept; raise it when the same files would give others."""

_FEW = 150
_MOST_NEAR = 20
_FIRST_NEAR = 4
_LONE_NEAR = 80
_LONE_SHARE = 0.05
_SMALL = 48
_PARTNERS = 16


@dataclass(frozen=True)
class Copy:
    """Two images that show the same field, by content hash; map: affine, 2 × 3, takes the first's thumbnail pixels to the second's.

    agreeing: keypoints that agree on the map. correlation: of fine structure under it. shared: the part of the canvas that both show.
    """

    first: str
    second: str
    agreeing: int
    correlation: float
    shared: float
    map: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Families:
    """What was found, by content hash.

    family_of: the copies of one original have one family. group_of: families whose originals are photographs of one field, or of fields that
    overlap, have one group: what must stay on one side of a split. copies: the pairs that tell so. unreadable: what could not be decoded.
    """

    family_of: dict[str, str]
    group_of: dict[str, str]
    copies: tuple[Copy, ...]
    unreadable: tuple[str, ...]

    @property
    def members(self) -> dict[str, tuple[str, ...]]:
        """Contents by family, sorted."""
        gathered: defaultdict[str, list[str]] = defaultdict(list)
        for content, family in sorted(self.family_of.items()):
            gathered[family].append(content)
        return {family: tuple(contents) for family, contents in sorted(gathered.items())}


def find_families(file_of: Mapping[str, Path], *, on_progress: OnProgress | None = None) -> Families:
    """Group files that show the same thing, whether turned by any angle, mirrored, shifted, sheared a little, brighter or darker.

    file_of: a file by its content hash. The result depends on the contents alone: not on order, names, labels or the number of threads.
    A family or group is named by the smallest content hash in it; a file like no other, or that cannot be read, is a family of its own.
    """
    contents = sorted(file_of)
    report = on_progress or _ignore
    seen = look_at([file_of[content] for content in contents], on_done=lambda done: report("families: looking", done, len(contents)))
    pairs = Pairs(seen, report)
    _search(pairs, report)
    groups = components(len(contents), pairs.edges)
    owner = _families(pairs, groups)
    return Families(
        family_of={content: contents[family] for content, family in zip(contents, owner, strict=True)},
        group_of={content: contents[group] for content, group in zip(contents, groups, strict=True)},
        copies=tuple(_copy(pairs, pair, contents) for pair in sorted(pairs.edges)),
        unreadable=tuple(content for content, readable in zip(contents, seen.readable, strict=True) if not readable),
    )


def _ignore(stage: str, done: int, total: int) -> None:
    """Report to nobody."""


def _search(pairs: Pairs, report: OnProgress) -> None:
    """Test all pairs of few images; of many the likeliest of each, then those that would join what is apart, then more of what is alone.

    What nothing confirms is dropped.
    """
    scenes, number = pairs.seen.scenes, len(pairs.seen.readable)
    if number <= _FEW:
        report("families: comparing", number, number)
        pairs.test(combinations(range(number), 2))
        pairs.drop_unconfirmed()
        return
    near = nearest(scenes.descriptors, scenes.found, count=_LONE_NEAR, on_rows=lambda done: report("families: comparing", done, number))
    pairs.test(_listed(near, 0, _FIRST_NEAR))
    apart = components(number, pairs.edges)
    pairs.test((a, b) for a, b in _listed(near, _FIRST_NEAR, _MOST_NEAR) if apart[a] != apart[b])
    owner = components(number, pairs.edges)
    sizes = np.bincount(owner, minlength=number)
    lone = [image for image in range(number) if sizes[owner[image]] == 1 and pairs.seen.readable[image]]
    if len(lone) <= _LONE_SHARE * number:
        pairs.test((min(image, other), max(image, other)) for image in lone for other in near[image, _MOST_NEAR:].tolist())
    pairs.drop_unconfirmed()


def _listed(near: npt.NDArray[np.int32], start: int, stop: int) -> Iterable[Pair]:
    return ((min(image, other), max(image, other)) for image, others in enumerate(near[:, start:stop].tolist()) for other in others)


def _families(pairs: Pairs, groups: Sequence[int]) -> list[int]:
    """The smallest image of the photograph that each image is a copy of."""
    members = defaultdict(list)
    for image, group in enumerate(groups):
        members[group].append(image)
    evidence = _by_group(pairs.evidence(pairs.edges), groups)
    mixed = [group for group, told in sorted(evidence.items()) if looks_mixed(list(told.values()))]
    before = set(pairs.edges)
    pairs.test(pair for group in mixed for pair in _partners(members[group]))
    for group, told in _by_group(pairs.evidence(set(pairs.edges) - before), groups).items():
        evidence[group].update(told)
    owner = list(groups)
    for group in mixed:
        for image, photograph in photographs(members[group], evidence[group]).items():
            owner[image] = photograph
    return owner


def _by_group(evidence: Mapping[Pair, Evidence], groups: Sequence[int]) -> dict[int, dict[Pair, Evidence]]:
    gathered: defaultdict[int, dict[Pair, Evidence]] = defaultdict(dict)
    for pair, found in evidence.items():
        gathered[groups[pair[0]]][pair] = found
    return gathered


def _partners(members: Sequence[int]) -> Iterable[Pair]:
    """Each member with all others of a small group, and with about _PARTNERS others, spread evenly, of a large one."""
    step = 1 if len(members) <= _SMALL else len(members) // _PARTNERS
    for place, image in enumerate(members):
        for ahead in range(1, len(members), step):
            other = members[(place + ahead) % len(members)]
            yield min(image, other), max(image, other)


def _copy(pairs: Pairs, pair: Pair, contents: Sequence[str]) -> Copy:
    edge = pairs.edges[pair]
    upper, lower = ((float(row[0]), float(row[1]), float(row[2])) for row in edge.map)
    return Copy(contents[pair[0]], contents[pair[1]], edge.agreeing, edge.correlation, edge.shared, (upper, lower))
