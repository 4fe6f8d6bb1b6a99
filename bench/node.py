"""Collectives through memory shared by the ranks of one host, beside the MPI library's own.

    mpiexec -n 2 python -m bench.node [--level single|multiple] [--json node_mpich_multiple]

From C: loops over ``tc_node_run`` and over the MPI function of the same name, in blocks by turns, buffers altered
before every call. From Python: ``topocomm.Comm``'s methods beside mpi4py's. Every figure is rank 0's fastest block, as
noise only ever adds; microseconds a call.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import mpi4py
import numpy as np

SIZES = (8, 48, 256, 1024, 4096)
"""Bytes that a rank gives."""
BLOCKS = 15
SECONDS = 0.02
"""Of one block, about."""
_LEVELS = ("single", "multiple")


def level_of(arguments: list[str]) -> str:
    """Return the thread level that the command line asks for: it must be known before MPI starts."""
    word = arguments[arguments.index("--level") + 1] if "--level" in arguments else "multiple"
    assert word in _LEVELS, f"--level must be one of {_LEVELS}"
    return word


mpi4py.rc.thread_level = level_of(sys.argv)

from mpi4py import MPI  # noqa: E402

import topocomm  # noqa: E402
from bench.record import keep  # noqa: E402
from topocomm.cli.provenance import versions  # noqa: E402
from topocomm.collectives import COLLECTIVES, PREFIXES, REDUCING  # noqa: E402
from topocomm.engines.node import Arguments, Node, NodeCall  # noqa: E402
from topocomm.library import address, handle  # noqa: E402
from topocomm.rma._core import ffi, lib  # noqa: E402


def pointer(x: Any) -> ctypes.c_void_p:
    """Return cffi's pointer for ctypes."""
    return ctypes.c_void_p(int(ffi.cast("uintptr_t", x)))


def loops() -> ctypes.CDLL:
    """Compile the loops."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "needs a C compiler"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "loop.so"
        source = Path(__file__).with_name("node_loop.c")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
        found = ctypes.CDLL(str(target))
    found.loop_mpi.restype = found.loop_node.restype = ctypes.c_double
    return found


class Case:
    """One collective with the bytes that a rank gives, or the root does."""

    def __init__(self, comm: MPI.Intracomm, node: Node, collective: str, given: int) -> None:
        p, root = comm.size, comm.rank == 0
        self.collective, self.given = collective, given
        blocks = collective in ("alltoall", "scatter", "reduce_scatter_block", "reduce_scatter")
        self.block = max(given // p // 8, 1) * 8 if blocks else given
        n = self.block * p if blocks else given
        self.send, self.recv = np.ones(max(n, 8) // 8), np.zeros(max(n, self.block * p, 8) // 8)
        self.counts = np.full(p, self.block // 8, np.int32)
        op = MPI.SUM if collective in REDUCING else MPI.OP_NULL
        each = [self.block] * p if collective == "reduce_scatter" else None
        asked = Arguments(collective, 0 if each else self.block, 0, each, op, MPI.DOUBLE, 8)
        self.call: NodeCall = node.call(asked)
        s, r = self.send.ctypes.data, self.recv.ctypes.data
        double, add, world = handle(MPI.DOUBLE), handle(MPI.SUM), handle(comm)
        count = self.block // 8
        gather = [s, count, double, r, count, double]
        self.arguments = {
            "barrier": [world],
            "bcast": [s if root else r, count, double, 0, world],
            "allreduce": [s, r, count, double, add, world],
            "reduce": [s, r, count, double, add, 0, world],
            "reduce_scatter": [s, r, self.counts.ctypes.data, double, add, world],
            "reduce_scatter_block": [s, r, count, double, add, world],
            "allgather": [*gather, world],
            "alltoall": [*gather, world],
            "gather": [*gather, 0, world],
            "scatter": [*gather, 0, world],
        }[collective]

    @property
    def whole(self) -> int:
        """Bytes of the whole vector, by which the choice is made."""
        if self.collective in ("allgather", "gather"):
            return self.block * len(self.counts)
        return self.block * len(self.counts) if self.block != self.given else self.given


def fastest(comm: MPI.Intracomm, ways: dict[str, Callable[[int], float]]) -> dict[str, float]:
    """Return microseconds a call of every way: its fastest block."""
    best = dict.fromkeys(ways, float("inf"))
    calls = {}
    for name, loop in ways.items():
        comm.Barrier()
        trial = np.array([loop(20) / 20, loop(20) / 20])
        comm.Allreduce(MPI.IN_PLACE, trial, MPI.MAX)
        calls[name] = int(min(max(SECONDS / trial.min(), 10), 200_000))
    for _ in range(BLOCKS):
        for name, loop in ways.items():
            comm.Barrier()
            best[name] = min(best[name], loop(calls[name]) / calls[name] * 1e6)
    return {name: round(us, 4) for name, us in best.items()}


def from_c(comm: MPI.Intracomm, collectives: list[str], sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Measure C loops."""
    node = Node.open(comm, comm)
    assert isinstance(node, Node), node
    c = loops()
    run, wait = (int(ffi.cast("uintptr_t", ffi.addressof(lib, name))) for name in ("tc_node_run", "tc_node_wait"))
    for collective in collectives:
        for given in sizes if collective != "barrier" else [0]:
            case = Case(comm, node, collective, given)
            arguments = (ctypes.c_ssize_t * 8)(*case.arguments)
            function = ctypes.c_void_p(address(f"MPI_{collective.capitalize()}"))
            memory = [ctypes.c_void_p(a.ctypes.data) for a in (case.send, case.recv)]

            def ours(n: int, case: Case = case, memory: Any = memory) -> float:
                run_, wait_ = ctypes.c_void_p(run), ctypes.c_void_p(wait)
                found = c.loop_node(
                    run_, wait_, pointer(node.pointer), pointer(case.call.pointer), *memory, memory[0], n
                )
                assert found >= 0
                return float(found)

            def theirs(n: int, arguments: Any = arguments, function: Any = function, memory: Any = memory) -> float:
                found = c.loop_mpi(function, arguments, memory[0], n)
                assert found >= 0
                return float(found)

            us = fastest(comm, {"shared": ours, "native": theirs})
            yield {"collective": collective, "given": given, "whole": case.whole, **us}


def methods(given: int) -> dict[str, Callable[[Any], object]]:
    """Return calls of a communicator by name, with vectors of ``given`` bytes; none: a barrier."""
    if not given:
        return {"Barrier": lambda c: c.Barrier()}
    x, y = np.ones(given // 8), np.zeros(given // 8)
    return {"Allreduce": lambda c: c.Allreduce(x, y), "Bcast": lambda c: c.Bcast(x)}


def timed(call: Callable[[Any], object], comm: MPI.Intracomm) -> Callable[[int], float]:
    """Return a function that makes a call n times and returns seconds."""

    def loop(n: int) -> float:
        start = perf_counter()
        for _ in range(n):
            call(comm)
        return perf_counter() - start

    return loop


def from_python(comm: MPI.Intracomm, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Measure methods: of a wrapped communicator by its own choice and through shared memory, and of mpi4py's."""
    wrapped, shared = topocomm.Comm(comm), topocomm.Comm(comm, algorithm="shared")
    for given in [0, *sizes]:
        for name, call in methods(given).items():
            ways = {"auto": timed(call, wrapped), "shared": timed(call, shared), "mpi4py": timed(call, comm)}
            us = fastest(comm, ways)
            algorithm = wrapped.explain(name.lower(), given).algorithm
            yield {"call": name, "bytes": given, "algorithm": algorithm, **us}


def show(*cells: object) -> None:
    """Print a row on rank 0."""
    if MPI.COMM_WORLD.rank == 0:
        print("".join(f"{x:>12.3f}" if isinstance(x, float) else f"{x!s:>22}" for x in cells), flush=True)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--level", choices=_LEVELS, default="multiple")
    parser.add_argument("--collectives", default=",".join(name for name in COLLECTIVES if name not in PREFIXES))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--json", metavar="NAME", help="keep the figures in bench/results/NAME.json")
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    sizes = [int(n) for n in options.sizes.split(",")]
    rows: dict[str, list[dict[str, Any]]] = {"c": [], "python": []}
    for row in from_c(comm, options.collectives.split(","), sizes):
        rows["c"].append(row)
        show(row["collective"], row["given"], row["shared"], row["native"], row["native"] / row["shared"])
    for row in from_python(comm, sizes):
        rows["python"].append(row)
        show(row["call"], row["bytes"], row["algorithm"], row["auto"], row["shared"], row["mpi4py"])
    if options.json and comm.rank == 0:
        facts = {"ranks": comm.size, "thread level": options.level, "libraries": versions(), "unit": "microseconds"}
        keep(options.json, {**facts, **rows})


if __name__ == "__main__":
    main()
