"""Engine ``local``: all ranks in one process on NumPy arrays. For tests, demos and understanding; no MPI."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from topocomm.arrays import Bytes
from topocomm.collectives import COLLECTIVES
from topocomm.errors import BufferError, ScheduleError
from topocomm.plan import Message, Plan, PlanRound, block_cuts, make_plan
from topocomm.plan.moves import Regions
from topocomm.schedule import Combine, Schedule

__all__ = ["run"]

Array: TypeAlias = npt.NDArray[np.generic]
Operation: TypeAlias = Callable[[Array, Array], Array]


class _Mail:
    """Messages on their way, and how many have been sent and received so far."""

    def __init__(self) -> None:
        self.boxes: dict[tuple[int, int], deque[Bytes]] = defaultdict(deque)
        self.events = 0

    def send(self, source: int, target: int, content: Bytes) -> None:
        self.boxes[source, target].append(content)
        self.events += 1

    def receive(self, source: int, target: int) -> Bytes:
        self.events += 1
        return self.boxes[source, target].popleft()


def _rank_program(
    plan: Plan, rank: int, regions: Regions, mail: _Mail, dtype: np.dtype[np.generic], op: Operation
) -> Generator[None, None, None]:
    """One rank, step by step; yields while it waits for a message."""
    for move in plan.load:
        move.run(regions)
    for rnd in plan.rounds:
        for move in rnd.pack:
            move.run(regions)
        for m in rnd.sends:
            mail.send(rank, m.peer, m.view(regions).copy())
        for move in rnd.local:
            move.run(regions)
        for m in rnd.recvs:
            while not mail.boxes[m.peer, rank]:
                yield
            m.view(regions)[:] = mail.receive(m.peer, rank)
        _finish(rnd, regions, dtype, op)
    for move in plan.store:
        move.run(regions)


def _finish(rnd: PlanRound, regions: Regions, dtype: np.dtype[np.generic], op: Operation) -> None:
    for move in rnd.unpack:
        move.run(regions)
    for red in rnd.reductions:
        for move in red.gather:
            move.run(regions)
        received, held = (_typed(m, regions, dtype) for m in (red.received, red.held))
        held[:] = op(received, held) if red.order is Combine.BEFORE else op(held, received)
        for move in red.scatter:
            move.run(regions)


def _typed(message: Message, regions: Regions, dtype: np.dtype[np.generic]) -> Array:
    return message.view(regions).view(dtype)


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
    dtype = np.dtype(next(a.dtype for a in inputs))
    counts = _counts(schedule, inputs)
    mail = _Mail()
    outputs, programs = [], []
    for r in range(schedule.size):
        plan = make_plan(schedule, r, counts, dtype.itemsize)
        out = np.empty(_out_count(schedule, r, counts), dtype)
        scratch = np.empty(plan.scratch_bytes, np.uint8)
        regions = (np.ascontiguousarray(inputs[r]).view(np.uint8).reshape(-1), out.view(np.uint8), scratch)
        outputs.append(out)
        programs.append(_rank_program(plan, r, regions, mail, dtype, op))
    _run_all(programs, mail, schedule)
    return outputs


def _run_all(programs: list[Generator[None, None, None]], mail: _Mail, schedule: Schedule) -> None:
    waiting = dict(enumerate(programs))
    while waiting:
        before = mail.events, len(waiting)
        for rank, program in list(waiting.items()):
            if next(program, True):
                del waiting[rank]
        if before == (mail.events, len(waiting)):
            raise ScheduleError(f"{schedule.collective} {schedule.algorithm}: ranks {sorted(waiting)} wait for ever")


def _counts(schedule: Schedule, inputs: Sequence[Array]) -> int | npt.NDArray[np.int64]:
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
    if collective.blocks and not collective.reduces:
        if nblocks and length % nblocks:
            raise BufferError(f"{schedule.collective} needs a multiple of {nblocks} elements, found {length}")
        return length // max(nblocks, 1)
    return np.diff(block_cuts(length, nblocks))


def _out_count(schedule: Schedule, rank: int, counts: int | npt.NDArray[np.int64]) -> int:
    stored = len(schedule.part(rank).store) // schedule.pieces
    if isinstance(counts, int):
        return stored * counts
    if schedule.collective.startswith("reduce_scatter"):
        return int(counts[rank])
    return int(counts.sum()) if stored else 0
