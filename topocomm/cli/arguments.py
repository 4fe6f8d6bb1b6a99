"""Arguments that several commands read: sizes in bytes, whole numbers, hosts, files to write."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from topocomm.errors import Error
from topocomm.topology.documents import read_text
from topocomm.topology.sites.hosts import parse_hosts

__all__ = ["HOSTS", "UsageError", "at_least", "byte_count", "hosts_of", "size_range", "sizes_of", "writable"]

HOSTS = "a host list with numbers of ranks, 'a,n[1-4]:2', or @FILE, a host file"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_BYTES = re.compile(r"(\d{1,18})\s*([KMG]?)(I?B)?", re.IGNORECASE | re.ASCII)
MOST_BYTES = 1 << 50
MOST_SIZES = 64


class UsageError(Error):
    """The command line asks for something that there is not."""


def byte_count(text: str) -> int:
    """Read bytes from ``65536``, ``64k``, ``64KiB`` or ``1M``: units are powers of 1024. Raises ArgumentTypeError."""
    match = _BYTES.fullmatch(text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes (K, M and G may follow it)")
    size = int(match[1]) * _UNITS[match[2].upper()]
    if size > MOST_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is too large; at most {MOST_BYTES} bytes")
    return size


def hosts_of(text: str) -> list[str]:
    """Read one host name a rank from ``a,n[1-4]:2`` (four hosts of two ranks), or from the host file FILE of ``@FILE``.

    Raises TopologyError for anything else.
    """
    found = parse_hosts(read_text(text[1:]), text[1:]) if text.startswith("@") else parse_hosts(text, "--hosts")
    return [host for host, ranks in found for _ in range(ranks)]


def sizes_of(text: str) -> list[int]:
    """Read sizes from ``1K,4K`` or ``1K:1M`` (each twice the one before), at most 64. Raises ArgumentTypeError."""
    sizes: list[int] = []
    for word in text.split(","):
        low, colon, high = word.partition(":")
        size, last = byte_count(low), byte_count(high) if colon else byte_count(low)
        if colon and not 0 < size <= last:
            raise argparse.ArgumentTypeError(f"{word!r} is no range of sizes; give MIN:MAX with 0 < MIN ≤ MAX")
        while size <= last:
            sizes.append(size)
            if not size:
                break
            size *= 2
    if len(sizes) > MOST_SIZES:
        raise argparse.ArgumentTypeError(f"{text!r} makes {len(sizes)} sizes; at most {MOST_SIZES} are swept")
    return sorted(set(sizes))


def size_range(text: str) -> tuple[int | None, int | None]:
    """Read ``[MIN:]MAX`` in bytes; None for an end that is not given. Raises ArgumentTypeError."""
    least, colon, most = text.partition(":")
    if not colon:
        least, most = "", least
    if not least and not most:
        raise argparse.ArgumentTypeError(f"{text!r} is not [MIN:]MAX")
    smallest = byte_count(least) if least else None
    if smallest == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: the smallest message must have at least 1 byte")
    return smallest, byte_count(most) if most else None


def at_least(least: int) -> Callable[[str], int]:
    """Make a parser of whole numbers of at least ``least``."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return number


def writable(text: str) -> Path:
    """Read the name of a file that may be written: its directory is there. Raises ArgumentTypeError."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no directory {str(path.parent)!r}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a directory")
    return path
