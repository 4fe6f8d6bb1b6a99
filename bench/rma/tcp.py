"""Notified puts over TCP between two emulated hosts, beside the MPI library's own messages over the same link.

    python -m bench.rma.tcp [--link 1gbit]        # as root; the MPI library is that of this Python

Ping-pong of each size, the two ways taking turns; the ratio of each pair of rounds is kept, and of these the median.
Then the same with every TCP segment counted: data segments, bytes and crossings of the network for each transfer. Kept
in bench/results/rma_tcp_<mpi>_<link>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.calm import calm
from bench.cluster import Cluster, ClusterError, detect_mpi, find_mpiexec, reported
from bench.cluster.segments import counting, mark
from bench.record import ROOT, keep
from topocomm.cli.bench.put_ways import Notified, TwoSided, Way

SIZES = [8, 64, 512, 1024, 4096, 16384, 65536, 262144, 1048576]
COUNTED = [8, 1024, 65536, 1048576]
TRANSFERS = 100  # counted, half of them in each direction


def ping_pong(way: Way, rank: int, turns: int) -> float:
    """Seconds one way."""
    start = time.perf_counter()
    for i in range(turns):
        for sender in range(2):
            if rank == sender:
                way.send(i)
            else:
                way.receive(i)
    return (time.perf_counter() - start) / turns / 2


def make_ways(comm: Any, context: Any, size: int) -> list[Way]:
    """The two that are compared."""
    return [kind(comm, context, size, 1, 1) for kind in (Notified, TwoSided)]


def timed(comm: Any, context: Any, size: int, rounds: int) -> dict[str, Any]:
    """Medians of both ways, and of their ratio round by round."""
    ways = make_ways(comm, context, size)
    turns = max(2, min(100, (1 << 20) // size))
    times: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        for way, mine in zip(ways, times, strict=True):
            comm.Barrier()
            seconds = ping_pong(way, comm.rank, turns)
            if turn:
                mine.append(seconds)
    comm.Barrier()
    for way in ways:
        way.finish()
    shares = [send / put for put, send in zip(*times, strict=True)]
    low, _, high = statistics.quantiles(shares, n=4)
    put, send = (1e6 * statistics.median(mine) for mine in times)
    return {"size": size, "put_us": round(put, 1), "send_us": round(send, 1),
            "send_per_put": round(statistics.median(shares), 3),
            "quartiles": [round(low, 3), round(high, 3)], "turns": turns}  # fmt: skip


def counted(comm: Any, context: Any, size: int, peer: str) -> None:
    """Moves data between marks; somebody else counts."""
    for way in make_ways(comm, context, size):
        for _ in range(2):
            ping_pong(way, comm.rank, 4)
        comm.Barrier()
        if comm.rank == 0:
            time.sleep(0.1)
            mark(peer, f"{way.name} {size}")
        ping_pong(way, comm.rank, TRANSFERS // 2)
        if comm.rank == 0:
            mark(peer, f"{way.name} {size}")
        else:
            time.sleep(0.1)  # the barrier's message is not counted
        comm.Barrier()
        way.finish()


def worker(args: argparse.Namespace) -> None:
    """One of the two ranks, on its host."""
    from mpi4py import MPI

    from topocomm import rma

    comm = MPI.COMM_WORLD
    with rma.Context(comm, transports=["ofi"], provider="tcp", nics=["e0"], timeout=60) as context:
        if args.worker == "count":
            for size in COUNTED:
                counted(comm, context, size, args.peer)
            return
        rows = [timed(comm, context, size, args.rounds) for size in args.sizes]
    if comm.rank == 0:
        args.report.write_text(json.dumps({"library": MPI.Get_library_version().splitlines()[0], "rows": rows}))


def job(cluster: Cluster, what: str, args: argparse.Namespace) -> Path:
    """Runs the two workers; what rank 0 reports is in the file returned."""
    report = cluster.scratch / f"{what}.json"
    program = [sys.executable, "-m", "bench.rma.tcp", "--worker", what, "--report", str(report)]
    program += ["--peer", cluster.address(1), "--rounds", str(args.rounds), "--sizes", *map(str, args.sizes)]
    done = cluster.mpiexec(program, timeout=200, capture=True, env={"PYTHONPATH": str(ROOT)})
    if done.returncode:
        raise ClusterError(f"{what}: return code {done.returncode}\n{done.stdout}{done.stderr}")
    return report


def count(cluster: Cluster, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Segments, bytes and crossings per transfer of each way and size."""
    with counting(cluster, 0) as counts:
        job(cluster, "count", args)
    rows = []
    for name, c in counts.items():
        way, size = name.split()
        rows.append({"way": way, "size": int(size), "transfers": TRANSFERS,
                     "crossings": c.flights / TRANSFERS,
                     "segments": (c.out_segments + c.in_segments) / TRANSFERS,
                     "bytes": (c.out_bytes + c.in_bytes) / TRANSFERS,
                     "bare_acks": (c.out_acks + c.in_acks) / TRANSFERS})  # fmt: skip
    return rows


def study(args: argparse.Namespace) -> None:
    """Both parts on one cluster."""
    mpi = detect_mpi(find_mpiexec(sys.executable))
    with Cluster(racks=1, hosts=2, link=args.link) as cluster:
        busy = calm()
        report = json.loads(job(cluster, "time", args).read_text())
        counts = count(cluster, args)
    for row in report["rows"]:
        print(*(f"{key} {value}" for key, value in row.items()))
    for row in counts:
        print(*(f"{key} {value}" for key, value in row.items()))
    about = {"mpi": mpi, "link": args.link, "rounds": args.rounds, "busy_before": busy}
    keep(f"rma_tcp_{mpi}_{args.link}", {**about, **report, "counts": counts})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--link", default="1gbit")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--worker", choices=("time", "count"), help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return 0
    return reported("rma.tcp", lambda: study(args))


if __name__ == "__main__":
    sys.exit(main())
