"""The command line of the emulated cluster."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from bench.cluster.emulated import Cluster, place
from bench.cluster.launchers import LAUNCHERS
from bench.cluster.namespaces import ClusterError

__all__ = ["main", "reported", "tidy_up_on_signals"]


def _interrupt(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster", description="Run an MPI program on an emulated cluster."
    )
    run = parser.add_subparsers(dest="action", required=True).add_parser("run", help="set up, run, tear down")
    run.add_argument("--racks", type=int, default=2)
    run.add_argument("--hosts", type=int, default=2, help="hosts per rack")
    run.add_argument("--link", default="40mbit", help="rate of each host's link")
    run.add_argument("--uplink", default="40mbit", help="rate of each rack's link to the core")
    run.add_argument("--nics", type=int, default=1, choices=(1, 2), help="links per host")
    run.add_argument("--nic2-rate", help="rate of the second link, if it differs")
    run.add_argument("--ranks-per-host", type=int, default=1)
    run.add_argument("--placement", default="block", help="block, cyclic or random:SEED")
    run.add_argument("--topology-out", type=Path, metavar="FILE", help="write the placement of the ranks as JSON")
    run.add_argument("--machine-out", type=Path, metavar="FILE", help="write the speed of the links as JSON")
    run.add_argument("--counters-out", type=Path, metavar="FILE", help="write what passed each link as JSON")
    run.add_argument("--mpi", default="auto", choices=("auto", *LAUNCHERS), help="refuse to run under another one")
    run.add_argument("--timeout", type=float, default=600, help="seconds after which the program is ended")
    run.add_argument("program", nargs="+", metavar="PROGRAM", help="behind --: the program and its arguments")
    return parser.parse_args(argv)


def run_command(args: argparse.Namespace) -> int:
    shape = {"link": args.link, "uplink": args.uplink, "nics": args.nics, "nic2_rate": args.nic2_rate}
    run = {name: getattr(args, name) for name in ("placement", "ranks_per_host", "timeout", "mpi")}
    with Cluster(args.racks, args.hosts, **shape) as cluster:
        if args.topology_out:
            order = place(args.placement, args.racks, args.hosts, args.ranks_per_host)
            args.topology_out.write_text(json.dumps(cluster.topology(order), indent=1) + "\n")
        if args.machine_out:
            args.machine_out.write_text(json.dumps(cluster.machine(), indent=1) + "\n")
        done = cluster.mpiexec(args.program, **run)
        if args.counters_out:
            links = {link: traffic._asdict() for link, traffic in cluster.counters().items()}
            args.counters_out.write_text(json.dumps(links, indent=1) + "\n")
        return done.returncode


def main(argv: Sequence[str] | None = None) -> int:
    try:
        return run_command(parse_arguments(argv))
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def reported(name: str, study: Callable[[], int | None]) -> int:
    """Run a study that is torn down on signals; returns its exit code, or 2 with one line if there is no cluster."""
    tidy_up_on_signals()
    try:
        return study() or 0
    except ClusterError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2


def tidy_up_on_signals() -> None:
    """Let the usual requests to end unwind the stack, so that the cluster is torn down."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
