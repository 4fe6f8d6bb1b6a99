"""``python -m topocomm topology``: read how a site describes its machine; describe it, or convert it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from topocomm.cli.arguments import HOSTS, hosts_of
from topocomm.errors import Error, TopologyError
from topocomm.topology.files import Placement, dumps_nodes, dumps_placement
from topocomm.topology.sites import FORMATS, read_site
from topocomm.topology.sites.mpich import dumps_coordinates
from topocomm.topology.topology import Topology

__all__ = ["HELP", "add_arguments", "run"]

HELP = "read a site's description of its machine; describe or convert it"
TARGETS = ("placement", "mpich_coordinates")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file, its format, and the output."""
    formats = "\n".join(f"  {name:18}{entry.summary}" for name, entry in FORMATS.items())
    parser.epilog = f"formats:\n{formats}"
    parser.add_argument("file", metavar="FILE", help="the description")
    parser.add_argument("--format", metavar="FORMAT", choices=list(FORMATS), help="its format (default: by content)")
    parser.add_argument("--pattern", metavar="REGEX", help="host names: one named group a level, outermost first")
    parser.add_argument("--host-format", metavar="FORMAT", default="{}", help="names of numbered nodes: 'nid{:06d}'")
    parser.add_argument("--name", metavar="NAME", help="which topology of several in the file (topology.yaml)")
    parser.add_argument("--hosts", metavar="HOSTS", help=f"only these hosts: {HOSTS}")
    parser.add_argument("-o", metavar="OUT", dest="out", help="write it to this file ('-' for stdout)")
    parser.add_argument("--to", metavar="FORMAT", choices=TARGETS, default=TARGETS[0],
                        help=f"what to write: {' or '.join(TARGETS)} (by rank: needs --hosts)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Describe on stdout, or write with ``-o``."""
    hosts = None if args.hosts is None else hosts_of(args.hosts)
    placement = read_site(
        args.file, args.format, pattern=args.pattern, host=args.host_format, name=args.name, hosts=hosts or ()
    )
    topology = _topology(placement, hosts)
    if args.out is None:
        print(_described(placement) if topology is None else topology.describe())
        return 0
    text = _written(placement, topology, args.to)
    if args.out == "-":
        sys.stdout.write(text)
        return 0
    try:
        Path(args.out).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as e:
        raise Error(f"{args.out}: cannot be written: {e}") from None
    return 0


def _topology(placement: Placement, hosts: list[str] | None) -> Topology | None:
    """By rank: of a placement that is so, or of the hosts named."""
    if hosts is not None:
        if placement.nodes is None:
            raise TopologyError(f"{placement.source} places ranks, not nodes: --hosts cannot choose among them")
        return placement.topology(hosts)
    return None if placement.ranks is None else Topology(placement.levels, placement.ranks)


def _described(placement: Placement) -> str:
    assert placement.nodes is not None
    machine = placement.topology(list(placement.nodes)).describe()
    return machine.partition(", in topology order")[0].partition(", not in")[0].replace(" ranks", " nodes", 1)


def _written(placement: Placement, topology: Topology | None, target: str) -> str:
    if target == "mpich_coordinates":
        if topology is None:
            raise TopologyError(f"{placement.source} places nodes; coordinates are by rank: say which with --hosts")
        return dumps_coordinates(topology)
    return dumps_nodes(placement) if topology is None else dumps_placement(topology)
