"""Figures of a tuning session for people: a point in words, all points in a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from topocomm.choose.measured import Entry, Tuning
from topocomm.choose.measured.entries import NATIVE, winner

__all__ = ["table", "words"]


def words(entry: Entry) -> str:
    """Describe one point: the winner, beside native."""
    name = winner(entry.algorithms)
    text = f"{entry.collective} {entry.nbytes} bytes: {name} {entry.algorithms[name].median * 1e6:.2f} us"
    return text if name == NATIVE else f"{text}, native {entry.native.median * 1e6:.2f} us"


def table(book: Tuning, entries: Sequence[Entry], placement: str, library: str) -> Iterator[str]:
    """Write the choice of `Tuning.best` at every point, beside native."""
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
