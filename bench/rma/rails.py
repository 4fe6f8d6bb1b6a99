"""Notified puts over one and two network interfaces between two emulated hosts; needs root and Linux's ip and tc.

Two network namespaces are joined by two shaped links each; the processes share no node name, so no memory is shared.
Bandwidth over each link alone and over both, the ratios, and packets per put; kept in
bench/results/rma_rails_<rates>.json:

    python -m bench.rma.rails [--rates 40 20] [--sizes 1048576 4194304] [--rounds 9]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.calm import calm
from bench.record import ROOT, keep

HOSTS = ("tcrma0", "tcrma1")
LINKS = ("rail0", "rail1")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def inside(host: int, *words: str) -> None:
    subprocess.run(["ip", "netns", "exec", HOSTS[host], *words], check=True)


def set_up(rates: list[int]) -> None:
    """Two hosts, and one shaped link per rate (in Mbit/s)."""
    for host in HOSTS:
        ip("netns", "add", host)
    for n, rate in enumerate(rates):
        ends = [f"tcr{n}h{h}" for h in range(2)]
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for h in range(2):
            ip("link", "set", ends[h], "netns", HOSTS[h])
            inside(h, "ip", "link", "set", ends[h], "name", LINKS[n])
            inside(h, "ip", "addr", "add", f"10.199.{n}.{h + 1}/24", "dev", LINKS[n])
            inside(h, "ip", "link", "set", LINKS[n], "up")
            shape = ("tbf", "rate", f"{rate}mbit", "burst", "64kb", "latency", "200ms")
            inside(h, "tc", "qdisc", "add", "dev", LINKS[n], "root", *shape)
    for h in range(2):
        inside(h, "ip", "link", "set", "lo", "up")


def tear_down() -> None:
    for host in HOSTS:
        subprocess.run(["ip", "netns", "delete", host], check=False, stderr=subprocess.DEVNULL)


def packets() -> int:
    """Sent by this host over both links."""
    return sum(int(Path(f"/sys/class/net/{link}/statistics/tx_packets").read_text()) for link in LINKS)


def one_way(context: Any, size: int, rounds: int) -> tuple[float, float]:
    """Median seconds from the start of a put to the notification's answer, and packets sent per put."""
    peer = 1 - context.rank
    memory, signals = context.allocate((2, size), np.uint8), [context.signal() for _ in range(2)]
    length = size if context.rank == 1 else 1
    blocks = [memory.block(memory.array[k, :length], signals[k], peer) for k in range(2)]
    targets = context.exchange({peer: blocks})[peer]
    source = np.random.default_rng(context.rank).integers(0, 256, size if context.rank == 0 else 1, np.uint8)
    plans = [context.plan() for _ in range(2)]
    for k in range(2):
        plans[k].put(source, targets[k])
    times, before = [], packets()
    for r in range(rounds):
        k = r % 2
        start = time.perf_counter()
        if context.rank == 0:
            plans[k].start()
        signals[k].wait()
        if context.rank == 1:
            plans[k].start()
        signals[k].rearm()
        plans[k].wait()
        times.append(time.perf_counter() - start)
    sent = (packets() - before) / rounds
    if context.rank == 1:
        seed = np.random.default_rng(0).integers(0, 256, size, np.uint8)
        if not (memory.array == seed).all():
            raise SystemExit("wrong data")
    return statistics.median(times[1:]), sent


def worker(folder: str, rank: int, args: argparse.Namespace) -> None:
    sys.path.append(str(ROOT / "tests" / "rma"))
    from filecomm import FileComm  # type: ignore[import-not-found]

    from topocomm import rma

    comm = FileComm(folder, rank, 2, limit=120)
    rows = []
    weights = [r / min(args.rates) for r in args.rates]
    for size in args.sizes:
        row = {"size": size}
        for name, nics, share in (
            ("first", LINKS[:1], ()), ("second", LINKS[1:], ()), ("both", LINKS, weights)
        ):  # fmt: skip
            with rma.Context(comm, transports=["ofi"], provider="tcp", nics=nics, weights=share, timeout=60) as context:
                seconds, sent = one_way(context, size, args.rounds)
            row[name] = size / seconds / 1e6
            row[f"{name}_packets"] = sent
        row["both_per_first"] = row["both"] / row["first"]
        row["both_per_second"] = row["both"] / row["second"]
        rows.append(row)
    if rank == 0:
        Path(folder, "rows.json").write_text(json.dumps(rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", type=int, nargs=2, default=[40, 40])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1 << 20, 4 << 20])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker[0], int(args.worker[1]), args)
        return 0
    tear_down()
    busy = calm()
    try:
        set_up(args.rates)
        with tempfile.TemporaryDirectory() as folder:
            jobs = [
                subprocess.Popen(
                    ["ip", "netns", "exec", HOSTS[r], "unshare", "--uts", "sh", "-c", f'hostname host{r}; exec "$@"',
                     "sh", sys.executable, "-m", "bench.rma.rails", *sys.argv[1:], "--worker", folder, str(r)]
                )
                for r in range(2)
            ]  # fmt: skip
            failed = max(job.wait(timeout=300) for job in jobs)
            rows = [] if failed else json.loads(Path(folder, "rows.json").read_text())
        for row in rows:
            print(*(f"{key} {value:.4g}" for key, value in row.items()))
        figures = {"rates_mbit": args.rates, "unit": "MB/s", "rounds": args.rounds, "busy_before": busy, "rows": rows}
        if not failed:
            keep(f"rma_rails_{args.rates[0]}_{args.rates[1]}", figures)
        return failed
    finally:
        tear_down()


if __name__ == "__main__":
    sys.exit(main())
