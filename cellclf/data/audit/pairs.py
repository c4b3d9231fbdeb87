"""Pairs of images that were registered and compared, and those of them that show the same."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellclf.data.audit.agreement import Agreement, compare, frame_difference, inner_part
from cellclf.data.audit.clusters import Graph, lone_bridges
from cellclf.data.audit.originals import Evidence
from cellclf.data.audit.registration import register
from cellclf.data.audit.thumbnails import Seen
from cellclf.data.cache import OnProgress
from cellclf.environment import usable_cores

__all__ = ["CUT_CORRELATION", "LEAST_AGREEING", "LEAST_CORRELATION", "LEAST_SHARED", "Edge", "Pair", "Pairs"]

Pair = tuple[int, int]
Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]

LEAST_AGREEING = 6
LEAST_CORRELATION = 0.9
LEAST_SHARED = 0.15
"""What makes two images show the same: keypoints that agree on one map, correlation of the fine structure under it, shared part of the canvas.

Keypoints alone do not tell: X-rays of different patients agree in up to 14 of 16. What these limits find and let through is in docs/results/audit.md.
"""

CUT_CORRELATION = 0.8
"""Enough for a pair of which one image is so bright that colours are cut off, where more keypoints agree (_CERTAIN_AGREEING)."""

_SURE_AGREEING = 8
_CERTAIN_AGREEING = 12
_MOST_CUT = 0.05
_HOPEFUL = 0.3
_INNER_CORRELATION = 0.95
_BLOCK = 512
_WITNESSES = 3


@dataclass(frozen=True)
class Edge:
    """Why two images show the same. map: affine, [2, 3], the first's thumbnail pixels → the second's."""

    agreeing: int
    correlation: float
    shared: float
    map: Floats


class Pairs:
    """Pairs (a, b), a < b, that were tested, and the edges: those of them that show the same."""

    def __init__(self, seen: Seen, report: OnProgress) -> None:
        self.seen = seen
        self.tested: set[Pair] = set()
        self.edges: dict[Pair, Edge] = {}
        self._inner = inner_part(seen.structure)
        self._report = report

    def test(self, wanted: Iterable[Pair]) -> None:
        """Register and compare each pair that was not tested yet."""
        new = sorted(set(wanted) - self.tested)
        self.tested.update(new)
        table = np.array(new, dtype=np.intp).reshape(-1, 2)
        with ThreadPoolExecutor(usable_cores()) as pool:
            for number, edges in enumerate(pool.map(self._found, _blocks(table)), start=1):
                self.edges.update(edges)
                self._report("families: registering", min(number * _BLOCK, len(table)), len(table))

    def evidence(self, pairs: Iterable[Pair]) -> dict[Pair, Evidence]:
        """What these edges say about whether both images are copies of one photograph."""
        chosen = sorted(pairs)
        table = np.array(chosen, dtype=np.intp).reshape(-1, 2)
        found: dict[Pair, Evidence] = {}
        with ThreadPoolExecutor(usable_cores()) as pool:
            for number, part in enumerate(pool.map(self._told, _blocks(table)), start=1):
                found.update(part)
                self._report("families: telling photographs apart", min(number * _BLOCK, len(table)), len(table))
        return found

    def drop_unconfirmed(self) -> None:
        """Drop every edge that alone joins two parts and that no other pair between their members confirms."""
        graph = Graph(len(self.seen.readable), self.edges)
        witnesses = {bridge: self._witnesses(graph, bridge) for bridge in lone_bridges(graph)}
        self.test(pair for pairs in witnesses.values() for pair in pairs)
        for bridge, pairs in witnesses.items():
            confirmed = any(pair in self.edges for pair in pairs) if pairs else self.edges[bridge].agreeing >= _SURE_AGREEING
            if not confirmed:
                del self.edges[bridge]

    def _found(self, table: Indices) -> dict[Pair, Edge]:
        registered = register(self.seen.scenes, table[:, 0], table[:, 1])
        likely = np.flatnonzero(registered.agreeing >= LEAST_AGREEING)
        table, agreeing = table[likely], registered.agreeing[likely]
        same = compare(self.seen.structure, table[:, 0], table[:, 1], registered.maps[likely])
        self._second_chance(table, agreeing, same)
        needed = np.where(self._cut(table) & (agreeing >= _CERTAIN_AGREEING), CUT_CORRELATION, LEAST_CORRELATION)
        kept = np.flatnonzero((same.correlation >= needed) & (same.shared >= LEAST_SHARED))
        return {
            (int(table[row, 0]), int(table[row, 1])): Edge(int(agreeing[row]), float(same.correlation[row]), float(same.shared[row]), same.maps[row])
            for row in kept
        }

    def _second_chance(self, table: Indices, agreeing: npt.NDArray[np.int64], same: Agreement) -> None:
        """Compare the inner parts of pairs that agree in many keypoints and not in their pixels: fill that looks like picture is near the edges."""
        rows = np.flatnonzero((agreeing >= _SURE_AGREEING) & (same.correlation < LEAST_CORRELATION) & (same.correlation >= _HOPEFUL))
        again = compare(self._inner, table[rows, 0], table[rows, 1], same.maps[rows])
        better = (again.correlation >= _INNER_CORRELATION) & (again.shared >= LEAST_SHARED)
        kept = rows[better]
        same.correlation[kept], same.shared[kept], same.maps[kept] = again.correlation[better], again.shared[better], again.maps[better]

    def _told(self, table: Indices) -> dict[Pair, Evidence]:
        pairs = [(int(a), int(b)) for a, b in table]
        maps = np.stack([self.edges[pair].map for pair in pairs])
        frames = frame_difference(self.seen.structure, table[:, 0], table[:, 1], maps)
        detail = compare(self._inner, table[:, 0], table[:, 1], maps, of="detail").correlation
        told = zip(pairs, frames, detail, self._cut(table), strict=True)
        return {pair: Evidence(float(frame), None if cut else float(fine)) for pair, frame, fine, cut in told}

    def _cut(self, table: Indices) -> npt.NDArray[np.bool_]:
        """Which pairs [p, 2] have an image that brightening has cut the detail of."""
        return np.asarray((self.seen.structure.cut > _MOST_CUT)[table].any(axis=1))

    def _witnesses(self, graph: Graph, bridge: Pair) -> list[Pair]:
        """Pairs across the bridge: its ends, and the neighbours of each that agree with it best."""
        sides = []
        for end, other in (bridge, bridge[::-1]):
            neighbours = sorted(graph.neighbours(end) - {other}, key=lambda near: (-self.edges[min(end, near), max(end, near)].agreeing, near))
            sides.append([end, *neighbours[:_WITNESSES]])
        return [(min(a, b), max(a, b)) for a in sides[0] for b in sides[1] if {a, b} != set(bridge)]


def _blocks(table: Indices) -> list[Indices]:
    return [table[start : start + _BLOCK] for start in range(0, len(table), _BLOCK)]
