"""Ranks on graphs: complete, never worse, and right where the best is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import topologies

from topocomm.topology import Topology, groups_of, reorder_ranks, two_level
from topocomm.topology.graphs import Graph, graph_order, weight_parted


def graph(size: int, edges) -> Graph:
    table = np.array([(*edge, 1)[:3] for edge in edges], np.int64).reshape(-1, 3)
    return Graph(size, *table.T)


@given(topologies(1, 16).flatmap(lambda t: st.tuples(st.just(t), st.lists(st.tuples(
    st.integers(0, t.size - 1), st.integers(0, t.size - 1), st.integers(0, 5)), max_size=40))))  # fmt: skip
def test_every_rank_has_one_vertex_and_no_graph_is_worse_than_before(case):
    topology, edges = case
    found = graph(topology.size, edges)
    order = graph_order(topology, found)
    assert sorted(order.tolist()) == list(range(topology.size))
    before = weight_parted(topology, np.arange(topology.size), found)
    assert sum(weight_parted(topology, order, found)) <= sum(before)


def ring(size):
    return [(k, (k + 1) % size) for k in range(size)]


def grid(x, y):
    pairs = [(a * y + b, (a + 1) * y + b) for a in range(x - 1) for b in range(y)]
    return pairs + [(a * y + b, a * y + b + 1) for a in range(x) for b in range(y - 1)]


@pytest.mark.parametrize(
    ("topology", "edges", "most"),
    [
        (reorder_ranks(two_level(4, 4), "cyclic"), ring(16), [4]),
        (reorder_ranks(two_level(4, 4), "random:1"), grid(4, 4), [10]),  # 8 at best
        (reorder_ranks(groups_of([3, 5, 8]), "random:2"), ring(16), [3]),
        (reorder_ranks(two_level(2, 4), "cyclic"), [(0, 1, 1), (1, 2, 9), (2, 3, 1), (3, 0, 9)], [0]),
        (reorder_ranks(two_level(8, 4), "random:4"), [(4 * k + a, 4 * k + b) for k in range(8) for a in range(4)
                                                       for b in range(a)], [0]),
    ],
)  # fmt: skip
def test_known_graphs(topology, edges, most):
    found = graph(topology.size, edges)
    assert weight_parted(topology, graph_order(topology, found), found) <= most


def test_levels_nest():
    topology = reorder_ranks(Topology(("group", "node"), [(k // 8, k // 4) for k in range(16)]), "random:5")
    assert weight_parted(topology, graph_order(topology, graph(16, ring(16))), graph(16, ring(16))) == [2, 4]


def test_without_edges_or_distance_the_order_stays():
    assert graph_order(two_level(2, 2), graph(4, [])).tolist() == [0, 1, 2, 3]
    assert graph_order(Topology.flat(4), graph(4, ring(4))).tolist() == [0, 1, 2, 3]
