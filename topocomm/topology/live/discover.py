"""The topology of a live communicator. The one file of this room that knows MPI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from mpi4py import MPI

from topocomm import objects
from topocomm.arrays import IntArray
from topocomm.errors import TopologyError
from topocomm.topology.documents import read_text
from topocomm.topology.files import Placement
from topocomm.topology.live.choosing import Answers, Choice, Who, ask, choose
from topocomm.topology.live.inside import Domain, inner_levels, own_place
from topocomm.topology.live.sources import Host, named_sources
from topocomm.topology.topology import Topology

__all__ = ["Discovered", "discover", "placed", "site_of", "text_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class Discovered:
    """A topology that was discovered, and how: a line for the source that placed the nodes, and one for every source
    that did not. There are no lines where all ranks are on one node, which no source tells apart.
    """

    topology: Topology
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Card:
    """What one rank knows of itself."""

    who: Who
    inside: tuple[Domain, ...]
    answers: Answers


@dataclass(frozen=True)
class _Found:
    """What rank 0 broadcasts: for every level the labels of its places, and which of them each rank has."""

    levels: tuple[str, ...]
    columns: list[tuple[list[str], IntArray]]
    lines: tuple[str, ...]


def discover(comm: MPI.Intracomm, sources: Sequence[str] | None = None) -> Discovered:
    """Find the node of every rank, its place inside the node, and that of the node in the machine. Collective.

    A node is a set of ranks that can share memory and have one processor name. Sockets, NUMA domains, last-level
    caches and cores are what the affinity mask of each process allows (:mod:`topocomm.topology.live.inside`). Outer
    levels are those of the best of ``sources`` that places all nodes (None: of those that need not be asked for). Rank
    0 gathers what the ranks know, reads what one rank can read for all, chooses, and broadcasts.
    """
    sources = named_sources(None) if sources is None else sources
    host = Host(MPI.Get_processor_name())
    leader = _leader(comm)
    cards = objects.gather(comm, _Card((host.name, leader), own_place(), ask(host, sources, leader == comm.rank)))
    found = _on_root(comm, lambda: _found(cards or [], sources, host))
    labels = [np.array(names)[numbers] for names, numbers in found.columns]
    return Discovered(Topology(found.levels, np.stack(labels, axis=1)), found.lines)


def _leader(comm: MPI.Intracomm) -> int:
    """The lowest rank with which this one shares memory. Collective."""
    shared = comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)
    members, everybody = shared.Get_group(), comm.Get_group()
    try:
        return int(MPI.Group.Translate_ranks(members, [0], everybody)[0])
    finally:
        members.Free()
        everybody.Free()
        shared.Free()


def _found(cards: Sequence[_Card], sources: Sequence[str], host: Host) -> _Found:
    """Put together what all ranks know."""
    number: dict[Who, int] = {}
    node = np.array([number.setdefault(card.who, len(number)) for card in cards], np.int64)
    choice = Choice(None, ())
    if len(number) > 1:
        choice = choose(sources, [card.who for card in cards], [card.answers for card in cards], host)
    placed = choice.placed
    levels = [*(placed.levels if placed else ()), "node"]
    columns = [_column([row[k] for row in placed.rows], node) for k in range(len(placed.levels))] if placed else []
    columns.append(([f"{name}#{leader}" for name, leader in number], node))
    for level, labels in inner_levels(node, [card.inside for card in cards]):
        levels.append(level)
        columns.append(_column(labels, np.arange(len(cards))))
    return _Found(tuple(levels), columns, choice.lines)


def _column(labels: Sequence[str], which: IntArray) -> tuple[list[str], IntArray]:
    """The different ones of ``labels``, and which of them each rank has; ``which`` is its entry in ``labels``."""
    number = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    return list(number), np.array([number[label] for label in labels], np.int64)[which]


def text_of(comm: MPI.Intracomm, path: str) -> str:
    """Read the text of a file on rank 0. Collective; raises TopologyError on every rank if it cannot be read."""
    return _on_root(comm, lambda: read_text(path))


def site_of(comm: MPI.Intracomm, path: str) -> Placement:
    """Read how a site describes its machine, on rank 0 (:func:`topocomm.topology.read_site`).

    Collective; raises TopologyError on every rank if it cannot be read or is malformed.
    """
    from topocomm.topology.sites import read_site  # many files, which few jobs need

    hosts = objects.allgather(comm, MPI.Get_processor_name())
    return _on_root(comm, lambda: read_site(path, hosts=hosts))


def _on_root(comm: MPI.Intracomm, read: Callable[[], T]) -> T:
    """Read on rank 0 and broadcast it, or raise its TopologyError on every rank.

    Of any other exception rank 0 raises it, and the others a TopologyError that says so.
    """
    answer: tuple[T | None, str] | None = None
    if comm.rank == 0:
        try:
            answer = read(), ""
        except TopologyError as e:
            answer = None, f"{e} (on rank 0)"
        except Exception as e:
            objects.bcast(comm, (None, f"rank 0 failed: {type(e).__name__}: {e}"))
            raise
    answer = objects.bcast(comm, answer)
    assert answer is not None
    found, error = answer
    if error:
        raise TopologyError(error)
    assert found is not None
    return found


def placed(comm: MPI.Intracomm, placement: Placement) -> Topology:
    """The topology of ``comm`` under ``placement``. Collective; raises TopologyError on every rank if it does not fit.

    A by-rank placement describes the ranks of ``MPI.COMM_WORLD`` if it has as many rows, else those of ``comm``, as
    in a program without ``MPI_Init``.
    """
    hosts = objects.allgather(comm, MPI.Get_processor_name())
    world = MPI.COMM_WORLD
    if placement.ranks is None or not MPI.Is_initialized() or len(placement.ranks) != world.size:
        return placement.topology(hosts)
    group, everybody = comm.Get_group(), world.Get_group()
    try:
        ranks = group.Translate_ranks(list(range(comm.size)), everybody)
    finally:
        group.Free()
        everybody.Free()
    if MPI.UNDEFINED in list(ranks):
        return placement.topology(hosts)
    return Topology(placement.levels, placement.ranks).restrict(list(ranks))
