"""The topology of a live communicator. The one file of this room that knows MPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mpi4py import MPI

from topocomm import objects
from topocomm.errors import TopologyError
from topocomm.topology.documents import read_text
from topocomm.topology.files import Placement
from topocomm.topology.live.cores import ANY, own_place
from topocomm.topology.topology import Topology

__all__ = ["discover", "placed", "site_of", "text_of"]

T = TypeVar("T")


def discover(comm: MPI.Intracomm) -> Topology:
    """Ask every rank for its node, socket and core. Collective over ``comm``.

    A node is a set of ranks that can share memory and have one processor name. Sockets and cores are what the
    affinity mask of each process allows; a level that no rank can tell is left out.
    """
    shared = comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)
    try:
        node_leader = objects.bcast(shared, comm.rank)
    finally:
        shared.Free()
    rows = objects.allgather(comm, (f"{MPI.Get_processor_name()}#{node_leader}", *own_place()))
    kept = [k for k in range(3) if any(row[k] != ANY for row in rows)]
    return Topology([("node", "socket", "core")[k] for k in kept], [[row[k] for k in kept] for row in rows])


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
    """Read on rank 0 and broadcast it, or raise its TopologyError on every rank."""
    answer: tuple[T | None, str] | None = None
    if comm.rank == 0:
        try:
            answer = read(), ""
        except TopologyError as e:
            answer = None, f"{e} (on rank 0)"
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
