"""The overhead of the library: ``native`` on a wrapped communicator beside mpi4py's, and rounds of the Python engine.

    mpiexec -n 2 python -m bench.overhead [--json bench/results/overhead.json]

Part 1 runs on COMM_SELF, where an MPI call costs least, so that nothing hides the difference: A B A B … blocks of calls
of one method, the median over blocks of the difference per call. Target: at most 0.1 µs. Then the cost of answering a
known call without work: the least of many blocks of calls that end in a function of the C library that does nothing.

Part 2 runs on all ranks: a barrier and an 8-byte allreduce of our own on an artificial topology against the MPI
library's, per round of the schedule.

Part 3 runs on 2 ranks: what a round adds, from a broadcast and a reduction in 32 segments of 16 bytes against one of 1,
beside plain messages of 16 bytes. The model's choice takes its figures for the interpreter from here.

Part 4 runs on all ranks: short-lived communicators, plain and derived from a wrapped one with distance between its
ranks: made, used for one small call, and freed. Target: at most 10 µs more.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from mpi4py import MPI

import topocomm
from bench.record import keep
from topocomm.algorithms import make_schedule
from topocomm.algorithms.pipeline import SEGMENTS
from topocomm.cli.provenance import versions

CALLS, BLOCKS = 2000, 41


def per_call_us(call: Callable[[], object], calls: int = CALLS) -> float:
    """Microseconds a call, over one block of calls."""
    start = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - start) / calls * 1e6


def interleaved(a: Callable[[], object], b: Callable[[], object]) -> tuple[float, float, float]:
    """Median µs of a call of ``a``, of ``b``, and of their difference block by block."""
    pairs = [(per_call_us(a), per_call_us(b)) for _ in range(BLOCKS)]
    return (
        statistics.median(x for x, _ in pairs),
        statistics.median(y for _, y in pairs),
        statistics.median(y - x for x, y in pairs),
    )


def native_rows() -> list[dict[str, object]]:
    """Part 1: one row a collective."""
    plain = MPI.COMM_SELF
    wrapped = topocomm.Comm(MPI.COMM_SELF, algorithm="native")
    x, y = np.zeros(8), np.zeros(8)
    calls: dict[str, Callable[[MPI.Intracomm], Callable[[], object]]] = {
        "Barrier": lambda c: c.Barrier,
        "Bcast": lambda c: lambda: c.Bcast(x),
        "Allreduce": lambda c: lambda: c.Allreduce(x, y),
        "Allgather": lambda c: lambda: c.Allgather(x, y),
        "Alltoall": lambda c: lambda: c.Alltoall(x, y),
        "Reduce_scatter_block": lambda c: lambda: c.Reduce_scatter_block(x, y),
        "Reduce_scatter": lambda c: lambda: c.Reduce_scatter(x, y, (8,)),
        "Reduce": lambda c: lambda: c.Reduce(x, y),
        "Gather": lambda c: lambda: c.Gather(x, y),
        "Scatter": lambda c: lambda: c.Scatter(x, y),
    }
    rows: list[dict[str, object]] = []
    for name, make in calls.items():
        a, b, difference = interleaved(make(plain), make(wrapped))
        rows.append({"call": name, "mpi4py_us": a, "topocomm_native_us": b, "difference_us": difference})
    return rows


class Answered(topocomm.Comm):
    """A communicator whose known calls do no work."""

    def _learn(self, method: str, nbytes: int, served: object) -> Any:
        """Return the absolute value of nothing as what serves every call."""
        return ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value, 0, object(), method == "Bcast"


def answered_rows() -> list[dict[str, object]]:
    """The rest of part 1: one row a form of arguments."""
    comm, x, y, double = Answered(MPI.COMM_SELF, algorithm="native"), np.zeros(8), np.zeros(8), MPI.DOUBLE
    calls: dict[str, Callable[[], object]] = {
        "Barrier": comm.Barrier,
        "Bcast": lambda: comm.Bcast(x),
        "Allreduce": lambda: comm.Allreduce(x, y),
        "Allreduce [array, type]": lambda: comm.Allreduce([x, double], [y, double]),
    }
    rows: list[dict[str, object]] = []
    for name, call in calls.items():
        for _ in range(2):
            call()
        rows.append({"call": name, "answered_us": min(per_call_us(call, 500) for _ in range(10 * BLOCKS))})
    return rows


def round_rows(comm: MPI.Intracomm) -> list[dict[str, object]]:
    """Part 2: rank 0's medians. The plain Sendrecv is what a round of one message each way cannot go below."""
    places = topocomm.Topology(("node",), [[r] for r in range(comm.size)])
    names = {"barrier": "textbook_dissemination", "allreduce": "textbook_recursive_doubling"}
    wrapped = topocomm.Comm(comm, topology=places, algorithm=names)
    plain = MPI.Intracomm(comm)
    x, y, peer = np.ones(1), np.zeros(1), comm.rank ^ 1 if comm.rank ^ 1 < comm.size else MPI.PROC_NULL
    rows: list[dict[str, object]] = []
    for name, collective, theirs, ours in (
        ("Barrier", "barrier", plain.Barrier, wrapped.Barrier),
        ("Allreduce 8 B", "allreduce", lambda: plain.Allreduce(x, y), lambda: wrapped.Allreduce(x, y)),
    ):
        schedule = make_schedule(collective, names[collective], topocomm.Topology.flat(comm.size))
        rounds = len(schedule.part(0).rounds)
        native_us, ours_us, _ = interleaved(theirs, ours)
        sendrecv_us, _, _ = interleaved(lambda: plain.Sendrecv(x, peer, 0, y, peer), plain.Barrier)
        rows.append(
            {
                "call": name,
                "ranks": comm.size,
                "rounds": rounds,
                "native_us": native_us,
                "ours_us": ours_us,
                "ours_us_per_round": ours_us / max(rounds, 1),
                "sendrecv_us": sendrecv_us,
            }
        )
    return rows


def segment_rows(comm: MPI.Intracomm) -> list[dict[str, object]]:
    """Part 3: rank 0's least of many blocks, as noise only ever adds."""
    places = topocomm.Topology(("node",), [[r] for r in range(comm.size)])
    many, one = (
        topocomm.Comm(comm, topology=places, algorithm={"bcast": name, "reduce": name})
        for name in ("pipeline", "binomial")
    )
    x, y = np.ones(2 * SEGMENTS), np.zeros(2 * SEGMENTS)

    def least(call: Callable[[], object]) -> float:
        found = []
        for _ in range(BLOCKS):
            comm.Barrier()
            found.append(per_call_us(call, 200))
        return min(found)

    def messages() -> None:
        for _ in range(SEGMENTS):
            if comm.rank == 0:
                comm.Send(x[:2], 1)
            elif comm.rank == 1:
                comm.Recv(y[:2], 0)

    plain = least(messages) / SEGMENTS
    rows: list[dict[str, object]] = []
    calls: dict[str, Callable[[topocomm.Comm], Callable[[], object]]] = {
        "Bcast": lambda c: lambda: c.Bcast(x),
        "Reduce": lambda c: lambda: c.Reduce(x, y),
    }
    for name, make in calls.items():
        single, whole = least(make(one)), least(make(many))
        a_round = (whole - single) / (SEGMENTS - 1)
        rows.append({"call": name, "one_round_us": single, "us_per_round": a_round, "plain_message_us": plain})
    return rows


def communicator_rows(comm: MPI.Intracomm) -> list[dict[str, object]]:
    """Part 4: rank 0's least of many blocks, as noise only ever adds."""
    places = topocomm.Topology(("rack", "node"), [(r % 2, r) for r in range(comm.size)])
    plain: MPI.Intracomm = MPI.Intracomm(comm)
    wrapped: MPI.Intracomm = topocomm.Comm(comm, topology=places)
    group, x, y = plain.Get_group(), np.ones(64), np.zeros(64)
    makes: dict[str, Callable[[MPI.Intracomm], Any]] = {
        "Dup": lambda c: c.Dup(),
        "Split": lambda c: c.Split(0, -c.rank),
        "Create": lambda c: c.Create(group),
        "Create_cart": lambda c: c.Create_cart([c.size]),
    }
    calls: dict[str, Callable[[MPI.Intracomm], object]] = {
        "none": lambda c: None,
        "Allreduce": lambda c: c.Allreduce(x, y),
        "Bcast": lambda c: c.Bcast(y),
        "Barrier": lambda c: c.Barrier(),
    }

    def once(parent: MPI.Intracomm, make: str, call: str) -> None:
        made = makes[make](parent)
        calls[call](made)
        made.Free()

    rows: list[dict[str, object]] = []
    for make, call in product(makes, calls):
        best = [float("inf")] * 2
        for _ in range(BLOCKS):
            for i, parent in enumerate((plain, wrapped)):
                comm.Barrier()
                best[i] = min(best[i], per_call_us(partial(once, parent, make, call), 50))
        added = best[1] - best[0]
        rows.append({"made": make, "call": call, "plain_us": best[0], "wrapped_us": best[1], "added_us": added})
    group.Free()
    return rows


def main() -> None:
    """Run all parts, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    native = native_rows() if comm.rank == 0 else []
    answered = answered_rows() if comm.rank == 0 else []
    comm.Barrier()
    rounds = round_rows(comm)
    segments = segment_rows(comm) if comm.size == 2 else []
    communicators = communicator_rows(comm)
    if comm.rank:
        return
    print(f"{'call':<24}{'mpi4py us':>12}{'native us':>12}{'difference':>12}")
    for row in native:
        print(
            f"{row['call']:<24}{row['mpi4py_us']:>12.2f}{row['topocomm_native_us']:>12.2f}{row['difference_us']:>12.2f}"
        )
    for row in answered:
        print(f"{row['call']}: a known call is answered in {row['answered_us']:.3f} us, its work aside")
    for row in rounds:
        print(
            f"{row['call']}, {row['ranks']} ranks, {row['rounds']} rounds: MPI {row['native_us']:.2f} us, ours "
            f"{row['ours_us']:.2f} us, {row['ours_us_per_round']:.2f} a round; a Sendrecv {row['sendrecv_us']:.2f} us"
        )
    for row in segments:
        print(
            f"{row['call']}: {row['us_per_round']:.2f} us a round of many, {row['one_round_us']:.2f} us with one; "
            f"a plain message {row['plain_message_us']:.2f} us"
        )
    for row in communicators:
        print(
            f"{row['made']}, {row['call']}, Free: plain {row['plain_us']:.1f} us, wrapped {row['wrapped_us']:.1f} us, "
            f"{row['added_us']:.1f} more"
        )
    if options.json:
        figures = {"native": native, "answered": answered, "rounds": rounds, "segments": segments}
        facts = {"libraries": versions(), "thread_level": MPI.Query_thread()}
        keep(options.json.stem, {**facts, **figures, "communicators": communicators})


if __name__ == "__main__":
    main()
