"""Steps of a program over one numbering of its memory: what the proof of programs reads.

A *cell* is one position of memory, of whatever size. RECV has the first cells, SCRATCH the next, SEND the last; in
place, SEND has cells of RECV, if it has them for all sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from topocomm.arrays import IntArray
from topocomm.plan.program import (
    CODE,
    COPY,
    COUNT,
    LOOP,
    RECV_ROLE,
    ROLES,
    SCRATCH_ROLE,
    SEND_ROLE,
    SOURCE,
    Program,
)

__all__ = ["Cells", "Numbering", "Operation", "as_indices", "overlap"]

Cells: TypeAlias = slice | IntArray
"""Cells of an operand, in order: what indexes an array of one entry a cell."""

_NO_CELLS = slice(0, 0)


def as_indices(cells: Cells) -> IntArray:
    """Return the cells as an array of their numbers."""
    return np.arange(cells.start, cells.stop) if isinstance(cells, slice) else cells


def overlap(a: Cells, b: Cells) -> bool:
    """Tell whether two operands share a cell."""
    if isinstance(a, slice) and isinstance(b, slice):
        return bool(max(a.start, b.start) < min(a.stop, b.stop))
    return bool(np.isin(as_indices(a), as_indices(b)).any())


@dataclass(slots=True)
class Operation:
    """One step as it runs, in one repetition of its loop; its operands are cells."""

    code: int
    peer: int
    message: int
    count: int
    flags: int
    cells: Cells
    """The target of a COPY, RECV or REDUCE, the source of a SEND."""
    source: Cells | None
    """Of a COPY; None if it is a landing."""
    row: int
    turn: int


class Numbering:
    """The cells of one rank's program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        sent, received, scratch = (len(slots) for slots in program.layout)
        first, self.overlaps_input = received + scratch, False
        if program.in_place:
            at = self._place_of_input(sent, received)
            self.overlaps_input = at is None
            first = first if at is None else at
        self.bases = (first, 0, received)
        self.inputs, self.outputs = slice(first, first + sent), slice(0, received)
        self.cells = max(received + scratch, first + sent)

    def _place_of_input(self, sent: int, received: int) -> int | None:
        """Return where in RECV the input lies, in place; None: at its beginning, but where depends on sizes."""
        program = self.program
        if sent in (received, 0):
            return 0
        if sent == program.pieces and received == sent * program.size:
            return program.rank * sent
        return None

    @property
    def lost(self) -> Cells:
        """The cells whose content may be lost whenever RECV is written."""
        return self.inputs if self.overlaps_input else _NO_CELLS

    def name(self, cell: int) -> str:
        """Return the text of a cell: its role and position."""
        for role in (RECV_ROLE, SCRATCH_ROLE, SEND_ROLE):
            position = cell - self.bases[role]
            if 0 <= position < len(self.program.layout[role]):
                return f"{ROLES[role]}[{position}]"
        raise ValueError(f"cell {cell} of {self.cells}")

    def per_cell(self, per_slot: IntArray) -> IntArray:
        """Return for every cell the entry of its slot; in place that of RECV."""
        out = np.zeros(self.cells, np.int64)
        for base, slots in zip(self.bases, self.program.layout, strict=True):
            out[base : base + len(slots)] = per_slot[slots]
        return out

    def operations(self) -> Iterator[Operation]:
        """Yield the steps in the order in which they run, loops written out."""
        rows, runs, i = self.program.steps.tolist(), self.program.runs.tolist(), 0
        while i < len(rows):
            if rows[i][CODE] != LOOP:
                yield self._operation(rows[i], runs, i, 0)
                i += 1
                continue
            body = range(i + 1, i + 1 + rows[i][SOURCE])
            for turn in range(rows[i][COUNT]):
                for inner in body:
                    yield self._operation(rows[inner], runs, inner, turn)
            i = body.stop

    def _operation(self, row: list[int], runs: list[list[int]], i: int, turn: int) -> Operation:
        code, peer, message, count, first, length, source, flags = row
        cells = self._cells(runs, first, length, turn)
        of_source = self._cells(runs, source, length, turn) if code == COPY and source >= 0 else None
        if of_source is not None and self.program.in_place:
            cells, of_source = _moving(cells, of_source)
        return Operation(code, peer, message + turn, count, flags, cells, of_source, i, turn)

    def _cells(self, runs: list[list[int]], first: int, length: int, turn: int) -> Cells:
        if length == 0:
            return _NO_CELLS
        pieces = []
        for role, start, n, stride, modulus in runs[first : first + length]:
            at = self.bases[role] + ((start + turn * stride) % modulus if modulus else start)
            pieces.append(slice(at, at + n))
        if length == 1:
            return pieces[0]
        return np.concatenate([as_indices(piece) for piece in pieces])


def _moving(target: Cells, source: Cells) -> tuple[Cells, Cells]:
    """Leave out what a copy in place copies onto itself."""
    into, out_of = as_indices(target), as_indices(source)
    moved = into != out_of
    return (target, source) if moved.all() else (into[moved], out_of[moved])
