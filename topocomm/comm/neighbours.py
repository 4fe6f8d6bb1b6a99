"""Neighbours on grids and graphs, put near each other on the machine: what MPI's ``reorder`` allows and MPI libraries
leave.

A process takes over another rank, and with it that rank's position: on a graph also its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm import objects
from topocomm.arrays import IntArray
from topocomm.comm.state import Runtime
from topocomm.errors import TopologyError
from topocomm.topology import Topology

__all__ = [
    "Edges",
    "adjacent_edges",
    "cart_of",
    "edges_of",
    "graph_of",
    "passed_on",
    "plain_weights",
    "reordered",
    "weights_of",
]

MOST_BY_ALL = 16
"""Ranks up to which each finds the order of a grid by itself."""
MOST_EDGES = 1 << 20
"""More edges than that are left as they are."""


@dataclass(frozen=True)
class Edges:
    """The edges that one rank gives, and their weights."""

    heads: list[int]
    tails: list[int]
    weights: list[int]


def cart_of(runtime: Runtime, dims: Any, periods: Any) -> IntArray | None:
    """Find the rank at each position of a grid, then the ranks without one; the same on every rank. Collective.

    None where the ranks' own order is as good, and for arguments that the MPI library is to refuse. Few ranks find it
    without a message; of more than :data:`MOST_BY_ALL` rank 0 does, with a core to itself, and tells all.
    """
    try:
        sides = [int(side) for side in np.atleast_1d(dims)]
        around = np.broadcast_to(False if periods is None else np.asarray(periods, bool), len(sides)).tolist()
    except (TypeError, ValueError, OverflowError):
        return None
    if runtime.size <= MOST_BY_ALL:
        return _cart(runtime.topology, sides, around)
    return objects.bcast(runtime.comm, _cart(runtime.topology, sides, around) if runtime.rank == 0 else None)


def _cart(topology: Topology, sides: list[int], around: list[bool]) -> IntArray | None:
    from topocomm.topology.grids import cart_order

    try:
        order = cart_order(topology, sides, around)
    except (TopologyError, ValueError, OverflowError):
        return None
    return None if (order == np.arange(len(order))).all() else order


def edges_of(sources: Any, degrees: Any, destinations: Any, weights: Any) -> Edges | None:
    """Read the arguments of ``Create_dist_graph``; None for those that the MPI library is to refuse."""
    try:
        heads = np.repeat(_numbers(sources), _numbers(degrees)).tolist()
        tails = _numbers(destinations)
        return Edges(heads, tails, [1] * len(tails) if _no_weights(weights) else _numbers(weights))
    except (TypeError, ValueError, OverflowError):
        return None


def adjacent_edges(rank: int, destinations: Any, weights: Any) -> Edges | None:
    """Read what ``rank`` says in ``Create_dist_graph_adjacent`` of those to whom it sends; else as :func:`edges_of`."""
    try:
        return edges_of([rank], [len(np.atleast_1d(destinations))], destinations, weights)
    except (TypeError, ValueError):
        return None


def _numbers(values: Any) -> list[int]:
    return [int(value) for value in np.atleast_1d(values)]


def _no_weights(weights: Any) -> bool:
    return weights is None or weights is MPI.UNWEIGHTED or weights is MPI.WEIGHTS_EMPTY


def graph_of(runtime: Runtime, mine: Edges | None) -> IntArray | None:
    """Find the rank at each vertex of the graph that all ranks give together. Collective.

    None where the ranks' own order is as good, where any rank has arguments that the MPI library is to refuse, and for
    more than :data:`MOST_EDGES` edges.
    """
    everyone = objects.gather(runtime.comm, mine)
    order = None if everyone is None else _order(runtime.topology, everyone)
    return objects.bcast(runtime.comm, order)


def _order(topology: Topology, given: Sequence[Edges | None]) -> IntArray | None:
    from topocomm.topology.graphs import Graph, graph_order

    edges = [one for one in given if one is not None]
    heads, tails, weights = (
        np.array([number for one in edges for number in getattr(one, name)], np.int64)
        for name in ("heads", "tails", "weights")
    )
    if len(edges) < len(given) or not 0 < len(heads) == len(tails) == len(weights) <= MOST_EDGES:
        return None
    if min(heads.min(), tails.min(), weights.min()) < 0 or max(heads.max(), tails.max()) >= topology.size:
        return None
    order = graph_order(topology, Graph(topology.size, heads, tails, weights))
    return None if (order == np.arange(len(order))).all() else order


@contextmanager
def reordered(comm: MPI.Intracomm, order: IntArray) -> Iterator[MPI.Intracomm]:
    """Make a communicator in which rank k is rank ``order[k]`` of ``comm``; freed at the end. Collective."""
    position = int(np.flatnonzero(order == comm.Get_rank())[0])
    made = MPI.Intracomm(MPI.Intracomm(comm).Split(0, position))
    try:
        yield made
    finally:
        made.Free()


def passed_on(ranks: MPI.Intracomm, order: IntArray, mine: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the process that has this one's former rank what it needs of it, and get the same. Collective.

    ``ranks`` is the communicator that :func:`reordered` makes of ``order``.
    """
    me = ranks.Get_rank()
    to, source = int(order[me]), int(np.flatnonzero(order == me)[0])
    return objects.sendrecv(ranks, mine, to, source)


def plain_weights(weights: Any) -> list[int] | str | None:
    """Weights as something that can be sent: numbers, None without any, or a word for MPI's mark of an empty list."""
    if weights is MPI.WEIGHTS_EMPTY:
        return "empty"
    return None if _no_weights(weights) else _numbers(weights)


def weights_of(weights: Any) -> Any:
    """The reverse of :func:`plain_weights`."""
    return MPI.WEIGHTS_EMPTY if isinstance(weights, str) else weights
