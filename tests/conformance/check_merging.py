"""Intercommunicators made from wrapped communicators, and what is merged from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from check_habits import works
from harness import check, raised, wrap
from mpi4py import MPI

import topocomm
from topocomm.choose.measured import Tuning
from topocomm.model.machine import Level, levels
from topocomm.topology import Placement, Topology


@check(2)
def intercommunicators_are_the_library_s(world: MPI.Intracomm) -> None:
    comm = wrap(world)
    low = world.rank < world.size // 2
    half = comm.Split(int(not low), world.rank)
    inter = half.Create_intercomm(0, comm, world.size // 2 if low else 0)
    assert isinstance(inter, MPI.Intercomm)
    out = np.zeros(1, "i8")
    inter.Allreduce(np.array([1]), out)
    assert out[0] == inter.Get_remote_size()
    assert isinstance(raised(lambda: topocomm.Comm(inter)), TypeError)
    twin = inter.Dup()
    merged = twin.Merge(low)
    assert isinstance(merged, topocomm.Comm)
    works(merged)
    for made in (merged, twin, inter, half):
        made.Free()


@check(2)
def sides_with_different_settings_do_not_merge(world: MPI.Intracomm) -> None:
    low = world.rank < world.size // 2
    half = world.Split(int(not low), world.rank)
    mine = topocomm.Comm(half, algorithm="ring" if low else None)
    inter = mine.Create_intercomm(0, world, world.size // 2 if low else 0)
    assert isinstance(raised(lambda: inter.Merge(low)), topocomm.AlgorithmError)
    inter.Free()
    half.Free()


def _halves(comm: Any) -> Any:
    """The intercommunicator between the two halves of the ranks."""
    low = comm.rank < comm.size // 2
    half = comm.Split(int(not low), comm.rank)
    return half, half.Create_intercomm(0, comm, comm.size // 2 if low else 0)


@check(3)
def what_was_told_is_kept_by_merging(world: MPI.Intracomm) -> None:
    """Machine and tuning always; the topology of parts of one communicator, and a description by node."""
    machine = levels(Level("group", 1e9, 1e9), Level("switch", 2e9, 2e9), Level("node", 3e9, 3e9))
    told = {"machine": machine, "tuning": Tuning(source="told")}
    comm = wrap(world, "random3", **told)
    half, inter = _halves(comm)
    merged = inter.Merge(world.rank >= world.size // 2)
    assert merged.machine_topology.labels.tolist() == comm.machine_topology.labels.tolist()
    by_node = Placement(("group", "switch"), None, {MPI.Get_processor_name(): ("g7", "s1")}, "told")
    other, between = _halves(world)
    kinds: list[tuple[Any, tuple[str, ...]]] = [
        (by_node, ("group", "switch", "node")),
        (Topology(("node",), [[r] for r in range(other.size)]), ("node",)),
    ]
    for place, expected in kinds:
        mine = topocomm.Comm(other, topology=place, **told)
        joined = mine.Create_intercomm(0, world, world.size // 2 if world.rank < world.size // 2 else 0).Merge()
        assert joined.machine_topology.levels[: len(expected)] == expected
        assert len(joined.machine_topology.counts("node")) == 1  # nodes told rank by rank are not those of others
        assert (joined._live.places.machine, joined._live.places.tuning) == (machine, told["tuning"])
        joined.Free()
    assert (merged._live.places.machine, merged._live.places.tuning) == (machine, told["tuning"])
    works(merged)
    for made in (merged, inter, half, between, other):
        made.Free()


@check(2)
def sides_with_different_machines_do_not_merge(world: MPI.Intracomm) -> None:
    half, inter = _halves(world)
    speed = 1e9 if world.rank < world.size // 2 else 2e9
    mine = topocomm.Comm(half, machine=levels(Level("node", speed, speed)))
    between = mine.Create_intercomm(0, world, world.size // 2 if world.rank < world.size // 2 else 0)
    error = raised(between.Merge)
    assert isinstance(error, topocomm.TopologyError)
    assert "different machines" in str(error)
    for made in (between, inter, half):
        made.Free()
