"""One message per neighbour and round: a steady halo exchange over TCP between emulated hosts, every segment counted.

    python -m bench.rma.halo            # as root; needs no quiet machine, as nothing is timed

Four hosts, a 2 x 2 grid, halos smaller than a segment. Host 0 counts the TCP segments with data that it sends and
receives, beside what the library's own statistics say, unchecked and in checked mode. Kept in
bench/results/rma_halo.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.cluster import Cluster, ClusterError, reported
from bench.cluster.segments import counting, mark
from bench.record import ROOT, keep

ROUNDS, SIDE = 100, 64


def exchange_rounds(cart: Any, checked: bool, peer: str) -> dict[str, Any]:
    """This rank's statistics of the rounds between the marks."""
    from topocomm import rma

    name = "checked" if checked else "unchecked"
    options: dict[str, Any] = {"transports": ["ofi"], "provider": "tcp", "nics": ["e0"]}
    with rma.Context(cart, checked=checked, **options) as context:
        memories = [context.allocate((SIDE, SIDE)) for _ in range(2)]
        exchange = rma.halo(context, memories, cart)
        for _ in range(4):
            exchange()
        cart.Barrier()
        if cart.rank == 0:
            mark(peer, name)
        time.sleep(0.3)
        before = context.stats
        for _ in range(ROUNDS):
            exchange()
        after = context.stats
        time.sleep(0.3 if cart.rank == 0 else 0.6)  # the barrier's messages are not counted
        if cart.rank == 0:
            mark(peer, name)
        cart.Barrier()
        neighbours = len(exchange.plans[0].targets)
        memory_left = np.abs(memories[0].array).sum()
    assert memory_left == 0
    messages, control = after.messages - before.messages, after.control - before.control
    return {"mode": name, "neighbours": neighbours, "rounds": ROUNDS,
            "messages_per_neighbour_and_round": messages / neighbours / ROUNDS,
            "control_per_neighbour_and_round": control / neighbours / ROUNDS}  # fmt: skip


def worker(peer: str, report: Path) -> None:
    """One rank on its host."""
    from mpi4py import MPI

    cart = MPI.COMM_WORLD.Create_cart([2, 2], periods=[False, False], reorder=False)
    rows = [exchange_rounds(cart, checked, peer) for checked in (False, True)]
    if cart.rank == 0:
        report.write_text(json.dumps(rows))


def study() -> list[dict[str, Any]]:
    """Rank 0's statistics with host 0's segments."""
    with Cluster(racks=1, hosts=4, link="1gbit") as cluster:
        report = cluster.scratch / "report.json"
        program = [sys.executable, "-m", "bench.rma.halo", "--worker", cluster.address(1), str(report)]
        with counting(cluster, 0) as counts:
            done = cluster.mpiexec(program, timeout=120, capture=True, env={"PYTHONPATH": str(ROOT)})
        if done.returncode:
            raise ClusterError(f"return code {done.returncode}\n{done.stdout}{done.stderr}")
        rows: list[dict[str, Any]] = json.loads(report.read_text())
    for row in rows:
        seen, expected = counts[row["mode"]], row["neighbours"] * row["rounds"]
        row["segments_sent_per_neighbour_and_round"] = seen.out_segments / expected
        row["segments_received_per_neighbour_and_round"] = seen.in_segments / expected
        row["bytes_sent_per_neighbour_and_round"] = seen.out_bytes / expected
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker[0], Path(args.worker[1]))
        return 0
    return reported("rma.halo", report)


def report() -> None:
    """Measure, keep, print."""
    rows = study()
    keep("rma_halo", {"halo_bytes": (SIDE - 2) * 8, "rows": rows})
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    sys.exit(main())
