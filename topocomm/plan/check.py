"""Check a program once, when it is loaded, so that an engine can run it without looking again."""

from __future__ import annotations

import numpy as np

from topocomm.errors import ProgramError
from topocomm.plan.program import (
    CODE,
    CODES,
    COPY,
    COUNT,
    FENCE,
    LAND,
    LENGTH,
    LOOP,
    MODULUS,
    RECV,
    REDUCE,
    ROLE,
    SEND,
    SEND_ROLE,
    SENT,
    SOURCE,
    START,
    WAIT,
    Program,
)

__all__ = ["MOST_MESSAGES", "MOST_SLOTS", "check"]

MOST_SLOTS = 1 << 26
"""Slots of a program that is loaded; engines have a number for each."""
MOST_MESSAGES = 1 << 22
"""Messages of a program that is loaded, loops written out, each counted as often as a step names it."""


def check(program: Program) -> None:
    """Raise ProgramError if the program reaches outside its memory, misnumbers a message, or leaves one behind.

    What is checked is what an engine needs to run it without looking again: not that the result is right, which is
    for :func:`topocomm.plan.prove.prove`.
    """
    _check_shape(program)
    _check_runs(program)
    _check_order(program)


def _fail(program: Program, step: int, text: str) -> ProgramError:
    at = f"program of rank {program.rank} of {program.size}, step {step} ({program.line(step)})"
    return ProgramError(f"{at}: {text}")


def _check_shape(program: Program) -> None:
    if not 0 <= program.rank < program.size:
        raise ProgramError(f"a program of rank {program.rank} of {program.size}")
    if program.pieces < 1 or program.nslots < 0 or program.nslots % program.pieces:
        raise ProgramError(f"a program of {program.nslots} slots, {program.pieces} a block")
    if program.nslots > MOST_SLOTS:
        raise ProgramError(f"a program of {program.nslots} slots; at most {MOST_SLOTS} can be loaded")
    for slots in (*program.layout, program.vector):
        if len(slots) and not (int(slots.min()) >= 0 and int(slots.max()) < program.nslots):
            raise ProgramError(f"a program with a slot that is none of {program.nslots}")
    if not len(program.steps) or program.steps[-1, CODE] != FENCE:
        raise ProgramError("a program that does not end with a fence")


def _check_runs(program: Program) -> None:
    room = np.array([len(slots) for slots in program.layout], np.int64)
    runs = program.runs.astype(np.int64)
    if len(runs) and not ((runs[:, ROLE] >= 0) & (runs[:, ROLE] < 3)).all():
        raise ProgramError("a run with an unknown role")
    start, length, modulus = runs[:, START], runs[:, LENGTH], runs[:, MODULUS]
    end = np.where(modulus > 0, np.maximum(start, modulus - 1) + 1, start + length)  # wherever a loop moves it
    moving = modulus > 0
    wrong = (start < 0) | (length < 0) | (modulus < 0) | (end > room[runs[:, ROLE]]) | (moving & (length != 1))
    if wrong.any():
        raise ProgramError(f"run {int(np.flatnonzero(wrong)[0])} reaches outside its memory")


def _check_order(program: Program) -> None:
    state = _Messages()
    rows, i = program.steps.tolist(), 0
    while i < len(rows):
        row = rows[i]
        if row[CODE] == LOOP:
            _check_loop(program, i, rows)
            for inner in range(i + 1, i + 1 + row[SOURCE]):
                _check_step(program, inner, rows[inner], row[COUNT], state)
            i += row[SOURCE]
        else:
            _check_step(program, i, row, 1, state)
        i += 1
    left = [f"{peer}#{n}" for peer, n in sorted(state.landed - state.taken)]
    if left:
        raise _fail(program, len(rows) - 1, f"what landed of {', '.join(left[:4])} is never taken")


def _check_loop(program: Program, i: int, rows: list[list[int]]) -> None:
    count, body = rows[i][COUNT], rows[i][SOURCE]
    if count < 1 or body < 1 or i + body >= len(rows):
        raise _fail(program, i, f"a loop of {count} × {body} steps; {len(rows) - i - 1} follow")
    inner = [row[CODE] for row in rows[i + 1 : i + 1 + body]]
    if LOOP in inner or FENCE in inner:
        raise _fail(program, i, "a loop with a loop or a fence in it")


def _check_step(program: Program, i: int, row: list[int], times: int, state: _Messages) -> None:
    code, peer, message, count, first, length, source, flags = row
    if code not in CODES or code == LOOP:
        raise _fail(program, i, f"code {code} is none")
    if min(first, length, count) < 0 or first + length > len(program.runs):
        raise _fail(program, i, f"runs {first} to {first + length}; there are {len(program.runs)}")
    if code == COPY and source >= 0 and source + length > len(program.runs):
        raise _fail(program, i, f"runs {source} to {source + length}; there are {len(program.runs)}")
    targets = program.runs[first : first + length]
    writes = code in (COPY, REDUCE) or (code == RECV and not flags & LAND)
    if writes and (targets[:, ROLE] == SEND_ROLE).any():
        raise _fail(program, i, "writes to the caller's send buffer")
    if code == COPY and source >= 0:
        of_source = program.runs[source : source + length]
        if (targets[:, LENGTH] != of_source[:, LENGTH]).any():
            raise _fail(program, i, "copies runs of other lengths")
        return
    if code == FENCE:
        return
    if not 0 <= peer < program.size or peer == program.rank or message < 0:
        raise _fail(program, i, f"message {message} of rank {peer}")
    blocks = int(targets[:, LENGTH].sum()) if len(targets) else 0
    problem = state.apply(code, peer, message, count, times, flags, blocks)
    if problem:
        raise _fail(program, i, f"{CODES[code]} {peer}#{message}: {problem}")


class _Messages:
    """The messages of a program so far: posted, waited for, landed and taken."""

    def __init__(self) -> None:
        self.sent: dict[int, int] = {}
        self.posted: dict[int, int] = {}
        self.blocks: dict[tuple[int, int], int] = {}
        self.waited: set[tuple[int, int]] = set()
        self.sent_waited: set[tuple[int, int]] = set()
        self.landed: set[tuple[int, int]] = set()
        self.taken: set[tuple[int, int]] = set()
        self.named = 0

    def apply(self, code: int, peer: int, message: int, count: int, times: int, flags: int, blocks: int) -> str:
        """Take a step's ``times`` repetitions into account; say what is wrong with it, or nothing."""
        numbers = range(message, message + times + (count - 1 if code == WAIT else 0))
        self.named += len(numbers)
        if self.named > MOST_MESSAGES:
            return f"more than {MOST_MESSAGES} messages, which cannot be loaded"
        if code in (SEND, RECV):
            known = self.sent if code == SEND else self.posted
            if message != known.get(peer, 0):
                return f"message {known.get(peer, 0)} is the next"
            known[peer] = message + times
            if code == RECV:
                self.blocks.update(dict.fromkeys(((peer, n) for n in numbers), blocks))
                if flags & LAND:
                    self.landed.update((peer, n) for n in numbers)
            return ""
        if code == WAIT:
            return self._wait(peer, numbers, flags)
        every = {(peer, n) for n in numbers}
        if not every <= self.landed or every & self.taken:
            return "it does not land, or was taken already"
        if not every <= self.waited:
            return "taken before it was waited for"
        if any(self.blocks[key] != blocks for key in every):
            return f"{blocks} blocks are not as many as the message has"
        self.taken |= every
        return ""

    def _wait(self, peer: int, numbers: range, flags: int) -> str:
        known, done = (self.sent, self.sent_waited) if flags & SENT else (self.posted, self.waited)
        if not numbers or numbers.stop > known.get(peer, 0):
            return f"{known.get(peer, 0)} messages are under way"
        done.update((peer, n) for n in numbers)
        return ""
