"""Arguments that `explain` and `simulate` share, and their answers: placement, machine, decision. No MPI."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from topocomm.choose.modelled import Chooser
from topocomm.choose.rule import Decision, decide
from topocomm.cli.arguments import HOSTS, hosts_of
from topocomm.collectives import find_collective
from topocomm.errors import AlgorithmError, Error, TopologyError
from topocomm.model import Machine, default_machine, read_machine
from topocomm.topology import Topology, read_site

__all__ = ["add_model_arguments", "amount", "decision_of", "machine_of", "placement_of", "write_json"]

ORDERS = "given, sorted, cyclic or random:SEED"
_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def amount(nbytes: float, digits: int = 2) -> str:
    """Write bytes for people: 512 B, 1.50 MiB."""
    power = min(max(int(nbytes).bit_length() - 1, 0) // 10, len(_NAMES) - 1)
    return f"{nbytes:.0f} B" if not power else f"{nbytes / 1024**power:.{digits}f} {_NAMES[power]}"


def placement_of(path: str, hosts: str | None = None) -> Topology:
    """Read the topology of a placement file or a site's description (:func:`topocomm.topology.read_site`).

    By-node ones take ``hosts``, or all nodes with one rank each. Raises TopologyError if it is of no known format,
    malformed, lacks a host, or if hosts are given for a by-rank file.
    """
    named = None if hosts is None else hosts_of(hosts)
    placement = read_site(path, hosts=named or ())
    if placement.ranks is not None:
        if named is not None:
            raise TopologyError(f"{path} places every rank by itself; --hosts fits by-node files only")
        return Topology(placement.levels, placement.ranks)
    return placement.topology(list(placement.nodes or ()) if named is None else named)


def machine_of(path: str | None, topology: Topology) -> Machine:
    """Read the machine of a file, or assume one without it. Raises TopologyError if it does not fit."""
    machine = read_machine(path) if path else default_machine(topology)
    machine.covers(topology)
    return machine


def add_model_arguments(parser: argparse.ArgumentParser, several: bool) -> None:
    """Add the arguments of `explain` and `simulate`; with ``several`` placements and orders to sweep."""
    add, more = parser.add_argument, "+" if several else None
    add("collective", metavar="COLLECTIVE", nargs=None if several else "?", help="allreduce, allgather, …")
    add("--placement", metavar="FILE", nargs=more, required=several,
        help="placement file: where the ranks sit; or a site's description")  # fmt: skip
    add("--hosts", metavar="HOSTS", help=f"the job's hosts, for a by-node placement (default: all): {HOSTS}")
    add("--machine", metavar="FILE", help="machine file: links and capacities (default: assumed)")
    add("--order", metavar="ORDER", nargs=more, default=["given"] if several else "given",
        help=f"order of ranks: {ORDERS} (default given)")  # fmt: skip
    add("--root", metavar="R", type=int, default=0, help="root of bcast, reduce, gather, scatter")
    add("--json", metavar="FILE", nargs="?", const="-",
        help="JSON to FILE beside the table, or instead of it to stdout (-)")  # fmt: skip
    add("--plot", metavar="FILE", type=Path, help="picture: .png, .pdf or .svg")


def decision_of(collective: str, nbytes: int, chooser: Chooser, root: int = 0) -> Decision:
    """Decide as the library would. Raises AlgorithmError for an unknown collective or fewer than 0 bytes."""
    find_collective(collective)
    if nbytes < 0:
        raise AlgorithmError(f"needs bytes ≥ 0, found {nbytes}")
    return decide(collective, nbytes, chooser, root=root)


def write_json(document: object, target: str) -> None:
    """Write to a file, or to stdout if ``target`` is ``-``. Raises topocomm.Error if it cannot be written."""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as e:
        raise Error(f"{target}: cannot be written: {e.strerror}") from None
