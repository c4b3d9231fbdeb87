"""Connected parts of a graph, and the edges that alone hold two parts together. Pure functions."""

from collections.abc import Iterable

__all__ = ["Graph", "components", "lone_bridges"]


class Graph:
    """Nodes 0 … number - 1 and undirected edges (a, b)."""

    def __init__(self, number: int, edges: Iterable[tuple[int, int]]) -> None:
        self.number = number
        self._near: list[set[int]] = [set() for _ in range(number)]
        for a, b in edges:
            self._near[a].add(b)
            self._near[b].add(a)

    def neighbours(self, node: int) -> set[int]:
        """The nodes at the other ends of a node's edges."""
        return self._near[node]


def components(number: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """For each node the smallest node that it is connected with."""
    parent = list(range(number))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in edges:
        one, other = sorted((root(a), root(b)))
        parent[other] = one
    return [root(node) for node in range(number)]


def lone_bridges(graph: Graph) -> list[tuple[int, int]]:
    """The edges, sorted, without which their ends would not be connected (Tarjan 1974, by a depth-first search without recursion)."""
    entered = [-1] * graph.number
    lowest = [0] * graph.number
    bridges = []
    clock = 0
    for start in range(graph.number):
        if entered[start] >= 0:
            continue
        entered[start] = lowest[start] = clock
        clock += 1
        path = [(start, -1, iter(sorted(graph.neighbours(start))))]
        while path:
            node, before, rest = path[-1]
            near = next(rest, None)
            if near is None:
                path.pop()
                if path:
                    lowest[before] = min(lowest[before], lowest[node])
                    if lowest[node] > entered[before]:
                        bridges.append((min(before, node), max(before, node)))
            elif near != before and entered[near] >= 0:
                lowest[node] = min(lowest[node], entered[near])
            elif near != before:
                entered[near] = lowest[near] = clock
                clock += 1
                path.append((near, node, iter(sorted(graph.neighbours(near)))))
    return sorted(bridges)
