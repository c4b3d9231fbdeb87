from hypothesis import given
from hypothesis import strategies as st

from cellclf.data.audit.clusters import Graph, components, lone_bridges

NODES = 9
EDGES = st.sets(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)).filter(lambda pair: pair[0] < pair[1]))


def test_components_are_named_by_their_smallest_node() -> None:
    assert components(6, [(4, 5), (1, 2), (2, 5)]) == [0, 1, 1, 3, 1, 1]


def test_an_edge_in_a_ring_is_no_bridge_and_one_between_rings_is() -> None:
    rings = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)]
    assert lone_bridges(Graph(6, rings)) == []
    assert lone_bridges(Graph(7, [*rings, (2, 3), (5, 6)])) == [(2, 3), (5, 6)]


@given(edges=EDGES)
def test_a_bridge_is_an_edge_without_which_there_is_one_part_more(edges: set[tuple[int, int]]) -> None:
    parts = len(set(components(NODES, edges)))
    needed = sorted(edge for edge in edges if len(set(components(NODES, edges - {edge}))) > parts)
    assert lone_bridges(Graph(NODES, edges)) == needed


@given(edges=EDGES)
def test_both_ends_of_an_edge_are_in_one_component(edges: set[tuple[int, int]]) -> None:
    owner = components(NODES, edges)
    assert all(owner[a] == owner[b] for a, b in edges)
    assert all(owner[node] <= node and owner[owner[node]] == owner[node] for node in range(NODES))
