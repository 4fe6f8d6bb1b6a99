"""Small programs written by hand, and mutants of programs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from topocomm.errors import ProgramError
from topocomm.plan.program import (
    BEFORE,
    CODE,
    COPY,
    COUNT,
    FIRST,
    FLAGS,
    LAND,
    LENGTH,
    LOOP,
    MESSAGE,
    MODULUS,
    PEER,
    RECV,
    REDUCE,
    ROLE,
    RUNS,
    SEND,
    SENT,
    SOURCE,
    START,
    STRIDE,
    WAIT,
    Program,
)

Programs = list[Program]
Run = tuple[int, int, int]


class Writer:
    """Writes one rank's program step by step: ``writer.send(1, 0, run).recv(...)``. A run is (role, start, length)."""

    def __init__(
        self, rank: int, size: int, layout: Sequence[Sequence[int]], nslots: int, in_place: bool = False
    ) -> None:
        self.rank, self.size, self.layout, self.nslots, self.in_place = rank, size, layout, nslots, in_place
        self.rows: list[list[int]] = []
        self.runs: list[tuple[int, ...]] = []

    def step(self, code, peer=0, message=0, count=0, runs=(), source=0, flags=0) -> Writer:
        self.rows.append([code, peer, message, count, self._add(runs), len(runs), source, flags])
        return self

    def _add(self, runs) -> int:
        self.runs += [(*run, 0, 0)[:5] for run in runs]
        return len(self.runs) - len(runs)

    def send(self, peer, message, *runs) -> Writer:
        return self.step(SEND, peer, message, runs=runs)

    def recv(self, peer, message, *runs, flags=0) -> Writer:
        return self.step(RECV, peer, message, runs=runs, flags=flags)

    def land(self, peer, message, *runs) -> Writer:
        return self.recv(peer, message, *runs, flags=LAND)

    def arrived(self, peer, message, count=1) -> Writer:
        return self.step(WAIT, peer, message, count)

    def sent(self, peer, message, count=1) -> Writer:
        return self.step(WAIT, peer, message, count, flags=SENT)

    def copy(self, target, source, times=1) -> Writer:
        return self.step(COPY, runs=[target] * times, source=self._add([source] * times))

    def take(self, peer, message, *runs) -> Writer:
        return self.step(COPY, peer, message, runs=runs, source=-1)

    def reduce(self, peer, message, *runs, flags=0) -> Writer:
        return self.step(REDUCE, peer, message, runs=runs, flags=flags)

    def loop(self, times, steps) -> Writer:
        return self.step(LOOP, count=times, source=steps)

    def end(self) -> Program:
        self.step(6)
        arrays = [np.array(slots, np.int32) for slots in self.layout]
        longer = max(arrays[:2], key=len)
        steps, runs = np.array(self.rows, np.int32), np.array(self.runs, np.int32).reshape(-1, 5)
        return Program(self.rank, self.size, steps, runs, (*arrays,), self.nslots, 1, longer, self.in_place)


# -- mutants -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """Programs of which one has one fault, and a description of the fault."""

    kind: str
    what: str
    programs: Programs


Rows = list[list[int]]
Mutation = Callable[[Program, random.Random], "tuple[Program, str] | None"]


def loop_of(rows: Rows, i: int) -> int | None:
    """The loop in whose body step ``i`` is."""
    loops = [k for k, row in enumerate(rows[:i]) if row[CODE] == LOOP and i <= k + row[SOURCE]]
    return loops[0] if loops else None


def rebuilt(program: Program, rows: Rows) -> Program:
    return replace(program, steps=np.array(rows, np.int32).reshape(-1, 8))


def without(rows: Rows, i: int) -> Rows:
    """The steps without step ``i``; a loop around it gets shorter."""
    out, loop = [list(row) for row in rows], loop_of(rows, i)
    if loop is not None:
        out[loop][SOURCE] -= 1
    del out[i]
    return [row for k, row in enumerate(out) if k != loop or row[SOURCE]]


def moved(rows: Rows, i: int, to: int) -> Rows:
    out = [list(row) for row in rows]
    out.insert(to, out.pop(i))
    return out


def pick(program: Program, rng: random.Random, *codes: int) -> int | None:
    among = [i for i, row in enumerate(program.steps.tolist()) if row[CODE] in codes]
    return rng.choice(among) if among else None


def drop(*codes: int) -> Mutation:
    def mutate(program, rng):
        i = pick(program, rng, *codes)
        return None if i is None else (rebuilt(program, without(program.steps.tolist(), i)), program.line(i))

    return mutate


def move_wait(direction: int) -> Mutation:
    """A WAIT earlier or later, within its loop or outside of loops."""

    def mutate(program, rng):
        rows = program.steps.tolist()
        i = pick(program, rng, WAIT)
        if i is None:
            return None
        alike = [
            k
            for k in range(len(rows) - 1)
            if loop_of(rows, k) == loop_of(rows, i) and (k - i) * direction > 0 and rows[k][CODE] != LOOP
        ]
        if not alike:
            return None
        to = rng.choice(sorted(alike, key=lambda k: abs(k - i))[:6])
        return rebuilt(program, moved(rows, i, to)), f"{program.line(i)} at {i} to {to}"

    return mutate


def swap_steps(program, rng):
    rows = program.steps.tolist()
    among = [
        i
        for i in range(len(rows) - 2)
        if loop_of(rows, i) == loop_of(rows, i + 1) and LOOP not in (rows[i][CODE], rows[i + 1][CODE])
    ]
    if not among:
        return None
    i = rng.choice(among)
    return rebuilt(program, moved(rows, i, i + 1)), f"{i} and the next"


def duplicate(program, rng):
    rows = program.steps.tolist()
    i = rng.randrange(len(rows))
    loop = loop_of(rows, i)
    if loop is not None:
        rows[loop][SOURCE] += 1
    return rebuilt(program, [*rows[: i + 1], rows[i], *rows[i + 1 :]]), program.line(i)


def swap_columns(columns: tuple[int, ...], *codes: int) -> Mutation:
    """Two steps of one kind get each other's message, or landing, or operands."""

    def mutate(program, rng):
        rows = program.steps.tolist()
        code = rng.choice(codes)
        among = [
            (i, k)
            for i, a in enumerate(rows)
            for k, b in enumerate(rows[:i])
            if a[CODE] == b[CODE] == code and [a[c] for c in columns] != [b[c] for c in columns]
        ]
        if not among:
            return None
        i, k = rng.choice(among)
        for c in columns:
            rows[i][c], rows[k][c] = rows[k][c], rows[i][c]
        return rebuilt(program, rows), f"{program.line(k)} with {program.line(i)}"

    return mutate


def set_column(column: int, change: Callable[[int, Program, random.Random], int], *codes: int) -> Mutation:
    def mutate(program, rng):
        i = pick(program, rng, *codes)
        if i is None:
            return None
        rows = program.steps.tolist()
        rows[i][column] = change(rows[i][column], program, rng)
        mutant = rebuilt(program, rows)
        return mutant, f"{program.line(i)} to {mutant.line(i)}"

    return mutate


def set_run(column: int, change: Callable[[int, Program, random.Random], int], moving: bool = False) -> Mutation:
    """One run of one step changes; other steps keep theirs."""

    def mutate(program, rng):
        runs = program.runs.tolist()
        rows = [row for row in program.steps.tolist() if row[RUNS]]
        among = [
            (i, column_of, k)
            for i, row in enumerate(program.steps.tolist())
            for column_of in (FIRST, SOURCE)
            if row[RUNS] and (column_of == FIRST or (row[CODE] == COPY and row[SOURCE] >= 0))
            for k in range(row[RUNS])
            if not moving or runs[row[column_of] + k][MODULUS]
        ]
        if not among:
            return None
        i, column_of, k = rng.choice(among)
        rows = program.steps.tolist()
        first, length = rows[i][column_of], rows[i][RUNS]
        own = [list(run) for run in runs[first : first + length]]
        own[k][column] = change(own[k][column], program, rng)
        rows[i][column_of] = len(runs)
        mutant = replace(rebuilt(program, rows), runs=np.array([*runs, *own], np.int32))
        return mutant, f"{i}: {program.line(i)} to {mutant.line(i)}"

    return mutate


def set_layout(program, rng):
    among = [r for r in range(3) if len(program.layout[r])]
    if not among:
        return None
    role = rng.choice(among)
    layout = [slots.copy() for slots in program.layout]
    i = rng.randrange(len(layout[role]))
    layout[role][i] = rng.randrange(-1, program.nslots + 1)
    return replace(program, layout=(*layout,)), f"slot {i} of role {role}"


def one_more_or_less(value: int, program: Program, rng: random.Random) -> int:
    return value + rng.choice((-1, 1))


def flipped(flag: int) -> Callable[[int, Program, random.Random], int]:
    return lambda value, program, rng: value ^ flag


def other_role(value: int, program: Program, rng: random.Random) -> int:
    return rng.choice([role for role in range(3) if role != value])


def other_peer(value: int, program: Program, rng: random.Random) -> int:
    return rng.choice([peer for peer in range(program.size + 1) if peer != value])


def negated(value: int, program: Program, rng: random.Random) -> int:
    return -value


def a_byte(program, rng):
    """A number of the byte form changes by a little, or to another number near by."""
    words = np.frombuffer(bytes(program), "<i4").copy()
    i = rng.randrange(len(words))
    words[i] = rng.choice((int(words[i]) ^ 1, int(words[i]) + 1, int(words[i]) - 1, rng.randrange(8)))
    try:
        return Program.from_bytes(words.tobytes()), f"word {i}"
    except ProgramError:
        return None


MUTATIONS: dict[str, Mutation] = {
    "drop a wait": drop(WAIT),
    "wait earlier": move_wait(-1),
    "wait later": move_wait(1),
    "drop a step": drop(COPY, SEND, RECV, REDUCE),
    "swap steps": swap_steps,
    "duplicate a step": duplicate,
    "swap numbers": swap_columns((MESSAGE,), SEND, RECV, WAIT),
    "swap operands": swap_columns((FIRST, RUNS), SEND, RECV, REDUCE),
    "swap landings": swap_columns((PEER, MESSAGE), REDUCE, COPY),
    "take another landing": set_column(MESSAGE, one_more_or_less, REDUCE, COPY),
    "wait for another": set_column(MESSAGE, one_more_or_less, WAIT),
    "wait for more or fewer": set_column(COUNT, one_more_or_less, WAIT),
    "wait for the other side": set_column(FLAGS, flipped(SENT), WAIT),
    "turn the order": set_column(FLAGS, flipped(BEFORE), REDUCE),
    "land or not": set_column(FLAGS, flipped(LAND), RECV),
    "reduce or copy": set_column(CODE, lambda value, program, rng: COPY + REDUCE - value, REDUCE),
    "another peer": set_column(PEER, other_peer, SEND, RECV, WAIT, REDUCE),
    "loop more or less": set_column(COUNT, one_more_or_less, LOOP),
    "loop over more or fewer steps": set_column(SOURCE, one_more_or_less, LOOP),
    "shift a run": set_run(START, one_more_or_less),
    "lengthen a run": set_run(LENGTH, one_more_or_less),
    "another role": set_run(ROLE, other_role),
    "turn a stride": set_run(STRIDE, negated, moving=True),
    "another modulus": set_run(MODULUS, one_more_or_less, moving=True),
    "another layout": set_layout,
    "another byte": a_byte,
}


def mutants(programs: Programs, each: int, seed: int) -> Iterator[Mutant]:
    """At most ``each`` mutants of every kind, in random ranks."""
    rng = random.Random(seed)
    for kind, mutate in MUTATIONS.items():
        for _ in range(each):
            rank = rng.randrange(len(programs))
            made = mutate(programs[rank], rng)
            if made is not None:
                mutated = [*programs[:rank], made[0], *programs[rank + 1 :]]
                yield Mutant(kind, f"rank {rank}: {made[1]}", mutated)
