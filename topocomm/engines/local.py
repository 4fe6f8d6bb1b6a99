"""Engine ``local``: all ranks in one process on NumPy arrays. For tests, demos and understanding; no MPI."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from topocomm.arrays import Bytes, IntArray
from topocomm.collectives import COLLECTIVES
from topocomm.engines.walk import Combine, Loaded, walk
from topocomm.errors import BufferError, ScheduleError
from topocomm.plan.bind import bind
from topocomm.plan.program import Program
from topocomm.schedule import Schedule
from topocomm.schedule.blocks import block_cuts

__all__ = ["run", "run_programs"]

Array: TypeAlias = npt.NDArray[np.generic]
Operation: TypeAlias = Callable[[Array, Array], Array]


class _Mail:
    """Messages on their way, and how many have been sent and received so far."""

    def __init__(self) -> None:
        self.boxes: dict[tuple[int, int], deque[Bytes]] = defaultdict(deque)
        self.events = 0


class _Port:
    """One rank's port: what it sends is copied at once, what it expects is fetched when it is waited for."""

    def __init__(self, mail: _Mail, rank: int) -> None:
        self.mail, self.rank = mail, rank
        self.expected: dict[int, deque[tuple[int, Bytes]]] = defaultdict(deque)

    def send(self, peer: int, number: int, data: Bytes) -> None:
        self.mail.boxes[self.rank, peer].append(data.copy())
        self.mail.events += 1

    def expect(self, peer: int, number: int, data: Bytes) -> None:
        self.expected[peer].append((number, data))

    def arrived(self, peer: int, number: int) -> bool:
        posted, box = self.expected[peer], self.mail.boxes[peer, self.rank]
        while posted and posted[0][0] <= number:
            if not box:
                return False
            (_, into), data = posted.popleft(), box.popleft()
            if len(into) != len(data):
                raise ScheduleError(f"rank {self.rank} expects {len(into)} bytes of {peer}, which sends {len(data)}")
            into[:] = data
            self.mail.events += 1
        return True

    def sent(self, peer: int, number: int) -> bool:
        return True

    def exchange(self, to: int, number: int, data: Bytes, source: int, expected: int, into: Bytes) -> bool:
        return False

    def fence(self) -> bool:
        return all(self.arrived(peer, posted[-1][0]) for peer, posted in self.expected.items() if posted)


def _combine(dtype: np.dtype[np.generic], op: Operation) -> Combine:
    def combine(landed: Bytes, held: Bytes, before: bool) -> None:
        a, b = landed.view(dtype), held.view(dtype)
        b[:] = op(a, b) if before else op(b, a)

    return combine


def run(schedule: Schedule, inputs: Sequence[Array], op: Operation = np.add) -> list[Array]:
    """Run ``schedule`` for all ranks and return every rank's output.

    Parameters
    ----------
    inputs
        Input of every rank, one-dimensional, all of one dtype: the blocks one after the other. Empty at ranks that
        have none.
    op
        The reduction operation, elementwise; combined as op(earlier, later).

    Returns
    -------
    list of arrays
        Output of every rank, the blocks one after the other; empty at ranks that have none.

    Raises
    ------
    BufferError
        If the inputs do not fit the schedule.
    ScheduleError
        If the ranks wait for each other for ever.
    """
    return run_programs(schedule, _programs(schedule), inputs, op)


@lru_cache(maxsize=4)
def _programs(schedule: Schedule) -> tuple[Program, ...]:
    return tuple(bind(schedule, r) for r in range(schedule.size))


def run_programs(
    schedule: Schedule, programs: Sequence[Program], inputs: Sequence[Array], op: Operation = np.add
) -> list[Array]:
    """Run the programs of all ranks, bound from ``schedule``; else as :func:`run`."""
    dtype = np.dtype(next(a.dtype for a in inputs))
    counts, mail = _counts(schedule, inputs), _Mail()
    outputs, walks = [], []
    for r, program in enumerate(programs):
        loaded = Loaded(program)
        sized = loaded.size(counts, dtype.itemsize)
        out = np.empty(_out_count(schedule, r, counts), dtype)
        scratch, own = (np.empty(n, np.uint8) for n in (sized.scratch_bytes, sized.own_bytes))
        regions = np.ascontiguousarray(inputs[r]).view(np.uint8).reshape(-1), out.view(np.uint8), scratch, own
        outputs.append(out)
        walks.append(walk(sized, regions, _Port(mail, r), _combine(dtype, op)))
    _run_all(walks, mail, schedule)
    return outputs


def _run_all(walks: list[Generator[None, None, None]], mail: _Mail, schedule: Schedule) -> None:
    waiting = dict(enumerate(walks))
    while waiting:
        before = mail.events, len(waiting)
        for rank, program in list(waiting.items()):
            if next(program, True):
                del waiting[rank]
        if before == (mail.events, len(waiting)):
            raise ScheduleError(f"{schedule.collective} {schedule.algorithm}: ranks {sorted(waiting)} wait for ever")


def _counts(schedule: Schedule, inputs: Sequence[Array]) -> int | IntArray:
    if len(inputs) != schedule.size:
        raise BufferError(f"{len(inputs)} inputs for {schedule.size} ranks; give one a rank")
    blocks = [len(schedule.part(r).load) // schedule.pieces for r in range(schedule.size)]
    for r, (n, a) in enumerate(zip(blocks, inputs, strict=True)):
        if n == 0 and len(a):
            raise BufferError(f"rank {r} has {len(a)} input elements, but takes no input")
    lengths = {len(a) for n, a in zip(blocks, inputs, strict=True) if n}
    if len(lengths) > 1:
        raise BufferError(f"inputs must have one length, found {sorted(lengths)}")
    length = lengths.pop() if lengths else 0
    nblocks = max(blocks, default=0)
    collective = COLLECTIVES[schedule.collective]
    if collective.prefix:  # every slot is as long
        return length
    if collective.blocks and not collective.reduces:
        if nblocks and length % nblocks:
            raise BufferError(f"{schedule.collective} needs a multiple of {nblocks} elements, found {length}")
        return length // max(nblocks, 1)
    return np.diff(block_cuts(length, nblocks))


def _out_count(schedule: Schedule, rank: int, counts: int | IntArray) -> int:
    stored = len(schedule.part(rank).store) // schedule.pieces
    if isinstance(counts, int):
        return stored * counts
    if schedule.collective.startswith("reduce_scatter"):
        return int(counts[rank])
    return int(counts.sum()) if stored else 0
