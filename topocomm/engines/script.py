"""A program with its sizes: the script of byte offsets that :mod:`topocomm.engines.walk` follows.

A program is loaded once (:class:`Loaded`) and gets its offsets for every number of elements (:class:`Sized`). Landings,
and messages that are brought together before they are sent, lie in memory of the run's own: its region 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from topocomm.arrays import IntArray
from topocomm.engines.copying import Move, make_move
from topocomm.plan.program import (
    BEFORE,
    COPY,
    FENCE,
    LAND,
    LENGTH,
    LOOP,
    RECV,
    REDUCE,
    ROLE,
    SCRATCH_ROLE,
    SEND,
    SENT,
    START,
    WAIT,
    Program,
)

__all__ = ["EXCHANGE", "OWN", "Loaded", "Sized"]

Moves: TypeAlias = list[tuple[int, int, Move]]
"""Copies between regions: (source, target, what)."""

EXCHANGE = 100
"""A RECV, a SEND and the WAIT for what comes, as one operation of a port."""
OWN = 3
"""The region of a run's own memory."""
_ALIGN = 64


class _Op(NamedTuple):
    """A step, with its only run (role, start, length, stride, modulus) if it has just one."""

    code: int
    peer: int
    message: int
    times: int
    single: tuple[int, int, int, int, int] | None
    first: int
    runs: int
    source: int
    flags: int
    blocks: int
    body: tuple[_Op, ...] = ()


class Loaded:
    """A program prepared for the walker: its steps with their runs beside them.

    ``fused`` joins what one call of a port can do (:meth:`topocomm.engines.walk.Port.exchange`), as far as waiting
    until the end of a round allows.
    """

    def __init__(self, program: Program, fused: bool = False) -> None:
        self.program = program
        rows = program.steps.tolist()
        ops: list[_Op] = []
        i = 0
        while i < len(rows):
            row = rows[i]
            i += 1
            if row[0] == LOOP:
                body = tuple(self._op(inner) for inner in rows[i : i + row[6]])
                ops.append(_Op(LOOP, 0, 0, row[3], None, 0, 0, 0, 0, 0, _fuse(body) if fused else body))
                i += row[6]
            else:
                ops.append(self._op(row))
        self.ops = _fuse(tuple(_late(ops, _rounds(rows)))) if fused else tuple(ops)

    def _op(self, row: list[int]) -> _Op:
        code, peer, message, times, first, runs, source, flags = row
        mine = self.program.runs[first : first + runs]
        single = tuple(mine[0].tolist()) if runs == 1 and not (code == COPY and source >= 0) else None
        return _Op(code, peer, message, times, single, first, runs, source, flags, int(mine[:, LENGTH].sum()))

    def size(self, counts: int | Sequence[int] | IntArray, itemsize: int) -> Sized:
        """Bind ``counts`` elements a block (or of every block) of ``itemsize`` bytes."""
        return Sized(self, self.program.cuts(self.program.slot_bytes(counts, itemsize)))


def _rounds(rows: list[list[int]]) -> dict[tuple[bool, int, int], int]:
    """Return the round of every message outside loops: (received?, peer, number) → round."""
    return {(row[0] == RECV, row[1], row[2]): row[3] for row in rows if row[0] in (SEND, RECV)}


def _late(ops: Sequence[_Op], rounds: dict[tuple[bool, int, int], int]) -> Iterator[_Op]:
    """Post each receive as late as rounds would: with the first send of its round, or before the first wait for it."""
    held: list[_Op] = []
    for op in ops:
        if op.code == RECV:
            held.append(op)
            continue
        stays = op.code in (COPY, REDUCE)
        if op.code == WAIT and held:
            numbers = range(op.message, op.message + op.times)
            waited = max(rounds.get((not op.flags & SENT, op.peer, n), -1) for n in numbers)
            stays = all(waited < r.times for r in held)
        if not stays:
            yield from held
            held = []
        yield op
    yield from held


def _fuse(ops: tuple[_Op, ...]) -> tuple[_Op, ...]:
    """Join a RECV, a SEND and the WAIT for what comes, where they stand side by side."""
    out: list[_Op] = []
    i = 0
    while i < len(ops):
        trio = ops[i : i + 3]
        if [op.code for op in trio[:2]] == [RECV, SEND] and len(trio) == 3:
            r, _, w = trio
            ends = w.code == FENCE  # which stays
            if ends or (w.code, w.flags & SENT, w.peer, w.message, w.times) == (WAIT, 0, r.peer, r.message, 1):
                out.append(_Op(EXCHANGE, 0, 0, 0, None, 0, 0, 0, 0, 0, trio))
                i += 2 if ends else 3
                continue
        out.append(ops[i])
        i += 1
    return tuple(out)


class Sized:
    """A loaded program with the byte offsets of its positions."""

    def __init__(self, loaded: Loaded, cuts: tuple[IntArray, IntArray, IntArray]) -> None:
        self.loaded = loaded
        self.cuts = cuts
        self.scratch_bytes = int(cuts[SCRATCH_ROLE][-1])

    @property
    def own_bytes(self) -> int:
        """Memory that a run needs for landings and messages brought together."""
        return self.script[1]

    @cached_property
    def script(self) -> tuple[list[tuple[Any, ...]], int]:
        """The steps with their offsets, loops written out, and the bytes of the run's own memory."""
        return _Script(self).make()


class _Room:
    """Memory given out and taken back: the lowest free place first."""

    def __init__(self) -> None:
        self.live: list[tuple[int, int]] = []
        self.end = 0

    def take(self, nbytes: int) -> tuple[int, int]:
        """Return the place (first byte, end) of ``nbytes`` bytes."""
        at = 0
        for low, high in self.live:
            if at + nbytes <= low:
                break
            at = max(at, -(-high // _ALIGN) * _ALIGN)
        place = at, at + nbytes
        self.live.append(place)
        self.live.sort()
        self.end = max(self.end, place[1])
        return place

    def give(self, place: tuple[int, int]) -> None:
        """Take a place back."""
        self.live.remove(place)


class _Script:
    """Writes the steps of a program for its sizes. Messages without bytes are left out, on both sides alike."""

    def __init__(self, sized: Sized) -> None:
        self.program = sized.loaded.program
        self.ops, self.cuts = sized.loaded.ops, sized.cuts
        self.at = tuple(cut.tolist() for cut in sized.cuts)
        self.room = _Room()
        self.landed: dict[tuple[int, int], tuple[int, int]] = {}
        self.staged: dict[tuple[int, int], tuple[int, int]] = {}
        self.under_way: set[tuple[bool, int, int]] = set()

    def make(self) -> tuple[list[tuple[Any, ...]], int]:
        steps: list[tuple[Any, ...]] = []
        for op in self.ops:
            if op.code == LOOP:
                steps += self._loop(op)
            else:
                steps += self._write(op)
        return steps, self.room.end

    # -- operands ----------------------------------------------------------------------------------------------------

    def _table(self, first: int, runs: int) -> tuple[IntArray, IntArray, IntArray]:
        """Return role, first byte and bytes of runs."""
        table = self.program.runs[first : first + runs].astype(np.int64)
        role, start = table[:, ROLE], table[:, START]
        end = start + table[:, LENGTH]
        low, high = np.zeros(runs, np.int64), np.zeros(runs, np.int64)
        for r in range(3):
            mine = role == r
            low[mine], high[mine] = self.cuts[r][start[mine]], self.cuts[r][end[mine]]
        return role, low, high - low

    def _place(self, op: _Op) -> tuple[int, int, int]:
        """Return region, first byte and end of a step's only run."""
        assert op.single is not None
        role, start, length, _, _ = op.single
        return role, self.at[role][start], self.at[role][start + length]

    def _nbytes(self, op: _Op) -> int:
        if op.single is not None:
            _, low, high = self._place(op)
            return high - low
        return int(self._table(op.first, op.runs)[2].sum()) if op.runs else 0

    def _moves(self, op: _Op, own: int, outward: bool) -> Moves:
        """Return the copies between a step's runs and the run's own memory from byte ``own`` on."""
        role, at, sizes = self._table(op.first, op.runs)
        inside = own + np.cumsum(sizes) - sizes
        moves = []
        for r in sorted({*role.tolist()}):
            mine = role == r
            here, there, n = at[mine], inside[mine], sizes[mine]
            moves.append((OWN, r, make_move(there, here, n)) if outward else (r, OWN, make_move(here, there, n)))
        return moves

    def _copies(self, op: _Op) -> Moves:
        """Return the copies from a COPY's source runs to its target runs."""
        (role, at, sizes), (from_role, from_at, _) = self._table(op.first, op.runs), self._table(op.source, op.runs)
        moves = []
        for source, target in sorted({*zip(from_role.tolist(), role.tolist(), strict=True)}):
            mine = (from_role == source) & (role == target)
            moves.append((source, target, make_move(from_at[mine], at[mine], sizes[mine])))
        return moves

    # -- steps -------------------------------------------------------------------------------------------------------

    def _write(self, op: _Op) -> list[tuple[Any, ...]]:
        if op.code == EXCHANGE:
            return self._exchange(op)
        if op.code == FENCE:
            return [(FENCE,)]
        if op.code == COPY and op.source >= 0:
            return [(COPY, self._copies(op))]
        return {SEND: self._send, RECV: self._recv, WAIT: self._wait, COPY: self._unpack, REDUCE: self._reduce}[
            op.code
        ](op)

    def _send(self, op: _Op) -> list[tuple[Any, ...]]:
        nbytes = self._nbytes(op)
        if op.blocks and not nbytes:
            return []
        self.under_way.add((True, op.peer, op.message))
        if op.single is not None or not op.runs:
            return [(SEND, op.peer, op.message, *(self._place(op) if op.runs else (OWN, 0, 0)))]
        low, high = self.staged[op.peer, op.message] = self.room.take(nbytes)
        return [(COPY, self._moves(op, low, outward=False)), (SEND, op.peer, op.message, OWN, low, high)]

    def _recv(self, op: _Op) -> list[tuple[Any, ...]]:
        nbytes = self._nbytes(op)
        if op.blocks and not nbytes:
            return []
        self.under_way.add((False, op.peer, op.message))
        if op.flags & LAND:
            low, high = self.landed[op.peer, op.message] = self.room.take(nbytes)
            return [(RECV, op.peer, op.message, OWN, low, high)]
        return [(RECV, op.peer, op.message, *(self._place(op) if op.runs else (OWN, 0, 0)))]

    def _wait(self, op: _Op) -> list[tuple[Any, ...]]:
        sent, steps = bool(op.flags & SENT), []
        for number in range(op.message, op.message + op.times):
            if (sent, op.peer, number) in self.under_way:
                self.under_way.discard((sent, op.peer, number))
                steps.append((WAIT, op.peer, number, sent))
            if sent and (op.peer, number) in self.staged:
                self.room.give(self.staged.pop((op.peer, number)))
        return steps

    def _unpack(self, op: _Op) -> list[tuple[Any, ...]]:
        place = self.landed.pop((op.peer, op.message), None)
        if place is None:
            return []
        self.room.give(place)
        return [(COPY, self._moves(op, place[0], outward=True))]

    def _reduce(self, op: _Op) -> list[tuple[Any, ...]]:
        place = self.landed.pop((op.peer, op.message), None)
        if place is None:
            return []
        before = bool(op.flags & BEFORE)
        if op.single is not None:
            self.room.give(place)
            return [(REDUCE, *place, *self._place(op), before)]
        low, high = held = self.room.take(place[1] - place[0])
        self.room.give(place)
        self.room.give(held)
        inward, outward = self._moves(op, low, outward=False), self._moves(op, low, outward=True)
        return [(COPY, inward), (REDUCE, *place, OWN, low, high, before), (COPY, outward)]

    def _exchange(self, op: _Op) -> list[tuple[Any, ...]]:
        r, s, w = op.body
        posts, sends = self._recv(r), self._send(s)
        if not posts or not sends:
            return posts + sends + self._wait(w)
        self.under_way -= {(False, r.peer, r.message), (True, s.peer, s.message)}
        pack, send = sends[:-1], sends[-1]
        if pack:  # sent when the exchange is over
            self.room.give(self.staged.pop((s.peer, s.message)))
        return [*pack, (EXCHANGE, *send[1:], *posts[0][1:])]

    def _loop(self, op: _Op) -> list[tuple[Any, ...]]:
        """Write a loop out, one list a step of its body; each turn takes one of each."""
        flat = [inner for body in op.body for inner in (body.body if body.code == EXCHANGE else (body,))]
        landing = {}
        for inner in flat:
            if inner.code == RECV and inner.flags & LAND:
                landing[inner.peer, inner.message] = self.room.take(int(max(self._spans(inner, op.times)[2])))
        columns = [column for inner in op.body for column in self._columns(inner, op.times, landing)]
        for place in landing.values():
            self.room.give(place)
        steps = [step for turn in zip(*columns, strict=True) for step in turn if step]
        for code, *rest in steps:
            if code in (SEND, RECV):
                self.under_way.add((code == SEND, rest[0], rest[1]))
            elif code == WAIT:
                self.under_way.discard((rest[2], rest[0], rest[1]))
        return steps

    def _spans(self, op: _Op, times: int) -> tuple[list[int], list[int], list[int]]:
        """Return first byte, end and bytes of a step's run in every turn."""
        assert op.single is not None
        role, start, length, stride, modulus = op.single
        turns = np.arange(times, dtype=np.int64)
        at = (start + turns * stride) % modulus if modulus else start + turns * 0
        low, high = self.cuts[role][at], self.cuts[role][at + length]
        return low.tolist(), high.tolist(), (high - low).tolist()

    def _columns(
        self, op: _Op, times: int, landing: dict[tuple[int, int], tuple[int, int]]
    ) -> list[list[tuple[Any, ...]]]:
        """Return the columns of a step: of an exchange also the wait for what comes where nothing goes."""
        if op.code != EXCHANGE:
            return [self._column(op, times, landing)]
        pairs = list(zip(*(self._column(part, times, landing) for part in (op.body[1], op.body[0])), strict=True))
        posts = [(EXCHANGE, *out[1:], *into[1:]) if out and into else out or into for out, into in pairs]
        return [posts, [(WAIT, into[1], into[2], False) if into and not out else () for out, into in pairs]]

    def _column(self, op: _Op, times: int, landing: dict[tuple[int, int], tuple[int, int]]) -> list[tuple[Any, ...]]:
        """Return a step of a loop's body for every turn; empty where a message has no bytes."""
        if op.code == WAIT:
            sent = bool(op.flags & SENT)
            return [(WAIT, op.peer, number, sent) for number in range(op.message, op.message + times)]
        low, high, sizes = self._spans(op, times)
        assert op.single is not None
        role, numbers = op.single[0], range(op.message, op.message + times)
        place = landing.get((op.peer, op.message), (0, 0))[0]
        if op.code == REDUCE:
            before = bool(op.flags & BEFORE)
            spans = zip(low, high, sizes, strict=True)
            return [(REDUCE, place, place + n, role, a, b, before) if n else () for a, b, n in spans]
        if op.code == RECV and op.flags & LAND:
            ends = zip(numbers, sizes, strict=True)
            return [(RECV, op.peer, k, OWN, place, place + n) if n else () for k, n in ends]
        spans_of = zip(numbers, low, high, strict=True)
        return [(op.code, op.peer, k, role, a, b) if b > a else () for k, a, b in spans_of]
