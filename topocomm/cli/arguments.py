"""Arguments that several commands understand alike: sizes in bytes, whole numbers, files to write."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

__all__ = ["at_least", "byte_count", "size_range", "writable"]

_SUFFIXES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def byte_count(text: str) -> int:
    """A number of bytes: digits, and K, M or G for powers of 1024."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes (K, M and G may follow it)")
    return int(match[1]) * _SUFFIXES[match[2].upper()]


def size_range(text: str) -> tuple[int | None, int | None]:
    """``[MIN:]MAX`` in bytes; None for an end that is not given."""
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
    """A parser of whole numbers of at least ``least``."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return number


def writable(text: str) -> Path:
    """A file that may be written: its directory is there."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no directory {str(path.parent)!r}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a directory")
    return path
