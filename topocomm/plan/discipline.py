"""The discipline of one rank's program: no step reads or writes what a message under way may write or read.

Which messages are under way at a step is known from the program alone, whatever the others do: from its SEND or RECV to
the WAIT for it. While they are

* nothing writes what a SEND gives away, and no posted RECV may;
* nothing reads or writes the target of a posted RECV, no SEND gives it away, and no other RECV may write it;
* a landing is taken after its WAIT, once.

Besides, nothing is read that has never been written, no COPY reads what it writes, and every copied, sent or combined
position is of the size of its counterpart, for all sizes of blocks.
"""

from __future__ import annotations

import numpy as np

from topocomm.arrays import IntArray
from topocomm.plan.cells import Cells, Numbering, Operation, as_indices, overlap
from topocomm.plan.program import COPY, FENCE, LAND, RECV, REDUCE, SEND, SENT

__all__ = ["Discipline"]

_HOLDS, _NOTHING, _POSTED = 0, 1, 2


class Discipline:
    """Follows one program step by step, and says what breaks the discipline."""

    def __init__(self, memory: Numbering, classes: IntArray) -> None:
        """Begin: only the input holds something. ``classes``: for each cell the number of its size."""
        self.memory, self.classes = memory, classes
        self.uniform = not len(classes) or bool((classes == classes[0]).all())
        self._state = bytearray([_NOTHING]) * memory.cells
        self.state = np.frombuffer(self._state, np.uint8)  # the same memory: for operands that are no slice
        self.state[memory.inputs] = _HOLDS
        self.reading = np.zeros(memory.cells, np.int32)  # messages under way that are sent from a cell
        self.under_way: tuple[dict[tuple[int, int], Operation], dict[tuple[int, int], Operation]] = {}, {}
        self.landed: dict[tuple[int, int], Operation] = {}
        self.numbers: tuple[dict[int, int], dict[int, int]] = {}, {}

    def apply(self, op: Operation) -> str:
        """Take the next step into account; return what is wrong with it, or nothing."""
        if op.code == SEND:
            return self._send(op)
        if op.code == RECV:
            return self._recv(op)
        if op.code == COPY:
            return self._copy(op)
        if op.code == REDUCE:
            return self._take(op) or self._unreadable(op.cells) or self._unwritable(op.cells)
        if op.code == FENCE:
            self._fence()
            return ""
        return self._wait(op)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _send(self, op: Operation) -> str:
        problem = self._misnumbered(op, 0) or self._unreadable(op.cells)
        if not problem:
            self.reading[op.cells] += 1
        return problem

    def _recv(self, op: Operation) -> str:
        problem = self._misnumbered(op, 1)
        if problem or op.flags & LAND:
            return problem
        problem = self._unwritable(op.cells)
        if not problem:
            self._set(op.cells, _POSTED)
        return problem

    def _copy(self, op: Operation) -> str:
        if op.source is None:
            problem = self._take(op)
        else:
            lost = self.memory.lost
            reads_own = overlap(op.source, op.cells) or (self._writes_output(op.cells) and overlap(op.source, lost))
            problem = self._unreadable(op.source) or ("copies what it overwrites" if reads_own else "")
            problem = problem or self._other_sizes(op.source, op.cells)
        problem = problem or self._unwritable(op.cells)
        if not problem:
            self._set(op.cells, _HOLDS)
        return problem

    def _wait(self, op: Operation) -> str:
        side = 0 if op.flags & SENT else 1
        for number in range(op.message, op.message + op.count):
            if number >= self.numbers[side].get(op.peer, 0):
                return f"message {number} is not under way"
            message = self.under_way[side].pop((op.peer, number), None)
            if message is not None:
                self._end(side, message)
        return ""

    def _fence(self) -> None:
        for side in (0, 1):
            for message in self.under_way[side].values():
                self._end(side, message)
            self.under_way[side].clear()

    def _end(self, side: int, message: Operation) -> None:
        if side == 0:
            self.reading[message.cells] -= 1
        elif message.flags & LAND:
            self.landed[message.peer, message.message] = message
        else:
            self._set(message.cells, _HOLDS)

    def _misnumbered(self, op: Operation, side: int) -> str:
        number = self.numbers[side].get(op.peer, 0)
        if op.message != number:
            return f"message {number} is the next"
        self.numbers[side][op.peer] = number + 1
        self.under_way[side][op.peer, number] = op
        return ""

    def _take(self, op: Operation) -> str:
        message = self.landed.pop((op.peer, op.message), None)
        if message is None:
            return "there is no landing: it was not waited for, or taken already"
        return self._other_sizes(message.cells, op.cells)

    # -- cells -------------------------------------------------------------------------------------------------------

    def _set(self, cells: Cells, state: int) -> None:
        self.state[cells] = state
        if self._writes_output(cells):
            self.state[self.memory.lost] = _NOTHING

    def _writes_output(self, cells: Cells) -> bool:
        return self.memory.overlaps_input and overlap(cells, self.memory.outputs)

    def _find(self, cells: Cells, state: int) -> int:
        """The first of the cells in this state, or -1."""
        if isinstance(cells, slice):
            return self._state.find(state, cells.start, cells.stop)
        found = cells[self.state[cells] == state]
        return int(found[0]) if len(found) else -1

    def _unreadable(self, cells: Cells) -> str:
        empty = self._find(cells, _NOTHING)
        if empty >= 0:
            return f"reads {self.memory.name(empty)}, which holds nothing"
        return self._posted(cells, "reads")

    def _posted(self, cells: Cells, verb: str) -> str:
        posted = self._find(cells, _POSTED)
        if posted < 0:
            return ""
        peer, number = next(key for key, op in self._receives() if posted in as_indices(op.cells))
        return f"{verb} {self.memory.name(posted)}, which message {number} of rank {peer} may write"

    def _receives(self) -> list[tuple[tuple[int, int], Operation]]:
        return [(key, op) for key, op in self.under_way[1].items() if not op.flags & LAND]

    def _unwritable(self, cells: Cells) -> str:
        if not isinstance(cells, slice) and len(np.unique(cells)) < len(cells):
            return "writes a position twice"
        for read in (cells, self.memory.lost) if self._writes_output(cells) else (cells,):
            if self.reading[read].any():
                cell = int(as_indices(read)[self.reading[read] > 0][0])
                peer, number = next(key for key, op in self.under_way[0].items() if cell in as_indices(op.cells))
                return f"writes {self.memory.name(cell)}, which message {number} to rank {peer} may read"
        return self._posted(cells, "writes")

    def _other_sizes(self, a: Cells, b: Cells) -> str:
        if isinstance(a, slice) and isinstance(b, slice) and a.stop - a.start == b.stop - b.start and self.uniform:
            return ""
        x, y = self.classes[a], self.classes[b]
        if len(x) != len(y):
            return f"{len(x)} positions are to fill {len(y)}"
        if (x != y).any():
            i = int(np.flatnonzero(x != y)[0])
            return f"position {i} of its source has another size than that of its target"
        return ""
