"""The engine contract: several runs under way on one communicator, finished in any order; reloaded bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import check, topologies
from mpi4py import MPI

from topocomm.algorithms import TABLE, make_schedule
from topocomm.engines import c, python
from topocomm.plan.bind import bind
from topocomm.plan.check import check as check_program
from topocomm.plan.program import Program
from topocomm.schedule.blocks import block_cuts


def start(world: MPI.Intracomm, algorithm: str, values: Any, tag: int) -> tuple[python.Run, Any]:
    """Start an allreduce; the run and where its result will be."""
    schedule = make_schedule("allreduce", algorithm, topologies(world.size)["cyclic"])
    program = Program.from_bytes(bytes(bind(schedule, world.rank)))
    check_program(program)
    sized = python.load(program).size(np.diff(block_cuts(len(values), schedule.nslots)), 8)
    result = np.zeros(len(values))
    own = np.empty(sized.own_bytes, np.uint8), np.empty(sized.scratch_bytes, np.uint8)
    regions = values.view(np.uint8), result.view(np.uint8), own[1], own[0]
    carrier = python.Carrier(world, range(world.size), tag)
    return python.start(carrier, sized, regions, MPI.SUM, MPI.DOUBLE, 8), result


@check(2)
def several_runs_are_under_way_on_one_communicator(world: MPI.Intracomm) -> None:
    """Every rank finishes them in another order; some only by testing. Large ones go by rendezvous."""
    names = [name for name, a in TABLE["allreduce"].items() if not a.power_of_two or world.size & (world.size - 1) == 0]
    inputs = [np.arange(n, dtype=float) * (world.rank + 1) + i for i, n in enumerate((7, 1, 40_000) * len(names))]
    runs = [start(world, names[i % len(names)], x, i) for i, x in enumerate(inputs)]
    order = np.random.default_rng(world.rank).permutation(len(runs)).tolist()
    left = [runs[i][0] for i in order]
    while left:
        left = [run for run in left if not run.test()]
    for i, (run, result) in enumerate(runs):
        run.wait()
        assert run.test()
        wanted = sum(np.arange(len(result)) * (r + 1) + i for r in range(world.size))
        np.testing.assert_array_equal(result, wanted)


@check(2)
def a_run_that_waits_moves_messages_on(world: MPI.Intracomm) -> None:
    """A large message begun before a run and received before it elsewhere ends: who waits drives MPI."""
    big, other = np.full(1 << 21, float(world.rank)), (world.rank ^ 1)
    request = None
    got = np.empty_like(big)
    if world.rank % 2 == 0 and other < world.size:
        request = world.Isend(big, other, 9999)
    elif world.rank % 2:
        world.Recv(got, other, 9999)
        assert (got == other).all()
    run, result = start(world, "ring", np.ones(5), 0)
    run.wait()
    assert (result == world.size).all()
    if request is not None:
        request.Wait()


@check(2)
def a_program_without_blocks_needs_no_sizes(world: MPI.Intracomm) -> None:
    """A barrier in engine c: no size is read, whatever lies in the memory behind an empty list of them."""
    engine = c.Engine(carrier := world.Dup(), first_tag=0, tags=8)
    schedule = make_schedule("barrier", "dissemination", topologies(world.size)["cyclic"])
    loaded = engine.load(bind(schedule, world.rank))
    none = np.empty(0, np.uint8)
    loaded.size(np.full(1, -1)[:0], 1).run(none, none)
    del loaded, engine
    carrier.Free()
