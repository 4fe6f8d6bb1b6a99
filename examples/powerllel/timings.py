"""Seconds by phase, under the names of the original's timers."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from time import perf_counter


class Timings:
    """Adds up seconds by name; phases may lie inside each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[name] += perf_counter() - start
