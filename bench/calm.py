"""Waits for a quiet machine before a measurement, and says how quiet it was."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["busy_share", "calm"]


def _ticks() -> tuple[int, int]:
    """Clock ticks of all cores since boot: spent, and idle."""
    words = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(words), words[3] + words[4]


def busy_share(seconds: float = 0.3) -> float:
    """The share of all cores in use over the next moment, 0 to 1."""
    before = _ticks()
    time.sleep(seconds)
    spent, idle = (now - then for now, then in zip(_ticks(), before, strict=True))
    return round(1 - idle / max(1, spent), 2)


def calm(share: float = 0.05, limit: float = 20) -> float:
    """Waits until at most this share of the cores is in use, `limit` seconds at most; returns the last share seen."""
    end = time.monotonic() + limit
    while (busy := busy_share()) > share and time.monotonic() < end:
        pass
    return busy
