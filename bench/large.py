"""Large collectives through memory that the ranks of one host share, beside the MPI library's own.

    mpiexec -n 2 python -m bench.large [--level single|multiple] [--json large_mpich_multiple]

From Python: ``topocomm.Comm(..., algorithm="shared")`` on arrays of :func:`topocomm.empty` (``direct``) and of NumPy's
(``staged``), and mpi4py's methods on NumPy's (``native``), by turns, inputs altered before every call. The figure is
rank 0's fastest call.
``roofline``: the bytes that must be moved, 2 p n of an allreduce, at the rate of a copy by all ranks at once of long
vectors, measured in the same run. Microseconds a call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import mpi4py
import numpy as np

mpi4py.rc.thread_level = sys.argv[sys.argv.index("--level") + 1] if "--level" in sys.argv else "multiple"

from mpi4py import MPI  # noqa: E402

import topocomm  # noqa: E402
from bench.record import keep  # noqa: E402
from topocomm.cli.provenance import versions  # noqa: E402

SIZES = tuple(1 << k for k in (13, 14, *range(16, 27, 2)))
"""Bytes of the whole vector."""
METHODS = ("Allreduce", "Bcast", "Allgather", "Alltoall", "Reduce_scatter_block")
COPIED = 1 << 26
"""Bytes that every rank copies for the roofline."""
SECONDS = 0.1
"""Of the calls of one way and size, about."""


def lengths(method: str, nbytes: int, p: int) -> tuple[int, int]:
    """Return the doubles that a rank gives and gets."""
    whole, block = nbytes // 8, nbytes // 8 // p
    return {"Allgather": (block, whole), "Reduce_scatter_block": (whole, block)}.get(method, (whole, whole))


def moved(method: str, nbytes: int, p: int) -> float:
    """Return the bytes that all ranks together must read and write, all caches aside."""
    blocks = nbytes / p
    return {
        "Allreduce": 2.0 * p * nbytes,  # every input read, every result written
        "Bcast": p * nbytes,  # read once, written p - 1 times
        "Allgather": nbytes + p * nbytes,
        "Alltoall": 2.0 * p * nbytes,
        "Reduce_scatter_block": p * nbytes + p * blocks,
    }[method]


def least(call: Callable[[], object], alter: Callable[[], object], comm: MPI.Intracomm, times: int) -> float:
    """Return the microseconds of rank 0's fastest call."""
    best = float("inf")
    for _ in range(times):
        alter()
        comm.Barrier()
        start = perf_counter()
        call()
        best = min(best, perf_counter() - start)
    return best * 1e6


def copy_rate(comm: MPI.Intracomm) -> float:
    """Return the bytes a microsecond that all ranks together read and write when each copies a long vector."""
    source, target = np.ones(COPIED // 8), np.zeros(COPIED // 8)
    return 2.0 * COPIED * comm.size / least(lambda: np.copyto(target, source), lambda: None, comm, 8)


def caller(method: str, comm: MPI.Intracomm, send: Any, recv: Any) -> Callable[[], object]:
    """Return a call with these arrays."""
    return lambda: comm.Bcast(send) if method == "Bcast" else getattr(comm, method)(send, recv)


def row(method: str, nbytes: int, comm: MPI.Intracomm, wrapped: topocomm.Comm, rate: float) -> dict[str, Any]:
    """Measure one collective and size."""
    give, get = lengths(method, nbytes, comm.size)
    arrays = {"direct": (topocomm.empty(give), topocomm.empty(get)), "staged": (np.zeros(give), np.zeros(get))}
    arrays["native"] = arrays["staged"]
    times = int(min(max(SECONDS * 1e9 / nbytes, 4), 300))
    us: dict[str, float] = dict.fromkeys(arrays, float("inf"))
    for _ in range(4):
        for way, (send, recv) in arrays.items():
            call = caller(method, comm if way == "native" else wrapped, send, recv)
            us[way] = min(us[way], least(call, lambda send=send: np.add(send, 1, out=send), comm, times))  # type: ignore[misc]
    bound = moved(method, nbytes, comm.size) / rate
    found = {name: round(t, 1) for name, t in {**us, "roofline": bound}.items()}
    ratios = {f"native_over_{way}": round(us["native"] / us[way], 2) for way in ("direct", "staged")}
    return {"call": method, "bytes": nbytes, **found, **ratios}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--level", choices=("single", "multiple"), default="multiple")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--json", metavar="NAME", help="keep the figures in bench/results/NAME.json")
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    one_node = topocomm.Topology(("node",), [["n"]] * comm.size)
    wrapped = topocomm.Comm(comm, topology=one_node, algorithm="shared")
    rate, rows = copy_rate(comm), []
    if comm.rank == 0:
        print("# call, bytes, direct, staged, native, roofline, native/direct, native/staged")
    for method in options.methods.split(","):
        for nbytes in SIZES:
            rows.append(row(method, nbytes, comm, wrapped, rate))
            if comm.rank == 0:
                print(*(f"{x:>22}" for x in rows[-1].values()), flush=True)
    if options.json and comm.rank == 0:
        facts = {"ranks": comm.size, "thread level": options.level, "libraries": versions(), "unit": "microseconds"}
        keep(options.json, {**facts, "copied_bytes_a_us": round(rate), "figures": rows})


if __name__ == "__main__":
    main()
