"""Expressions over ranks, and the results that a collective must have: the ground of both verifiers.

:mod:`topocomm.schedule.verify` executes schedules on these expressions, :mod:`topocomm.plan.prove` programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from topocomm.arrays import IntArray
from topocomm.errors import Error, ScheduleError
from topocomm.schedule.rounds import Schedule

__all__ = ["NOTHING", "Expressions", "Outcome", "check_results"]

NOTHING = -1
"""The value of memory that nothing has been written to."""


class Expressions:
    """Interned expressions over ranks; equal structure, equal number; rank r alone is number r.

    The value ``expression * nblocks + block`` stands for a block with this history: the same expression stands for
    every block whose history is the same, so that a message of many blocks takes few look-ups.
    """

    def __init__(self, size: int, nblocks: int) -> None:
        self.nblocks = nblocks
        self.ranks = [1 << r for r in range(size)]  # bit mask of the contributing ranks
        self.ordered = [True] * size
        self._ids: dict[tuple[int, int], int] = {}

    def leaves(self, rank: int, count: int) -> IntArray:
        """Return the values of the first ``count`` input blocks of ``rank``."""
        return np.arange(rank * self.nblocks, rank * self.nblocks + count)

    def combine(self, left: IntArray, right: IntArray) -> IntArray:
        """Return the values of left ∘ right, block by block.

        Raises ScheduleError if the blocks are not the same, or if a rank's contribution would count twice.
        """
        if len(left) == 1:
            (x, at), (y, other_at) = divmod(int(left[0]), self.nblocks), divmod(int(right[0]), self.nblocks)
            if at == other_at:
                return np.array([self._one(x, y, at) * self.nblocks + at])
        (a, block), (b, other) = np.divmod(left, self.nblocks), np.divmod(right, self.nblocks)
        wrong = np.flatnonzero(block != other)
        if len(wrong):
            raise ScheduleError(f"block {other[wrong[0]]} is combined into block {block[wrong[0]]}")
        if len(a) and (a == a[0]).all() and (b == b[0]).all():
            return self._one(int(a[0]), int(b[0]), int(block[0])) * self.nblocks + block
        _, first, which = np.unique(a * len(self.ranks) + b, return_index=True, return_inverse=True)
        found = [self._one(int(a[i]), int(b[i]), int(block[i])) for i in first]
        return np.array(found, np.int64)[which.reshape(len(a))] * self.nblocks + block

    def _one(self, left: int, right: int, block: int) -> int:
        number = self._ids.get((left, right))
        if number is None:
            a, b = self.ranks[left], self.ranks[right]
            if a & b:
                twice = (a & b).bit_length() - 1
                raise ScheduleError(f"the contribution of rank {twice} to block {block} would count twice")
            number = self._ids[left, right] = len(self.ranks)
            self.ranks.append(a | b)
            in_order = a.bit_length() <= (b & -b).bit_length() - 1
            self.ordered.append(self.ordered[left] and self.ordered[right] and in_order)
        return number

    def name(self, value: int) -> str:
        """Return the text of a value: block and contributing ranks."""
        if value == NOTHING:
            return "nothing"
        mask, block = self.ranks[value // self.nblocks], value % self.nblocks
        ranks = [r for r in range(mask.bit_length()) if mask >> r & 1]
        shown = ", ".join(map(str, ranks[:6])) + (", …" if len(ranks) > 6 else "")
        return f"block {block} of rank{'s' if len(ranks) > 1 else ''} {shown}"


class Outcome(NamedTuple):
    """The end of one rank's execution."""

    loads: int
    """Input blocks."""
    found: IntArray
    """Values of the output blocks, in order."""
    heard: int
    """Bit mask of the ranks of whose arrival this one knows: for a barrier."""


def check_results(
    schedule: Schedule, known: Expressions, outcomes: Sequence[Outcome], fail: Callable[[int, str], Error]
) -> None:
    """Raise ``fail(rank, text)`` for the first rank whose outcome is not what the collective means.

    Of the schedule only collective, size, root, pieces and ``in_order`` are read. All ranks of an allreduce must have
    the same expressions, so that they get the same bits. Raises ScheduleError if the collective is unknown.
    """
    _Results(schedule, known, outcomes, fail).check()


class _Results:
    """The outcomes of all ranks beside the meaning of a collective."""

    def __init__(
        self, schedule: Schedule, known: Expressions, outcomes: Sequence[Outcome], fail: Callable[[int, str], Error]
    ) -> None:
        self.schedule, self.known, self.outcomes, self.fail = schedule, known, outcomes, fail

    def check(self) -> None:
        check = getattr(self, f"_result_{self.schedule.collective}", None)
        if check is None:
            raise ScheduleError(f"unknown collective {self.schedule.collective!r}")
        for rank, outcome in enumerate(self.outcomes):
            check(rank, outcome.found)
        if self.schedule.collective == "allreduce":
            first = self.outcomes[0].found
            for rank, outcome in enumerate(self.outcomes):
                differ = np.flatnonzero(outcome.found != first)
                if len(differ):
                    raise self.fail(rank, f"combines block {differ[0]} in another order than rank 0: bits may differ")

    def _loads(self, rank: int, count: int) -> None:
        if self.outcomes[rank].loads != count:
            raise self.fail(rank, f"loads {self.outcomes[rank].loads} blocks, needs {count}")

    def _expect(self, rank: int, found: IntArray, want: IntArray) -> None:
        if len(found) != len(want):
            raise self.fail(rank, f"stores {len(found)} blocks, needs {len(want)}")
        for i in np.flatnonzero(found != want)[:1]:
            raise self.fail(rank, f"output {i} is {self.known.name(found[i])}, needs {self.known.name(want[i])}")

    def _expect_sum(self, rank: int, found: IntArray, blocks: Sequence[int], ranks: int | None = None) -> None:
        """Expect the sum of ``blocks`` over the first ``ranks`` ranks; None: over all."""
        if len(found) != len(blocks):
            raise self.fail(rank, f"stores {len(found)} blocks, needs {len(blocks)}")
        known, everybody = self.known, (1 << (self.schedule.size if ranks is None else ranks)) - 1
        of = "all ranks" if ranks is None else f"ranks 0 to {ranks - 1}"
        expressions, holds = np.divmod(found, known.nblocks)
        for i in np.flatnonzero((found == NOTHING) | (holds != np.asarray(blocks, np.int64)))[:1]:
            raise self.fail(rank, f"output {i} is {known.name(found[i])}, needs block {blocks[i]} of {of}")
        for i, x in enumerate(expressions.tolist()):
            if known.ranks[x] != everybody:
                raise self.fail(rank, f"output {i} is {known.name(found[i])}, needs block {blocks[i]} of {of}")
            if self.schedule.in_order and not known.ordered[x]:
                raise self.fail(rank, f"output {i} is not combined in the order of ranks")

    def _of_every_rank(self, block: int) -> IntArray:
        """The values of the slots of ``block``, of one rank after the other."""
        pieces = self.schedule.pieces
        of_rank = np.arange(self.schedule.size)[:, None] * self.known.nblocks
        return np.asarray(of_rank + np.arange(block * pieces, (block + 1) * pieces), np.int64).reshape(-1)

    def _result_allgather(self, rank: int, found: IntArray) -> None:
        self._loads(rank, self.schedule.pieces)
        self._expect(rank, found, self._of_every_rank(0))

    def _result_alltoall(self, rank: int, found: IntArray) -> None:
        self._loads(rank, self.schedule.size)
        self._expect(rank, found, self._of_every_rank(rank))

    def _result_allreduce(self, rank: int, found: IntArray) -> None:
        self._loads(rank, self.outcomes[0].loads)
        self._expect_sum(rank, found, range(self.outcomes[0].loads))

    def _result_reduce_scatter(self, rank: int, found: IntArray) -> None:
        pieces = self.schedule.pieces
        self._loads(rank, self.schedule.size * pieces)
        self._expect_sum(rank, found, range(rank * pieces, (rank + 1) * pieces))

    _result_reduce_scatter_block = _result_reduce_scatter

    def _result_bcast(self, rank: int, found: IntArray) -> None:
        root = self.schedule.root
        blocks = self.outcomes[root].loads
        self._loads(rank, blocks if rank == root else 0)
        self._expect(rank, found, self.known.leaves(root, blocks))

    def _result_reduce(self, rank: int, found: IntArray) -> None:
        blocks = self.outcomes[0].loads
        self._loads(rank, blocks)
        self._expect_sum(rank, found, range(blocks) if rank == self.schedule.root else ())

    def _result_scan(self, rank: int, found: IntArray) -> None:
        self._loads(rank, 1)
        self._expect_sum(rank, found, range(1), rank + 1)

    def _result_exscan(self, rank: int, found: IntArray) -> None:
        self._loads(rank, 1)
        self._expect_sum(rank, found, range(1 if rank else 0), rank)

    def _result_gather(self, rank: int, found: IntArray) -> None:
        self._loads(rank, 1)
        at_root = rank == self.schedule.root
        self._expect(rank, found, self._of_every_rank(0)[: self.schedule.size if at_root else 0])

    def _result_scatter(self, rank: int, found: IntArray) -> None:
        root = self.schedule.root
        self._loads(rank, self.schedule.size if rank == root else 0)
        self._expect(rank, found, self._of_every_rank(rank)[root : root + 1])

    def _result_barrier(self, rank: int, found: IntArray) -> None:
        missing = ~self.outcomes[rank].heard & ((1 << self.schedule.size) - 1)
        if missing:
            late = (missing & -missing).bit_length() - 1
            raise self.fail(rank, f"may leave the barrier before rank {late} has arrived")
