"""Builders of regular machines for study, and orders of ranks on them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from topocomm.errors import TopologyError
from topocomm.topology.topology import Topology

__all__ = ["dragonfly", "fat_tree", "groups_of", "random_places", "reorder_ranks", "torus", "two_level"]


def _regular(levels: Sequence[str], shape: Sequence[int], ranks_per_leaf: int) -> Topology:
    if min((*shape, ranks_per_leaf)) < 1:
        raise TopologyError(f"every extent must be at least 1, found {(*shape, ranks_per_leaf)}")
    places = np.array(list(itertools.product(*map(range, shape))), np.int64)
    return Topology(levels, np.repeat(places, ranks_per_leaf, axis=0))


def two_level(groups: int, members: int, level: str = "node") -> Topology:
    """``groups`` places of ``members`` ranks each, ranks in topology order."""
    return _regular((level,), (groups,), members)


def groups_of(sizes: Sequence[int], level: str = "group") -> Topology:
    """Places of unequal size: ``sizes[i]`` ranks in place i, ranks in topology order."""
    if not sizes or min(sizes) < 1:
        raise TopologyError(f"group sizes must be positive, found {list(sizes)}")
    return Topology((level,), np.repeat(np.arange(len(sizes)), sizes)[:, None])


def fat_tree(pods: int, switches: int, nodes: int, ranks_per_node: int = 1) -> Topology:
    """A three-tier fat tree: ``switches`` leaf switches in each pod, ``nodes`` nodes on each leaf switch."""
    return _regular(("pod", "switch", "node"), (pods, switches, nodes), ranks_per_node)


def dragonfly(groups: int, routers: int, nodes: int, ranks_per_node: int = 1) -> Topology:
    """A dragonfly: ``routers`` in each group, ``nodes`` nodes on each router."""
    return _regular(("group", "router", "node"), (groups, routers, nodes), ranks_per_node)


def torus(dims: Sequence[int], ranks_per_node: int = 1) -> Topology:
    """A torus seen as nested planes, lines and nodes: the first dimension varies slowest."""
    if not dims:
        raise TopologyError("a torus needs at least one dimension")
    names = [f"dim{i}" for i in range(len(dims) - 1)] + ["node"]
    return _regular(names, dims, ranks_per_node)


def random_places(size: int, seed: int) -> Topology:
    """``size`` ranks in random places of unequal size, on one to three levels, in random order (or, one time in four,
    sorted). The same ``seed`` gives the same places."""
    rng = np.random.default_rng((size, seed))
    levels = ("group", "switch", "node")[-int(rng.integers(1, 4)) :]
    columns: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    cut = np.zeros(size, bool)
    for _ in levels:
        cut[rng.permutation(size)[: int(np.exp(rng.uniform(0, np.log(size))))]] = True
        columns.append(np.cumsum(cut))
    order = np.arange(size) if rng.integers(4) == 0 else rng.permutation(size)
    return Topology(levels, np.stack(columns, axis=1)[order])


def reorder_ranks(topology: Topology, order: str) -> Topology:
    """The same places handed to the ranks in another order.

    ``sorted`` fills one place after the other, ``cyclic`` deals the ranks out over the outermost places in turn,
    ``random:SEED`` shuffles, ``given`` changes nothing. Raises TopologyError for any other word.
    """
    if order == "given":
        return topology
    if order == "sorted":
        return topology.restrict(topology.order)
    if order == "cyclic":
        outer = topology.places[:, 0] if topology.levels else np.zeros(topology.size, np.int64)
        turn = np.empty(topology.size, np.int64)
        for place in np.unique(outer):
            members = topology.order[outer[topology.order] == place]
            turn[members] = np.arange(len(members))
        return topology.restrict(np.lexsort((outer, turn)).astype(np.int64))
    word, _, seed = order.partition(":")
    if word == "random" and seed.isdecimal():
        return topology.restrict(np.random.default_rng(int(seed)).permutation(topology.size))
    raise TopologyError(f"unknown order {order!r}; use given, sorted, cyclic or random:SEED (SEED a whole number)")
