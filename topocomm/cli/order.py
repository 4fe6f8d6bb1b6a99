"""``python -m topocomm order``: put the ranks of a grid on a job's hosts, and write that for a launcher. No MPI."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from topocomm.cli.arguments import HOSTS, UsageError, at_least, hosts_of, writable
from topocomm.errors import Error
from topocomm.topology import read_site
from topocomm.topology.grids import cart_order, parted

__all__ = ["HELP", "add_arguments", "run"]

HELP = "host files for launchers that put the ranks of a grid where neighbours are near"


def _slurm(hosts: Sequence[str]) -> str:
    return "".join(f"{host}\n" for host in hosts)


def _machine_file(hosts: Sequence[str]) -> str:
    return "".join(f"{host}:1\n" for host in hosts)


def _rank_file(hosts: Sequence[str]) -> str:
    """One slot a rank, counted on each host in the order of its ranks."""
    used: Counter[str] = Counter()
    lines = []
    for rank, host in enumerate(hosts):
        lines.append(f"rank {rank}={host} slot={used[host]}\n")
        used[host] += 1
    return "".join(lines)


FORMATS: dict[str, tuple[Callable[[Sequence[str]], str], str]] = {
    "slurm": (_slurm, "SLURM_HOSTFILE=FILE srun --distribution=arbitrary"),
    "seq": (_slurm, "Open MPI: mpiexec --hostfile FILE --map-by seq"),
    "rankfile": (_rank_file, "Open MPI: mpiexec --map-by rankfile:file=FILE"),
    "mpich": (_machine_file, "MPICH and its relatives: mpiexec -f FILE"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add grid, placement, hosts and output."""
    parser.epilog = "formats:\n" + "\n".join(f"  {name:10}{words}" for name, (_, words) in FORMATS.items())
    parser.add_argument(
        "dims", metavar="N", nargs="+", type=at_least(1), help="positions along each axis, last fastest"
    )
    parser.add_argument("--placement", metavar="FILE", required=True, help="by-node placement, or a site's description")
    parser.add_argument("--hosts", metavar="HOSTS", required=True, help=f"the job's hosts: {HOSTS}")
    parser.add_argument(
        "--periodic", metavar="AXIS", type=at_least(0), nargs="*", default=[], help="axes that are rings"
    )
    parser.add_argument("--format", metavar="FORMAT", choices=list(FORMATS), default="slurm", help=", ".join(FORMATS))
    parser.add_argument("-o", metavar="OUT", dest="out", type=writable, help="write to this file, not to stdout")


def run(args: argparse.Namespace) -> int:
    """Write the host of every rank; say on stderr how many neighbours are apart, in the hosts' order and in this one.

    Raises topocomm.Error if hosts and grid do not fit.
    """
    hosts = hosts_of(args.hosts)
    placement = read_site(args.placement, hosts=hosts)
    if placement.ranks is not None:
        raise UsageError(f"{args.placement} places every rank by itself; give a by-node placement")
    cells = math.prod(args.dims)
    if cells != len(hosts):
        raise UsageError(f"a grid of {' x '.join(map(str, args.dims))} has {cells} ranks, the hosts have {len(hosts)}")
    if any(axis >= len(args.dims) for axis in args.periodic):
        raise UsageError(f"--periodic {max(args.periodic)}: the grid has axes 0 to {len(args.dims) - 1}")
    topology = placement.topology(hosts)
    periods = [axis in args.periodic for axis in range(len(args.dims))]
    order = cart_order(topology, args.dims, periods)
    before, after = (parted(topology, ranks, args.dims, periods) for ranks in (np.arange(cells), order))
    for level, was, now in zip(topology.levels, before, after, strict=True):
        print(f"neighbours in different places at level {level}: {was} in the hosts' order, {now} now", file=sys.stderr)
    text = FORMATS[args.format][0]([hosts[rank] for rank in order])
    if args.out is None:
        sys.stdout.write(text)
        return 0
    try:
        Path(args.out).write_text(text, encoding="utf-8")
    except OSError as e:
        raise Error(f"{args.out}: cannot be written: {e.strerror}") from None
    return 0
