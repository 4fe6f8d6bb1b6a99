"""What a tuning session shows: how far it is (stderr), and what was chosen (stdout)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from topocomm.cli.console import log
from topocomm.tuning import Entry, Tuning
from topocomm.tuning.entries import NATIVE, winner

__all__ = ["Progress", "table"]

_WIDTH = 30


class Progress:
    """A bar on a terminal, else a line a point; only ``shown`` speaks."""

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.shown, self.done = total, shown, 0
        self._bar = shown and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """A remark on a line of its own."""
        self.end()
        if self.shown:
            log(text)

    def step(self, entry: Entry) -> None:
        """One point more is done."""
        self.done += 1
        if not self.shown:
            return
        name = winner(entry.algorithms)
        text = f"{entry.collective} {entry.nbytes} bytes: {name} {entry.algorithms[name].median * 1e6:.2f} us"
        if name != NATIVE:
            text += f", native {entry.native.median * 1e6:.2f} us"
        if self._bar:
            full = _WIDTH * self.done // self.total
            bar = "#" * full + "-" * (_WIDTH - full)
            print(f"\r\033[K[{bar}] {self.done}/{self.total} {text}", end="", file=sys.stderr, flush=True)
        else:
            log(f"{self.done}/{self.total} {text}")

    def end(self) -> None:
        """Leave the line of the bar."""
        if self._bar and self.done:
            print(file=sys.stderr, flush=True)


def table(book: Tuning, entries: Sequence[Entry], placement: str, library: str) -> Iterator[str]:
    """What `Tuning.best` says at every point, beside native."""
    yield "# topocomm tune"
    yield f"# MPI: {library}"
    yield f"# Placement: {placement}"
    width = max([len("Chosen"), *(len(name) for entry in entries for name in entry.algorithms)]) + 2
    yield f"{'# Collective':<22}{'Size':>12}  {'Chosen':<{width}}{'Median(us)':>16}{'native(us)':>16}{'Gain':>8}"
    for entry in entries:
        commutative = entry.type_class != "ordered"
        found = book.best(entry.collective, entry.nbytes, entry.signature, commutative, library, entry.engine)
        assert found is not None, "every point that was measured is in the book"
        median, native = entry.algorithms[found[0]].median, entry.native.median
        cells = f"{median * 1e6:>16.2f}{native * 1e6:>16.2f}{native / median:>8.2f}"
        yield f"{entry.collective:<22}{entry.nbytes:>12}  {found[0]:<{width}}{cells}"
