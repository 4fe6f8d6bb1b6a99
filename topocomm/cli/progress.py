"""Progress of a long piece of work, on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time

from topocomm.cli.console import log

__all__ = ["Progress"]

_WIDTH = 30


class Progress:
    """Shows shares between 0 and 1 under a label; says nothing on ranks other than the one that shows.

    Elsewhere than on a terminal a line comes at most every ``seconds`` seconds.
    """

    def __init__(self, label: str = "", shows: bool = True, seconds: float = 5.0) -> None:
        self._label, self._shows, self._seconds = label, shows, seconds
        self._bar = shows and sys.stderr.isatty()
        self._said = -seconds
        self._drawn = ""

    def __call__(self, share: float, text: str | None = None) -> None:
        """Show that this share of the work is done; ``text`` says it in words, else per cent do."""
        words = f"{share:.0%}" if text is None else text
        if self._bar:
            full = int(share * _WIDTH)
            start = f"{self._label} [" if self._label else "["
            line = f"{start}{'#' * full:-<{_WIDTH}}] {words}"[: shutil.get_terminal_size().columns - 1]
            if line != self._drawn:
                self._drawn = line
                print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif self._shows and time.monotonic() - self._said >= self._seconds:
            self._said = time.monotonic()
            log(f"{self._label}: {words}" if self._label else words)

    def say(self, text: str) -> None:
        """Print a remark on a line of its own."""
        self.end()
        if self._shows:
            log(text)

    def done(self) -> None:
        """Show that all of the work is done: the bar is full and ends its line."""
        if self._bar:
            self(1.0)
        self.end()

    def end(self) -> None:
        """Leave the line of the bar as it is."""
        if self._drawn:
            print(file=sys.stderr, flush=True)
        self._drawn = ""
