"""The topology of a live communicator. The one file of this room that knows MPI."""

from __future__ import annotations

import os
from pathlib import Path

from mpi4py import MPI

from topocomm.errors import TopologyError
from topocomm.topology.documents import read_text
from topocomm.topology.files import Placement
from topocomm.topology.topology import Topology

__all__ = ["discover", "placed", "text_of"]

_CPU = Path("/sys/devices/system/cpu")


def _own_core() -> tuple[str, str]:
    """Socket and core to which this process is bound; ``"any"`` where its affinity mask spans several."""
    try:
        cpus = os.sched_getaffinity(0)
    except (AttributeError, OSError):
        return "any", "any"
    found = set()
    for cpu in cpus:
        where = _CPU / f"cpu{cpu}" / "topology"
        try:
            found.add(((where / "physical_package_id").read_text().strip(), (where / "core_id").read_text().strip()))
        except OSError:
            return "any", "any"
    sockets = {socket for socket, _ in found}
    socket = sockets.pop() if len(sockets) == 1 else "any"
    return socket, found.pop()[1] if len(found) == 1 else "any"


def discover(comm: MPI.Intracomm) -> Topology:
    """Ask every rank for its node, socket and core. Collective over ``comm``.

    A node is a set of ranks that can share memory and have one processor name. Sockets and cores are what the
    affinity mask of each process allows; a level that no rank can tell is left out.
    """
    shared = comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)
    try:
        node_leader = shared.bcast(comm.rank)
    finally:
        shared.Free()
    rows = comm.allgather((MPI.Get_processor_name(), node_leader, *_own_core()))
    levels = ["node"]
    if any(row[2] != "any" for row in rows):
        levels.append("socket")
        if any(row[3] != "any" for row in rows):
            levels.append("core")
    places = [(f"{host}#{leader}", socket, core)[: len(levels)] for host, leader, socket, core in rows]
    return Topology(levels, places)


def text_of(comm: MPI.Intracomm, path: str) -> str:
    """The text of a file, read by rank 0. Collective; raises TopologyError on every rank if it cannot be read."""
    answer: tuple[str, str] | None = None
    if comm.rank == 0:
        try:
            answer = "ok", read_text(path)
        except TopologyError as e:
            answer = "error", f"{e} (on rank 0)"
    answer = comm.bcast(answer)
    assert answer is not None
    kind, text = answer
    if kind == "error":
        raise TopologyError(text)
    return text


def placed(comm: MPI.Intracomm, placement: Placement) -> Topology:
    """The topology of ``comm`` under ``placement``. Collective; raises TopologyError on every rank if it does not fit.

    A by-rank placement describes the ranks of ``MPI.COMM_WORLD`` if it has as many rows, else those of ``comm``.
    """
    hosts = comm.allgather(MPI.Get_processor_name())
    world = MPI.COMM_WORLD
    if placement.ranks is None or len(placement.ranks) != world.size:
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
