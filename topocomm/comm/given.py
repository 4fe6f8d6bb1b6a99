"""What a communicator is told by arguments, environment and files: settings, topology, machine, tuning.

All functions are collective; rank 0 reads files and environment, and every rank gets the same or raises the same.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from topocomm import objects
from topocomm.comm import settings as config
from topocomm.comm.settings import Settings
from topocomm.errors import AlgorithmError, TopologyError
from topocomm.topology import Placement, Topology, in_label_order

if TYPE_CHECKING:
    from topocomm.choose.measured import Tuning
    from topocomm.model.machine import Machine

    TopologyLike = Topology | Placement | str | os.PathLike[str] | None
    MachineLike = Machine | str | os.PathLike[str] | None
    TuningLike = Tuning | str | os.PathLike[str] | None

__all__ = ["Origin", "joined", "machine", "settings", "topology", "tuning"]


@dataclass(frozen=True)
class Origin:
    """Where a topology is from; kept by all communicators that are made of its ranks."""

    mark: str
    """Of the communicator that was wrapped: where it is the same, the same label means the same place."""
    by_node: Placement | None
    """What placed the ranks by their nodes, and so places others, too."""
    lines: tuple[str, ...] = ()
    """What said it, for people, and a line for every source that was left aside."""
    discovered: bool = False
    """Nobody gave it: levels that a machine given besides does not know are left out."""


def settings(comm: MPI.Intracomm, algorithm: config.Algorithms, engine: str | None) -> Settings:
    """Settings from the arguments and rank 0's environment. Collective; raises alike on every rank."""
    env, asked = objects.bcast(comm, (config.environment(), (algorithm, engine)))
    mine = (algorithm, engine)
    differs = np.array([asked != mine], np.int8)
    comm.Allreduce(MPI.IN_PLACE, differs, MPI.MAX)
    if differs[0]:
        everyone = objects.allgather(comm, mine)
        raise AlgorithmError(
            f"ranks ask for different algorithms or engines: {sorted({repr(x) for x in everyone})}; all must ask alike"
        )
    return config.make_settings(algorithm, engine, env)


def topology(comm: MPI.Intracomm, asked: TopologyLike, settings: Settings) -> tuple[Topology, Origin]:
    """The topology of ``comm``: given, by a file, measured, or discovered. Collective; raises alike on every rank."""
    what = str(asked)
    if isinstance(asked, Topology):  # the order of its labels counts, too: some schedules follow it
        what = f"{asked.signature} {in_label_order(asked).signature}"
    mark = os.urandom(16).hex() if comm.Get_rank() == 0 else ""
    everyone = objects.allgather(comm, (type(asked).__name__, what, mark))
    kinds = sorted({found[:2] for found in everyone})
    if len(kinds) > 1:
        raise TopologyError(f"ranks give different topologies: {kinds[:4]}; all must give the same")
    found, placement, lines = _found(comm, asked, settings)
    by_node = placement if placement is not None and placement.nodes is not None else None
    discovered = asked is None and settings.topology_file is None
    if discovered and settings.trace and comm.Get_rank() == 0:
        print(*(f"topocomm: topology: {line}" for line in lines), sep="\n", end="\n" if lines else "", file=sys.stderr)
    return found, Origin(everyone[0][2], by_node, lines, discovered)


def _found(
    comm: MPI.Intracomm, asked: TopologyLike, settings: Settings
) -> tuple[Topology, Placement | None, tuple[str, ...]]:
    """The topology, the placement that says it if one does, and what it is from."""
    if isinstance(asked, Topology):
        if asked.size != comm.Get_size():
            raise TopologyError(f"topology is for {asked.size} ranks, the communicator has {comm.Get_size()}")
        return asked, None, ("given by the program",)
    from topocomm.topology.live.discover import discover, placed, site_of
    from topocomm.topology.live.measured import MEASURED

    if isinstance(asked, Placement):
        return placed(comm, asked), asked, (f"placement {asked.source}, given by the program",)
    if asked is not None and not isinstance(asked, (str, os.PathLike)):
        raise TypeError(f"topology must be a Topology, a Placement or a path, found {type(asked).__name__}")
    path = asked if asked is not None else settings.topology_file
    if path is None:
        found = discover(comm, settings.sources)
        return found.topology, None, found.lines
    if path == MEASURED:
        return _measured(comm, settings), None, (MEASURED,)
    placement = site_of(comm, str(path))
    return placed(comm, placement), placement, (f"file {path}",)


def joined(
    comm: MPI.Intracomm, origin: Origin, side: Topology, rank: int, settings: Settings
) -> tuple[Topology, Origin]:
    """The topology of ``comm``, merged of two communicators; this process was rank ``rank`` of ``side``.

    Of parts of one wrapped communicator it is known. What placed the ranks by node places those of both; what did so
    rank by rank says nothing of the others, and the topology is found anew. Collective; raises alike on every rank.
    """
    everyone = objects.allgather(comm, (origin.mark, side.labels[rank].tolist()))
    if len({mark for mark, _ in everyone}) == 1:
        return Topology(side.levels, [row for _, row in everyone]), origin
    return topology(comm, origin.by_node, settings)


def _measured(comm: MPI.Intracomm, settings: Settings) -> Topology:
    """The topology of ``comm`` as probing finds it; shown if decisions are."""
    from topocomm.topology.live.probe import measure

    found = measure(comm)
    if settings.trace and comm.Get_rank() == 0:
        print(*(f"topocomm: measured: {line}" for line in found.describe().split("\n")), sep="\n", file=sys.stderr)
    return found.topology


def _alike(comm: MPI.Intracomm, what: str, asked: object) -> None:
    """Raise TopologyError on every rank unless all give the same."""
    everyone = set(objects.allgather(comm, repr(asked)))
    if len(everyone) > 1:
        raise TopologyError(
            f"ranks give different {what}: {sorted(text[:80] for text in everyone)[:4]}; all must give the same"
        )


def machine(
    comm: MPI.Intracomm, asked: MachineLike, settings: Settings, topology: Topology, origin: Origin
) -> tuple[Machine | None, Topology, Origin]:
    """The machine: as given or as the file says; and the topology, without what was discovered beyond it.

    Collective; raises TopologyError alike on every rank.
    """
    _alike(comm, "machines", asked)
    if asked is None:
        asked = settings.machine_file
    if asked is None:
        return None, topology, origin
    from topocomm.model.machine import Machine, complete
    from topocomm.model.machine_files import parse_machine
    from topocomm.topology.live.discover import text_of

    if not isinstance(asked, (Machine, str, os.PathLike)):
        raise TypeError(f"machine must be a Machine or a path, found {type(asked).__name__}")
    machine = asked if isinstance(asked, Machine) else parse_machine(text_of(comm, str(asked)), str(asked))
    topology, origin = _within(machine, topology, origin)
    complete(machine, topology).covers(topology)
    return machine, topology, origin


def _within(machine: Machine, topology: Topology, origin: Origin) -> tuple[Topology, Origin]:
    """Leave out the levels outside the node that were discovered, if the machine does not know them all."""
    outer = topology.levels[: topology.levels.index("node")] if "node" in topology.levels else ()
    missing = [level for level in outer if level not in {known.name for known in machine.levels}]
    if not missing or not origin.discovered:
        return topology, origin
    source = origin.lines[0].partition(":")[0] if origin.lines else ""
    line = f"not {source}: the machine {machine.source} does not describe its level {missing[0]}"
    inner = Topology(topology.levels[len(outer) :], topology.labels[:, len(outer) :])
    return inner, replace(origin, lines=(line, *origin.lines[1:]))


def tuning(comm: MPI.Intracomm, asked: TuningLike, settings: Settings) -> Tuning | None:
    """What was measured: as given or as the file says. Collective; raises TopologyError alike on every rank."""
    _alike(comm, "tunings", asked)
    if asked is None:
        asked = settings.tuning_file
    if asked is None:
        return None
    from topocomm.choose.measured import Tuning, parse_tuning
    from topocomm.topology.live.discover import text_of

    if isinstance(asked, Tuning):
        return asked
    if not isinstance(asked, (str, os.PathLike)):
        raise TypeError(f"tuning must be a Tuning or a path, found {type(asked).__name__}")
    return parse_tuning(text_of(comm, str(asked)), str(asked))
