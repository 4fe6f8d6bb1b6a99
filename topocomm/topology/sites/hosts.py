"""Hosts of a job: host lists, counts of ranks, and the host files of MPI launchers.

    n[1-4],login1:2          a host list; ``NAME:RANKS`` places that many ranks on every host of its item
    n1 slots=4 max_slots=8   Open MPI's host file; ``np=`` and ``cpu=`` are read alike
    n1:4                     the host file of MPICH and its relatives
    10.0.0.1 n1 n1.site      a line as in /etc/hosts: address, name, aliases

``#`` begins a comment. A host that is named again has further ranks, as in the node files of batch systems.
Source: the manual pages of Open MPI's mpirun(1) and MPICH's mpiexec(1), and hosts(5).
"""

from __future__ import annotations

import ipaddress
import re

from topocomm.errors import TopologyError
from topocomm.topology.sites import hostlist
from topocomm.topology.sites.text import MAX_NODES, fail, lines

__all__ = ["hosts_of_line", "is_address", "names_of", "parse_hosts"]

_COUNT = re.compile(r"[1-9][0-9]{0,5}")
_SLOTS = ("slots", "np", "cpu", "cpus")
_IGNORED = ("max_slots", "max-slots", "maxslots")


def parse_hosts(text: str, source: str = "hosts") -> list[tuple[str, int]]:
    """List the hosts of a host list or host file with their numbers of ranks, in its order.

    Raises TopologyError, naming the line, for anything else, for no host, and for more than a million ranks.
    """
    found: list[tuple[str, int]] = []
    for number, content in lines(text):
        try:
            found += hosts_of_line(content)
        except TopologyError as e:
            fail(source, str(e), number if "\n" in text.strip() else None)
    if not found:
        fail(source, "names no host")
    if sum(count for _, count in found) > MAX_NODES:
        fail(source, f"more than {MAX_NODES} ranks")
    return found


def names_of(text: str, source: str = "hosts") -> list[str]:
    """List the names of the hosts of a host list or host file, each once, in its order. Raises TopologyError."""
    return list(dict.fromkeys(host for host, _ in parse_hosts(text, source)))


def is_address(word: str) -> bool:
    """Tell whether a word is an IP address."""
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def hosts_of_line(content: str) -> list[tuple[str, int]]:
    """List the hosts of one line, without a comment, with their numbers of ranks. Raises TopologyError."""
    words = [w for w in hostlist.split_words(re.sub(r"\s*=\s*", "=", content), ", \t\r") if w]
    if len(words) > 1 and is_address(words[0]) and "=" not in words[1] and not is_address(words[1]):
        special = ipaddress.ip_address(words[0])
        return [] if special.is_loopback or special.is_multicast else [(_host(words[1]), 1)]
    items = [word for word in words if "=" not in word]
    slots = _slots([word for word in words if "=" in word])
    if slots and len(items) != 1:
        raise TopologyError(f"{content[:60]!r} gives a number of slots to {len(items)} hosts; give each its own line")
    return [pair for item in items for pair in _item(item, slots)]


def _slots(options: list[str]) -> int | None:
    """Read the number of slots from words such as ``slots=4``; None without any."""
    slots = None
    for option in options:
        key, _, value = option.partition("=")
        if key.lower() not in (*_SLOTS, *_IGNORED) or not _COUNT.fullmatch(value):
            raise TopologyError(f"{option!r} is not slots=N, N a whole number from 1 to 999999")
        if key.lower() in _SLOTS:
            if slots is not None:
                raise TopologyError(f"{option!r} gives the number of slots again")
            slots = int(value)
    return slots


def _item(item: str, slots: int | None) -> list[tuple[str, int]]:
    """List the hosts of ``n[1-4]:2`` with their ranks."""
    if is_address(item):
        return [(item, slots or 1)]
    names, colon, count = item.partition(":")
    if colon and not _COUNT.fullmatch(count):
        raise TopologyError(f"{item!r} is not NAME or NAME:RANKS, RANKS a whole number from 1 to 999999")
    if colon and slots is not None:
        raise TopologyError(f"{item!r} has its number of ranks already, slots={slots} is another")
    ranks = int(count) if colon else slots or 1
    return [(_host(name), ranks) for name in hostlist.expand(names)]


def _host(name: str) -> str:
    if "@" in name or ":" in name:
        raise TopologyError(f"{name!r} is not a host name")
    return name
