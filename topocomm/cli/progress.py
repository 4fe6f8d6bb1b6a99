"""How far a long measurement is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress"]

_WIDTH = 30
_SECONDS_A_LINE = 5.0


class Progress:
    """Shows shares between 0 and 1 under a label; says nothing on ranks other than the one that shows."""

    def __init__(self, label: str, shows: bool = True) -> None:
        self._label, self._shows = label, shows
        self._bar = shows and sys.stderr.isatty()
        self._said = 0.0
        self._drawn = -1

    def __call__(self, share: float) -> None:
        """Show that this share of the work is done."""
        if not self._shows:
            return
        if self._bar:
            full = int(share * _WIDTH)
            if full != self._drawn:
                self._drawn = full
                print(f"\r{self._label} [{'#' * full:<{_WIDTH}}] {share:4.0%}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._said >= _SECONDS_A_LINE:
            self._said = time.monotonic()
            print(f"{self._label}: {share:.0%}", file=sys.stderr, flush=True)

    def done(self) -> None:
        """The work is done: the bar ends its line."""
        if self._bar:
            self(1.0)
            print(file=sys.stderr, flush=True)
