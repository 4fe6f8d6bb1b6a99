"""What `explain` and `simulate` ask alike: a size, a placement, an order of ranks, a machine. No MPI."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from topocomm.errors import Error, TopologyError
from topocomm.model import Machine, default_machine, read_machine
from topocomm.topology import Topology, read_site

__all__ = ["ORDERS", "add_json", "amount", "hosts_of", "machine_of", "placement_of", "size_of", "write_json"]

ORDERS = "given, sorted, cyclic or random:SEED"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
MOST_BYTES = 1 << 50
_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"(\d{1,18})\s*([kmg]?)(i?b)?", re.IGNORECASE)


def size_of(text: str) -> int:
    """Bytes from ``65536``, ``64k``, ``64KiB``, ``1M``: units are powers of 1024. Raises ArgumentTypeError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give bytes, or a number with K, M or G (1024 each)")
    size = int(match[1]) * _UNITS[match[2].lower()]
    if size > MOST_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is too large; at most {amount(MOST_BYTES)}")
    return size


def amount(nbytes: float, digits: int = 2) -> str:
    """Bytes for people: 512 B, 1.50 MiB."""
    power = min(max(int(nbytes).bit_length() - 1, 0) // 10, len(_NAMES) - 1)
    return f"{nbytes:.0f} B" if not power else f"{nbytes / 1024**power:.{digits}f} {_NAMES[power]}"


def hosts_of(text: str) -> list[str]:
    """One host name a rank from ``a,b:4,c``: ``b:4`` stands for four ranks. Raises TopologyError."""
    hosts: list[str] = []
    for word in text.split(","):
        name, colon, count = word.strip().partition(":")
        if not name or (colon and not (count.isdecimal() and 1 <= len(count) < 7 and int(count) > 0)):
            raise TopologyError(f"--hosts holds {word!r}; each is NAME or NAME:RANKS, RANKS a whole number above 0")
        hosts += [name] * int(count or 1)
    return hosts


def placement_of(path: str, hosts: str | None = None) -> Topology:
    """The topology of a placement file or a site's description (:func:`topocomm.topology.read_site`).

    By-node ones take ``hosts``, or all nodes with one rank each. Raises TopologyError if it is of no known format,
    malformed, lacks a host, or if hosts are given for a by-rank file.
    """
    placement = read_site(path)
    if placement.ranks is not None:
        if hosts is not None:
            raise TopologyError(f"{path} places every rank by itself; --hosts fits by-node files only")
        return Topology(placement.levels, placement.ranks)
    return placement.topology(hosts_of(hosts) if hosts else list(placement.nodes or ()))


def machine_of(path: str | None, topology: Topology) -> Machine:
    """The machine of a file, or what is assumed without one. Raises TopologyError if it does not fit."""
    machine = read_machine(path) if path else default_machine(topology)
    machine.covers(topology)
    return machine


def add_json(parser: argparse.ArgumentParser) -> None:
    """The switch for machine-readable output."""
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="JSON to FILE beside the table, or instead of it to stdout (-)",
    )


def write_json(text: str, target: str) -> None:
    """Write to a file, or to stdout if ``target`` is ``-``. Raises topocomm.Error if it cannot be written."""
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as e:
        raise Error(f"{target}: cannot be written: {e.strerror}") from None
