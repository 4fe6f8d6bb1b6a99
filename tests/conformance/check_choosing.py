"""Choosing an algorithm, and being told what ran."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import check, raised, topologies, wrap
from mpi4py import MPI

import topocomm
from topocomm.algorithms import TABLE
from topocomm.choose.modelled import Chooser
from topocomm.collectives import COLLECTIVES
from topocomm.model import Level, Machine, dumps_machine

SLOW = Machine("levels", tuple(Level(name, 5e6, 5e6) for name in ("group", "node")))


def _call(comm: topocomm.Comm, collective: str, **settings: Any) -> int:
    """Call a collective with three float64 a block; the bytes that explain() counts."""
    p = comm.Get_size()
    small, large = np.ones(3), np.ones(3 * p)
    at = (np.zeros(3), np.zeros(3 * p))
    args: dict[str, tuple[Any, ...]] = {
        "allgather": (small, at[1]), "allreduce": (small, at[0]), "reduce_scatter": (large, at[0], [3] * p),
        "reduce_scatter_block": (large, at[0]), "alltoall": (large, at[1]), "bcast": (small,),
        "reduce": (small, at[0]), "gather": (small, at[1]), "scatter": (large, at[0]), "barrier": (),
        "scan": (small, at[0]), "exscan": (small, at[0]),
    }  # fmt: skip
    getattr(comm, collective.capitalize())(*args[collective], **settings)
    return 0 if collective == "barrier" else 24 if not COLLECTIVES[collective].blocks else 24 * p


@check()
def what_is_explained_is_what_runs(world: MPI.Intracomm) -> None:
    comm = wrap(world, "random3")
    for collective in COLLECTIVES:
        for name in [None, *(n for n, a in TABLE[collective].items() if not a.power_of_two)]:
            before = len(comm.decisions)
            nbytes = _call(comm, collective, algorithm=name)
            told = comm.explain(collective, nbytes, algorithm=name)
            assert len(comm.decisions) == before + 1
            done = comm.decisions[-1]
            if done.nbytes is None:
                assert name is None, name
                assert told.algorithm == "native"
            else:
                assert done == told


@check(2)
def precedence_is_call_then_communicator_then_environment(world: MPI.Intracomm) -> None:
    os.environ["TOPOCOMM_ALLREDUCE"] = "textbook_ring"
    os.environ["TOPOCOMM_BCAST"] = "textbook_binomial"
    try:
        comm = wrap(world, algorithm={"allreduce": "ring", "reduce": "native"})
        bare = wrap(world)
    finally:
        del os.environ["TOPOCOMM_ALLREDUCE"], os.environ["TOPOCOMM_BCAST"]
    ran = lambda c, **k: (_call(c, "allreduce", **k), c.decisions[-1])[1]  # noqa: E731
    assert ran(comm).algorithm == "ring"
    assert "communicator" in ran(comm).why
    assert ran(comm, algorithm="rabenseifner").algorithm == "rabenseifner"
    assert "the call" in comm.decisions[-1].why
    assert ran(bare).algorithm == "textbook_ring"
    assert "TOPOCOMM_ALLREDUCE" in bare.decisions[-1].why
    assert comm.explain("bcast", 8).algorithm == "textbook_binomial"
    count = len(comm.decisions)
    _call(comm, "reduce")
    assert len(comm.decisions) == count + 1
    assert comm.decisions[-1].algorithm == "native"
    assert comm.explain("reduce", 8).algorithm == "native"
    assert comm.explain("reduce", 8, algorithm="binomial").algorithm == "binomial"


@check(2)
def what_is_made_of_a_communicator_knows_its_choices(world: MPI.Intracomm) -> None:
    comm = wrap(world, "apart", machine=SLOW)
    comm.Bcast(np.ones(5000))
    ran, choose = comm.decisions[-1], Chooser._choose

    def again(*_: Any) -> Any:
        raise AssertionError("modelled again")

    Chooser._choose = again  # type: ignore[method-assign]
    try:
        group = comm.Get_group()
        for made in (comm.Dup(), comm.Split(0, world.rank), comm.Create(group), topocomm.Comm(comm)):
            made.Bcast(np.ones(5000))
            assert made.decisions[-1] == ran
    finally:
        Chooser._choose = choose  # type: ignore[method-assign]
    group.Free()


@check()
def one_name_is_for_all_that_know_it(world: MPI.Intracomm) -> None:
    comm = wrap(world, algorithm="ring")
    for collective in COLLECTIVES:
        _call(comm, collective)
        told = comm.explain(collective, 24)
        assert (told.algorithm == "ring") == ("ring" in TABLE[collective]), collective
    native = wrap(world, algorithm="native")
    for collective in COLLECTIVES:
        _call(native, collective)
        assert native.decisions[-1].collective == collective
        assert native.decisions[-1].algorithm == "native"
        _call(native, collective)
    assert len(native.decisions) == len(COLLECTIVES)


@check()
def what_is_unknown_or_cannot_run_is_refused(world: MPI.Intracomm) -> None:
    p = world.size
    flat = topologies(p)["flat"]
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (topocomm.AlgorithmError, {"algorithm": "nonsense"}),
        (topocomm.AlgorithmError, {"algorithm": {"allreduce": "nonsense"}}),
        (topocomm.AlgorithmError, {"algorithm": {"nonsense": "ring"}}),
        (topocomm.AlgorithmError, {"algorithm": 3}),
        (topocomm.AlgorithmError, {"algorithm": "bruck:radix=1"}),
        (topocomm.AlgorithmError, {"engine": "nonsense"}),
        (topocomm.TopologyError, {"topology": "/nowhere.json"}),
        (topocomm.TopologyError, {"topology": topocomm.Topology.flat(p + 1)}),
        (topocomm.TopologyError, {"machine": "/nowhere.json"}),
        (topocomm.TopologyError, {"machine": SLOW, "topology": topocomm.Topology(("shelf",), [["s"]] * p)}),
    ]
    if p > 1:
        wrong += [
            (topocomm.AlgorithmError, {"algorithm": "ring" if world.rank else "native"}),
            (topocomm.AlgorithmError, {"algorithm": None if world.rank else "ring"}),
            (topocomm.TopologyError, {"topology": None if world.rank else flat}),
            (topocomm.TopologyError, {"machine": None if world.rank else SLOW}),
        ]
    for kind, settings in wrong:
        error = raised(lambda: topocomm.Comm(world, **settings))
        assert isinstance(error, kind), f"{settings}: {error!r}"
        assert isinstance(error, ValueError)
    comm = wrap(world)
    for collective in COLLECTIVES:
        error = raised(lambda: _call(comm, collective, algorithm="nonsense"))
        assert isinstance(error, topocomm.AlgorithmError), f"{collective}: {error!r}"
    for variable, value in (("TOPOCOMM_ALLREDUCE", "nonsense"), ("TOPOCOMM_NONSENSE", "1"), ("TOPOCOMM_CHECK", "x")):
        os.environ[variable] = value
        assert isinstance(raised(lambda: topocomm.Comm(world)), topocomm.Error), variable
        del os.environ[variable]


@check(3)
def a_name_for_a_communicator_is_a_preference(world: MPI.Intracomm) -> None:
    """Where it cannot serve the automatic choice does, and says so; named by the call it is refused."""
    name = "textbook_recursive_doubling"
    comm = wrap(world, algorithm={"allgather": name})
    parts = (comm, comm.Split(MPI.UNDEFINED if world.rank == 0 else 0, 0))
    for part in (c for c in parts if c != MPI.COMM_NULL):
        fits = part.size & (part.size - 1) == 0
        nbytes = _call(part, "allgather")
        done = part.decisions[-1]
        assert (done.algorithm == name) == fits, done
        assert ("power of two" in done.why and "named by communicator argument" in done.why) != fits, done
        assert part.explain("allgather", nbytes) == done
        if not fits:
            error = raised(lambda: _call(part, "allgather", algorithm=name))
            assert isinstance(error, topocomm.AlgorithmError), error
        _call(part, "allgather", algorithm="bruck")
        _call(part, "allreduce")
    if parts[1] != MPI.COMM_NULL:
        parts[1].Free()


@check(2)
def a_name_in_the_environment_does_not_break_other_calls(world: MPI.Intracomm) -> None:
    """Of a program that also reduces with an operation that is not commutative."""
    os.environ["TOPOCOMM_ALLREDUCE"] = "rabenseifner"
    try:
        comm = wrap(world)
    finally:
        del os.environ["TOPOCOMM_ALLREDUCE"]
    op = topocomm.elementwise(MPI.Op.Create(_first))
    for n in (4, 5000):
        comm.Allreduce(np.full(n, world.rank), out := np.zeros(n, "i8"), op)
        assert (out == 0).all()
        assert "TOPOCOMM_ALLREDUCE, cannot serve this call" in comm.decisions[-1].why
        comm.Allreduce(np.full(n, world.rank), out)
        assert (out == sum(range(world.size))).all()
        ran = [d for d in comm.decisions if "cannot serve" not in d.why]
        assert [d.algorithm for d in ran] == ["rabenseifner"], "one kind, whatever the size"
    op.Free()


def _first(a: Any, b: Any, _: MPI.Datatype) -> None:
    np.frombuffer(b, "i8")[:] = np.frombuffer(a, "i8")


@check(4)
def the_machine_file_decides_for_all_derived_communicators_too(world: MPI.Intracomm) -> None:
    """Read by rank 0; without a file links are assumed."""
    p = world.size
    where = topocomm.Topology(("group", "node"), [(r % 2, r) for r in range(p)])
    with tempfile.TemporaryDirectory() as folder:
        path = world.bcast(f"{folder}/machine.json")
        if world.rank == 0:
            Path(path).write_text(dumps_machine(SLOW))
        os.environ["TOPOCOMM_MACHINE"] = path if world.rank == 0 else "/nowhere"
        try:
            comm = topocomm.Comm(world, topology=where)
        finally:
            del os.environ["TOPOCOMM_MACHINE"]
        world.Barrier()
    for wrapped in (comm, comm.Dup(), topocomm.Comm(comm)):
        told = wrapped.explain("allreduce", 1 << 16)
        assert told.algorithm != "native"
        assert "machine.json" in told.why
        assert told.document()["chosen"]["algorithm"] == told.algorithm
        x, y = np.full(1 << 13, world.rank + 1.0), np.empty(1 << 13)
        wrapped.Allreduce(x, y)
        assert wrapped.decisions[-1] == told
        assert (y == p * (p + 1) / 2).all()
    told = topocomm.Comm(world, topology=where).explain("allreduce", 1 << 12)
    assert "assumed" in told.why


@check(2)
def rank_0_chooses_for_all(world: MPI.Intracomm) -> None:
    """Processors of other kinds may put two nearly equal times in another order."""
    p = world.size
    where = topocomm.Topology(("group", "node"), [(r % 2, r) for r in range(p)])
    comm = topocomm.Comm(world, topology=where, machine=SLOW)
    if p == 2:  # no rank is nearer than another
        return
    chooser = comm._live.chooser
    mine = replace(chooser.choose("allreduce", 1 << 16), algorithm="ring" if world.rank else "direct", seconds=0.0)
    chooser.adopt("allreduce", 1 << 16, False, mine)
    x, y = np.full(1 << 13, world.rank + 1.0), np.empty(1 << 13)
    comm.Allreduce(x, y)
    assert (y == p * (p + 1) / 2).all()
    assert comm.decisions[-1].algorithm == "direct"
    assert comm.explain("allreduce", 1 << 16).algorithm == "direct"
