"""Which files show the same thing: augmented copies of one original, or photographs of one field. Labels and names are never looked at."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellclf.data.audit.agreement import compare
from cellclf.data.audit.candidates import nearest
from cellclf.data.audit.clusters import Graph, components, lone_bridges
from cellclf.data.audit.registration import register
from cellclf.data.audit.thumbnails import Seen, look_at
from cellclf.data.cache import OnProgress
from cellclf.environment import usable_cores

__all__ = ["FAMILIES_VERSION", "Copy", "Families", "find_families"]

FAMILIES_VERSION = 1
"""Part of every key under which families are kept; raise it when the same files would give others."""

Indices = npt.NDArray[np.intp]

LEAST_AGREEING = 6
LEAST_CORRELATION = 0.9
LEAST_SHARED = 0.2
"""What makes two images show the same: keypoints that agree on one map, correlation of the fine structure under it, shared part of the canvas.

Of the pairs of likely blood cells that agree in 8 or more keypoints 99.8 % correlate by .85 or more; of 15,000 of chest X-rays of different patients,
which are all alike, none did, whatever agreed (benchmarks/audit_accuracy.py).
"""

_SURE_AGREEING = 8
_FEW = 150
_MOST_NEAR = 20
_FIRST_NEAR = 4
_LONE_NEAR = 80
_LONE_SHARE = 0.05
_BLOCK = 512
_WITNESSES = 3


@dataclass(frozen=True)
class Copy:
    """Two images that show the same, by content hash; the map takes the first's thumbnail pixels to the second's (2 × 3, affine)."""

    first: str
    second: str
    agreeing: int
    correlation: float
    shared: float
    map: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Families:
    """family_of: by content hash, the name of what it shows; copies: the pairs that tell so; unreadable: contents that could not be decoded."""

    family_of: dict[str, str]
    copies: tuple[Copy, ...]
    unreadable: tuple[str, ...]

    @property
    def members(self) -> dict[str, tuple[str, ...]]:
        """Contents by family, sorted."""
        gathered: defaultdict[str, list[str]] = defaultdict(list)
        for content in sorted(self.family_of):
            gathered[self.family_of[content]].append(content)
        return {family: tuple(contents) for family, contents in sorted(gathered.items())}


def find_families(file_of: Mapping[str, Path], *, on_progress: OnProgress | None = None) -> Families:
    """Group files that show the same thing, whether turned by any angle, mirrored, shifted, sheared a little, brighter or darker.

    file_of: a file by its content hash. The result depends on the contents alone: not on order, names, labels or the number of threads.
    A family is named by the smallest content hash in it; a file like no other, or that cannot be read, is a family of its own.
    """
    contents = sorted(file_of)
    report = on_progress or (lambda _stage, _done, _total: None)
    seen = look_at([file_of[content] for content in contents], on_done=lambda done: report("families: looking", done, len(contents)))
    pairs = _Pairs(seen)
    if len(contents) > 1:
        _search(pairs, len(contents), report)
    owner = components(len(contents), pairs.edges)
    family_of = {content: contents[owner[number]] for number, content in enumerate(contents)}
    copies = tuple(pairs.copy(pair, contents) for pair in sorted(pairs.edges))
    return Families(family_of, copies, tuple(content for content, readable in zip(contents, seen.readable, strict=True) if not readable))


def _search(pairs: "_Pairs", number: int, report: OnProgress) -> None:
    """Test all pairs of few images; of many the likeliest of each, then those that would join what is apart, then more of what is alone.

    What nothing confirms is dropped.
    """
    if number <= _FEW:
        report("families: comparing", number, number)
        pairs.test(combinations(range(number), 2), report)
        pairs.drop_unconfirmed(number, report)
        return
    scenes = pairs.seen.scenes
    near = nearest(scenes.descriptors, scenes.found, count=_LONE_NEAR, on_rows=lambda done: report("families: comparing", done, number))
    pairs.test(_listed(near, 0, _FIRST_NEAR), report)
    apart = components(number, pairs.edges)
    pairs.test(((a, b) for a, b in _listed(near, _FIRST_NEAR, _MOST_NEAR) if apart[a] != apart[b]), report)
    owner = components(number, pairs.edges)
    sizes = np.bincount(owner, minlength=number)
    lone = [image for image in range(number) if sizes[owner[image]] == 1 and pairs.seen.readable[image]]
    if len(lone) <= _LONE_SHARE * number:
        pairs.test(((min(image, other), max(image, other)) for image in lone for other in near[image, _MOST_NEAR:].tolist()), report)
    pairs.drop_unconfirmed(number, report)


def _listed(near: npt.NDArray[np.int32], start: int, stop: int) -> Iterable[tuple[int, int]]:
    return ((min(image, other), max(image, other)) for image, others in enumerate(near[:, start:stop].tolist()) for other in others)


class _Pairs:
    """Pairs of images that were tested, and the edges: those that show the same."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.tested: set[tuple[int, int]] = set()
        self.edges: dict[tuple[int, int], tuple[int, float, float, npt.NDArray[np.float32]]] = {}

    def test(self, wanted: Iterable[tuple[int, int]], report: OnProgress) -> None:
        """Register and compare each pair that was not tested yet."""
        new = sorted(set(wanted) - self.tested)
        self.tested.update(new)
        table = np.array(new, dtype=np.intp).reshape(-1, 2)
        with ThreadPoolExecutor(usable_cores()) as pool:
            done = 0
            for edges in pool.map(self._tested, [table[start : start + _BLOCK] for start in range(0, len(table), _BLOCK)]):
                self.edges.update(edges)
                done = min(done + _BLOCK, len(table))
                report("families: registering", done, len(table))

    def _tested(self, table: Indices) -> dict[tuple[int, int], tuple[int, float, float, npt.NDArray[np.float32]]]:
        found = register(self.seen.scenes, table[:, 0], table[:, 1])
        kept = np.flatnonzero(found.agreeing >= LEAST_AGREEING)
        table, agreeing, maps = table[kept], found.agreeing[kept], found.maps[kept]
        pixels = compare(self.seen.structure, table[:, 0], table[:, 1], maps)
        same = np.flatnonzero((pixels.correlation >= LEAST_CORRELATION) & (pixels.shared >= LEAST_SHARED))
        return {
            (int(table[row, 0]), int(table[row, 1])): (int(agreeing[row]), float(pixels.correlation[row]), float(pixels.shared[row]), maps[row])
            for row in same
        }

    def drop_unconfirmed(self, number: int, report: OnProgress) -> None:
        """Drop every edge that alone joins two parts and that no other pair between their members confirms."""
        graph = Graph(number, self.edges)
        bridges = lone_bridges(graph)
        witnesses = {bridge: self._witnesses(graph, bridge) for bridge in bridges}
        self.test((pair for pairs in witnesses.values() for pair in pairs), report)
        for bridge, pairs in witnesses.items():
            confirmed = any(pair in self.edges for pair in pairs) if pairs else self.edges[bridge][0] >= _SURE_AGREEING
            if not confirmed:
                del self.edges[bridge]

    def _witnesses(self, graph: Graph, bridge: tuple[int, int]) -> list[tuple[int, int]]:
        """Pairs across the bridge: its ends, and the neighbours of each that agree with it best."""
        sides = []
        for end, other in (bridge, bridge[::-1]):
            neighbours = sorted(graph.neighbours(end) - {other}, key=lambda near: (-self.edges[min(end, near), max(end, near)][0], near))
            sides.append([end, *neighbours[:_WITNESSES]])
        return [(min(a, b), max(a, b)) for a in sides[0] for b in sides[1] if {a, b} != set(bridge)]

    def copy(self, pair: tuple[int, int], contents: list[str]) -> Copy:
        """An edge in terms of contents."""
        agreeing, correlation, shared, found = self.edges[pair]
        upper, lower = ((float(row[0]), float(row[1]), float(row[2])) for row in found)
        return Copy(contents[pair[0]], contents[pair[1]], agreeing, correlation, shared, (upper, lower))
