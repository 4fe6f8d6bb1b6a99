"""All ranks' programs in symbolic execution, one event at a time: a step of a rank, or the arrival of a message."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from topocomm.arrays import IntArray
from topocomm.collectives import find_collective
from topocomm.errors import ProgramError, ScheduleError
from topocomm.plan.cells import Numbering, Operation
from topocomm.plan.discipline import Discipline
from topocomm.plan.program import BEFORE, COPY, FENCE, LAND, RECV, REDUCE, SEND, SENT, WAIT, Program
from topocomm.schedule.proving import NOTHING, Expressions, Outcome
from topocomm.schedule.rounds import Schedule

__all__ = ["Execution", "Group", "Message", "run_at_once"]

Message: TypeAlias = tuple[int, int, int]
"""Sender, receiver and number."""


class Group:
    """All ranks' programs, and what they are to compute. Not changed by running it."""

    def __init__(self, programs: Sequence[Program], schedule: Schedule) -> None:
        """Number the memory of every rank. Raises ProgramError if programs, schedule and buffers do not fit."""
        self.programs, self.schedule = programs, schedule
        facts = [(r, schedule.size, schedule.pieces, schedule.nslots) for r in range(schedule.size)]
        if [(p.rank, p.size, p.pieces, p.nslots) for p in programs] != facts:
            raise ProgramError(f"{self.name}: the programs are not those of ranks 0 to {schedule.size - 1}, in order")
        self.memories = [Numbering(p) for p in programs]
        inputs = max(1, *(len(p.layout[0]) for p in programs))
        self.expressions = Expressions(schedule.size, inputs)
        self.classes = [self._classes(memory, inputs) for memory in self.memories]

    @property
    def name(self) -> str:
        """Collective, algorithm and ranks: the beginning of messages."""
        return f"{self.schedule.collective} {self.schedule.algorithm}, {self.schedule.size} ranks"

    def fail(self, rank: int, text: str, op: Operation | None = None) -> ProgramError:
        """Return the error that names rank, step and its text."""
        at = ""
        if op is not None:
            again = f", repetition {op.turn}" if op.turn else ""
            at = f", step {op.row}{again} ({self.programs[rank].line(op.row)})"
        return ProgramError(f"{self.name}: rank {rank}{at}: {text}")

    def _classes(self, memory: Numbering, inputs: int) -> IntArray:
        """Return for every cell the number of its size: that of its block in a table, or of its piece of a block."""
        program, collective = memory.program, find_collective(self.schedule.collective)
        piece = np.arange(program.nslots, dtype=np.int64) % program.pieces
        if collective.equal_slots and (collective.prefix or not collective.reduces):
            number, period = piece, program.pieces
        else:
            number, period = np.full(program.nslots, NOTHING, np.int64), inputs
            number[program.vector] = np.arange(len(program.vector))
            if (
                len(program.vector) != (inputs if program.nslots else 0)
                or (piece[program.vector] != np.arange(len(program.vector)) % program.pieces).any()
            ):
                raise self.fail(program.rank, f"its vector has {len(program.vector)} slots, not the {inputs} blocks")
        self._check_caller(program, number, period)
        return memory.per_cell(number)

    def _check_caller(self, program: Program, number: IntArray, period: int) -> None:
        """Raise ProgramError if the caller's buffers do not hold the blocks in order, each of its size."""
        send, recv, scratch = (number[slots] for slots in program.layout)
        first = program.rank * program.pieces if self.schedule.collective.startswith("reduce_scatter") else 0
        for role, found, start in (("send", send, 0), ("recv", recv, first)):
            wrong = np.flatnonzero(found != (start + np.arange(len(found))) % period)
            if len(wrong):
                raise self.fail(program.rank, f"{role}[{wrong[0]}] has not the size of block {start + wrong[0]}")
        if (scratch == NOTHING).any():
            raise self.fail(program.rank, f"scratch[{np.argmin(scratch)}] has no size")


class Operations(Protocol):
    """The operations of a program, by number; beyond the end there is none."""

    def __getitem__(self, number: int, /) -> Operation | None: ...


class Execution:
    """Where every rank is, what its memory holds, and which messages are under way."""

    def __init__(self, group: Group, steps: Sequence[Operations]) -> None:
        self.group, self.steps = group, steps
        size = len(group.programs)
        self.at = [0] * size
        self.values = [np.full(memory.cells, NOTHING, np.int64) for memory in group.memories]
        for rank, memory in enumerate(group.memories):
            self.values[rank][memory.inputs] = group.expressions.leaves(rank, len(group.programs[rank].layout[0]))
        self.sent: dict[Message, tuple[Operation, int]] = {}
        self.posted: dict[Message, Operation] = {}
        self.arrived: set[Message] = set()
        self.landings: dict[Message, IntArray] = {}
        self.open = [0] * size
        self.heard = [1 << rank for rank in range(size)]
        self.news: list[dict[Message, int]] = [{} for _ in range(size)]
        self.blocks = 0

    def current(self, rank: int) -> Operation | None:
        """Return the next step of a rank; None at its end."""
        return self.steps[rank][self.at[rank]]

    def can_run(self, rank: int, op: Operation) -> bool:
        """Tell whether the next step of ``rank``, ``op``, waits for nothing."""
        if op.code == WAIT:
            return all(message in self.arrived for message in _waited_for(rank, op))
        return op.code != FENCE or self.open[rank] == 0

    def step(self, rank: int, op: Operation) -> Message | None:
        """Run the next step of ``rank``, ``op``; return the message that can arrive from now on, if there is one."""
        self.at[rank] += 1
        if op.code == SEND:
            message = rank, op.peer, op.message
            self.sent[message] = op, self.heard[rank]
            self.open[rank] += 1
            return message if message in self.posted else None
        if op.code == RECV:
            message = op.peer, rank, op.message
            self.posted[message] = op
            self.open[rank] += 1
            return message if message in self.sent else None
        if op.code == COPY:
            content = self._landing(rank, op) if op.source is None else self.values[rank][op.source].copy()
            self.values[rank][op.cells] = content
        elif op.code == REDUCE:
            self._reduce(rank, op)
        else:
            self._hear(rank, op)
        return None

    def _landing(self, rank: int, op: Operation) -> IntArray:
        content = self.landings.pop((op.peer, rank, op.message), None)
        if content is None:
            raise self.group.fail(rank, "nothing has landed", op)
        return content

    def _reduce(self, rank: int, op: Operation) -> None:
        content, held = self._landing(rank, op), self.values[rank][op.cells]
        left, right = (content, held) if op.flags & BEFORE else (held, content)
        try:
            self.values[rank][op.cells] = self.group.expressions.combine(left, right)
        except ScheduleError as e:
            raise self.group.fail(rank, str(e), op) from None

    def _hear(self, rank: int, op: Operation) -> None:
        """After a wait a rank knows of whose arrival the sender knew when it sent."""
        news = self.news[rank]
        messages = list(news) if op.code == FENCE else [] if op.flags & SENT else _waited_for(rank, op)
        for message in messages:
            self.heard[rank] |= news.pop(message, 0)

    def deliver(self, message: Message) -> None:
        """Let a message arrive that is sent and expected: now its source is read, and its target written."""
        sender, receiver, _ = message
        (sent, heard), posted = self.sent.pop(message), self.posted.pop(message)
        self._check_match(message, sent, posted)
        content = self.values[sender][sent.cells].copy()
        if posted.flags & LAND:
            self.landings[message] = content
        else:
            self.values[receiver][posted.cells] = content
        self.blocks += len(content)
        self.arrived.add(message)
        self.news[receiver][message] = heard
        self.open[sender] -= 1
        self.open[receiver] -= 1

    def _check_match(self, message: Message, sent: Operation, posted: Operation) -> None:
        sender, receiver, _ = message
        a, b = self.group.classes[sender][sent.cells], self.group.classes[receiver][posted.cells]
        if len(a) != len(b):
            raise self.group.fail(receiver, f"rank {sender} sends {len(a)} blocks in its step {sent.row}", posted)
        if a.tobytes() != b.tobytes():
            raise self.group.fail(receiver, f"rank {sender} sends blocks of other sizes in its step {sent.row}", posted)

    def stuck(self) -> ProgramError | None:
        """Return the error of the first rank that has not ended; call it when nothing can happen any more."""
        for rank in range(len(self.at)):
            op = self.current(rank)
            if op is not None:
                return self.group.fail(rank, f"waits for ever: {self._missing(rank, op)}", op)
        return None

    def _missing(self, rank: int, op: Operation) -> str:
        under_way = (m for m in (*self.sent, *self.posted) if rank in m[:2])
        message = next((m for m in under_way if op.code == FENCE or m in _waited_for(rank, op)), None)
        if message is None:
            return "nothing is under way"
        sender, receiver, number = message
        peer, verb = (sender, "sent") if rank == receiver else (receiver, "expected")
        other = self.current(peer)
        at = "has ended" if other is None else f"is at step {other.row} ({self.group.programs[peer].line(other.row)})"
        return f"message {number} is not {verb} by rank {peer}, which {at}"

    def outcome(self, rank: int) -> Outcome:
        """Return what a rank has in the end."""
        memory = self.group.memories[rank]
        return Outcome(len(memory.program.layout[0]), self.values[rank][memory.outputs], self.heard[rank])


def _waited_for(rank: int, op: Operation) -> list[Message]:
    numbers = range(op.message, op.message + op.count)
    return [(rank, op.peer, n) if op.flags & SENT else (op.peer, rank, n) for n in numbers]


class _Once:
    """The operations of a program, made one after the other: number i can be read until i + 1 is."""

    def __init__(self, operations: Iterator[Operation]) -> None:
        self.operations, self.number = operations, 0
        self.operation = next(operations, None)

    def __getitem__(self, number: int, /) -> Operation | None:
        if number > self.number:
            self.number, self.operation = number, next(self.operations, None)
        return self.operation


def run_at_once(group: Group) -> Execution:
    """Run all programs; every message arrives as soon as it can, and every step is held to the discipline.

    Raises ProgramError for the first fault.
    """
    execution = Execution(group, [_Once(memory.operations()) for memory in group.memories])
    disciplines = [Discipline(memory, classes) for memory, classes in zip(group.memories, group.classes, strict=True)]
    ready = deque(range(len(group.programs)))
    while ready:
        rank = ready.popleft()
        while (op := execution.current(rank)) is not None and execution.can_run(rank, op):
            problem = disciplines[rank].apply(op)
            if problem:
                raise group.fail(rank, problem, op)
            message = execution.step(rank, op)
            if message is not None:
                execution.deliver(message)
                ready.append(op.peer)
    error = execution.stuck()
    if error is not None:
        raise error
    return execution
