"""What the engine adds to an MPI library's own collective: eight bytes, recursive doubling, two ranks.

    mpiexec -n 2 python -m bench.library_cost         # with the library's algorithm forced, see FORCED

All three run in C, block by block in turns: the library's ``MPI_Allreduce``, a program of engine ``c``, and the same
messages without either. Each has one message each way and one sum, so that what they differ by is what the library and
the engine add. Least time on the clock of many blocks. Figures go to ``bench/results/library_cost_<MPI>.json``.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile

import numpy as np
from mpi4py import MPI

from bench.record import ROOT, keep
from topocomm import Topology
from topocomm.algorithms import make_schedule
from topocomm.engines import c
from topocomm.library import address, handle
from topocomm.plan.bind import bind

FORCED = {
    "MPIR_CVAR_DEVICE_COLLECTIVES": "none",
    "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": "recursive_doubling",
    "OMPI_MCA_coll": "tuned,basic,libnbc,inter,self",
    "OMPI_MCA_coll_tuned_use_dynamic_rules": "1",
    "OMPI_MCA_coll_tuned_allreduce_algorithm": "3",
}
"""What must be set before, so that the library does what the program does."""
CALLS, BLOCKS = 100, 400


def functions() -> ctypes.CDLL:
    """Compile the loops and declare them."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/cost.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(ROOT / "bench/library_cost.c"), "-o", path], check=True)
        loaded = ctypes.CDLL(path)
    pointer, number = ctypes.c_void_p, ctypes.c_ssize_t
    loaded.library_call.argtypes = [pointer, number, number, number, ctypes.c_int]
    loaded.program_call.argtypes = [pointer, pointer, ctypes.c_int]
    loaded.plain_call.argtypes = [pointer, pointer, pointer, number, number, ctypes.c_int, ctypes.c_int]
    for function in (loaded.library_call, loaded.program_call, loaded.plain_call):
        function.restype = ctypes.c_double
    return loaded


def main() -> int:
    missing = [key for key in FORCED if os.environ.get(key) != FORCED[key]]
    if missing:
        print("set first:", *(f"{key}={FORCED[key]}" for key in missing), file=sys.stderr)
        return 2
    world = MPI.COMM_WORLD
    comm, loaded, rank = world.Dup(), functions(), world.rank
    program = bind(make_schedule("allreduce", "textbook_recursive_doubling", Topology.flat(2)), rank)
    bound = c.Bound(
        c.Engine(world.Dup(), ranks=[0, 1]).load(program).size(np.ones(1, np.int64), 8), MPI.SUM, MPI.DOUBLE
    )
    isend, irecv, test, allreduce = (address(f"MPI_{name}") for name in ("Isend", "Irecv", "Test", "Allreduce"))
    here, double, add = handle(comm), handle(MPI.DOUBLE), handle(MPI.SUM)
    best = {"plain": 1e9, "library": 1e9, "engine": 1e9}
    for _ in range(BLOCKS):
        took = {
            "plain": loaded.plain_call(isend, irecv, test, here, double, 1 - rank, CALLS),
            "library": loaded.library_call(allreduce, here, double, add, CALLS),
            "engine": loaded.program_call(bound.call, bound.state, CALLS),
        }
        assert min(took.values()) > 0, took
        best = {name: min(best[name], took[name]) for name in best}
    figures = {name: round(world.allreduce(value, MPI.MAX), 3) for name, value in best.items()}
    if rank == 0:
        name, version = MPI.get_vendor()
        what = {"mpi": f"{name} {'.'.join(map(str, version))}", "thread_level": MPI.Query_thread(), "us": figures}
        print(what)
        library = name.replace(" ", "").lower()
        print(f"kept {keep(f'library_cost_{library}', {**what, 'forced': FORCED})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
