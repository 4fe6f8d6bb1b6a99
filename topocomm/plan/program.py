"""The program of one rank: a flat list of small steps that any engine runs.

A program says what one rank does in a collective, for all sizes and buffers. It names *roles* of memory and positions
in them, never addresses, types, MPI or the limits of an engine:

* ``SEND``, the caller's send buffer, which is only read; ``RECV``, the caller's receive buffer; ``SCRATCH``, memory
  that the engine lends for the run;
* a position holds one slot of the schedule; ``layout[role]`` lists the slots of a role in the order in which they lie
  in memory, so the sizes of the slots give the offset of every position (:meth:`Program.cuts`);
* a *run* is a range of positions of one role; an operand is a list of runs, in order.

Messages are numbered for each pair of ranks and direction: the n-th SEND to a peer meets that peer's n-th RECV from
this rank. A message whose blocks hold no bytes is not sent (a message of no blocks, as in a barrier, is). Steps:

========  =============================================================================================================
COPY      target runs ← source runs, or ← the landing of a message
SEND      give the source runs away as message n to a peer; they must not change before the message is waited for
RECV      expect message n of a peer: straight into the target runs, or (LAND) wherever the engine puts it, its
          *landing*; then the runs only say how long it is
REDUCE    target ← landing ∘ target (BEFORE) or target ∘ landing; ends the landing, as COPY from it does
WAIT      until ``count`` messages from number n on have arrived from a peer, or (SENT) may be overwritten
FENCE     until everything that is under way has come and gone; the last step of every program
LOOP      the next ``source`` steps, ``count`` times; in repetition i the positions of a run move on by i · its step,
          modulo its modulus, and message numbers by i. Loops do not nest
========  =============================================================================================================

An engine may wait longer than a program says, but at most until all the messages of the same round are complete: a
schedule is proved for both. It may also run steps later or earlier where nobody can tell.

The byte form is that of a C program: a header of 16 numbers of 64 bits, then steps, runs, layouts and vector as numbers
of 32 bits, little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from topocomm.arrays import IntArray
from topocomm.errors import ProgramError

__all__ = [
    "BEFORE",
    "COPY",
    "FENCE",
    "LAND",
    "LOOP",
    "RECV",
    "RECV_ROLE",
    "REDUCE",
    "SCRATCH_ROLE",
    "SEND",
    "SEND_ROLE",
    "SENT",
    "WAIT",
    "Program",
    "Small",
    "Step",
]

Small: TypeAlias = npt.NDArray[np.int32]

SEND_ROLE, RECV_ROLE, SCRATCH_ROLE = 0, 1, 2
ROLES = ("send", "recv", "scratch")
COPY, SEND, RECV, REDUCE, WAIT, FENCE, LOOP = 1, 2, 3, 4, 5, 6, 7
CODES = {COPY: "copy", SEND: "send", RECV: "recv", REDUCE: "reduce", WAIT: "wait", FENCE: "fence", LOOP: "loop"}
BEFORE, LAND, SENT = 1, 2, 4
"""Flags of REDUCE, RECV and WAIT."""

CODE, PEER, MESSAGE, COUNT, FIRST, RUNS, SOURCE, FLAGS = range(8)
"""Columns of a step. FIRST, RUNS: its runs (of the target; of the source of a SEND). SOURCE: the first of as many runs
of a COPY's source, -1: the landing of message MESSAGE of PEER; of a LOOP the steps of its body. COUNT: messages of a
WAIT, repetitions of a LOOP, the round of a SEND or RECV (of its first repetition)."""
ROLE, START, LENGTH, STRIDE, MODULUS = range(5)
"""Columns of a run: role, first position, positions; in a loop how far it moves a repetition, and modulo what (0: not
at all). A run that moves has one position."""

MAGIC, VERSION = 0x54435047, 1
_HEADER = 16


@dataclass(frozen=True, slots=True)
class Step:
    """One step, read for people and for walkers: its operands as (role, first position, positions)."""

    code: int
    peer: int
    message: int
    count: int
    runs: tuple[tuple[int, int, int], ...]
    source: tuple[tuple[int, int, int], ...] | None
    """Runs of a COPY's source; None where it is a landing, or where there is none."""
    flags: int


@dataclass(frozen=True)
class Program:
    """One rank's program; see the module. Arrays are not to be changed."""

    rank: int
    size: int
    steps: Small
    """One row of 8 a step."""
    runs: Small
    """One row of 5 a run."""
    layout: tuple[Small, Small, Small]
    """The slot at every position of SEND, RECV and SCRATCH."""
    nslots: int
    pieces: int
    """Into how many slots a block is cut."""
    vector: Small
    """The slots of the vector's blocks, in order: what a table of block sizes refers to."""
    in_place: bool = False
    """Whether SEND is that part of RECV which holds the input. Then nothing reads SEND once RECV has been written, and
    input that stays where it is has no copy."""

    # -- sizes -------------------------------------------------------------------------------------------------------

    def slot_bytes(self, counts: int | Sequence[int] | IntArray, itemsize: int) -> IntArray:
        """Return the bytes of every slot, for ``counts`` elements of ``itemsize`` bytes a block.

        ``counts`` is a number, or an array with one for each block of the vector.
        Raises ProgramError if there are not as many as blocks.
        """
        pieces = self.pieces
        if isinstance(counts, (int, np.integer)):
            cut = np.diff(np.arange(pieces + 1, dtype=np.int64) * int(counts) // pieces) * itemsize
            return np.tile(cut, self.nslots // pieces) if pieces > 1 else np.full(self.nslots, int(cut[0]), np.int64)
        sizes = np.asarray(counts, np.int64)
        if len(sizes) * pieces != len(self.vector):
            raise ProgramError(f"rank {self.rank}: {len(sizes)} block sizes, needs {len(self.vector) // pieces}")
        if pieces > 1:
            sizes = np.diff(sizes[:, None] * np.arange(pieces + 1) // pieces).reshape(-1)
        out = np.zeros(self.nslots, np.int64)
        out[self.vector] = sizes * itemsize
        return out

    def cuts(self, slot_bytes: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return for each role the byte offset of every position, and of its end: positions + 1 numbers."""
        send, recv, scratch = (_offsets(slot_bytes[slots]) for slots in self.layout)
        return send, recv, scratch

    @property
    def arrivals(self) -> tuple[int, int]:
        """Messages to this rank: those received into their places, and those that land first."""
        times = np.ones(len(self.steps), np.int64)
        for i in np.flatnonzero(self.steps[:, CODE] == LOOP):
            times[i + 1 : i + 1 + self.steps[i, SOURCE]] = self.steps[i, COUNT]
        received, lands = self.steps[:, CODE] == RECV, (self.steps[:, FLAGS] & LAND).astype(bool)
        return int(times[received & ~lands].sum()), int(times[received & lands].sum())

    # -- forms -------------------------------------------------------------------------------------------------------

    def __bytes__(self) -> bytes:
        """Return the byte form."""
        header = np.zeros(_HEADER, np.int64)
        lengths = [len(self.steps), len(self.runs), *map(len, self.layout), len(self.vector)]
        header[:13] = [MAGIC, VERSION, self.rank, self.size, self.nslots, self.pieces, *lengths, self.in_place]
        parts = (self.steps, self.runs, *self.layout, self.vector)
        return header.astype("<i8").tobytes() + b"".join(a.astype("<i4").tobytes() for a in parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Program:
        """Read a program; :func:`topocomm.plan.check.check` says whether it may run.

        Raises ProgramError if the bytes are none.
        """
        if len(data) < 8 * _HEADER:
            raise ProgramError(f"not a program: {len(data)} bytes, a header has {8 * _HEADER}")
        header = [int(x) for x in np.frombuffer(data, "<i8", _HEADER)]
        if header[0] != MAGIC or header[1] != VERSION:
            raise ProgramError(f"not a program of version {VERSION}: it begins with {header[0]:#x}, {header[1]}")
        rank, size, nslots, pieces = header[2:6]
        lengths = [8 * header[6], 5 * header[7], *header[8:12]]
        if min(lengths) < 0 or sum(lengths) > 1 << 40 or 8 * _HEADER + 4 * sum(lengths) != len(data):
            raise ProgramError(f"not a program: {len(data)} bytes do not hold {header[6:12]} entries")
        arrays, at = [], 8 * _HEADER
        for n in lengths:
            arrays.append(np.frombuffer(data, "<i4", n, at).astype(np.int32))
            at += 4 * n
        steps, runs, send, recv, scratch, vector = arrays
        layout = send, recv, scratch
        parts = steps.reshape(-1, 8), runs.reshape(-1, 5), layout, nslots, pieces, vector
        return cls(rank, size, *parts, in_place=bool(header[12]))

    def __str__(self) -> str:
        """Return the text form, one step a line."""
        sizes = ", ".join(f"{name} {len(slots)}" for name, slots in zip(ROLES, self.layout, strict=True))
        head = f"program of rank {self.rank} of {self.size}; positions: {sizes}"
        return "\n".join([head, *self._lines()])

    def _lines(self) -> Iterator[str]:
        inside = 0
        for i, row in enumerate(self.steps.tolist()):
            indent = "  " if inside else ""
            inside = row[SOURCE] if row[CODE] == LOOP else max(inside - 1, 0)
            yield f"{i:5}  {indent}{self.line(i)}"

    def line(self, step: int) -> str:
        """Return the text of one step."""
        row = self.steps[step].tolist()
        return f"{CODES.get(row[CODE], '?'):<7}{self._operands(row)}".rstrip()

    def _operands(self, row: list[int]) -> str:
        code, peer, message, count, first, length, source, flags = row
        named, target = f"{peer}#{message}", self._text(first, length)
        if code == LOOP:
            return f"{count} × the next {source} steps"
        if code == WAIT:
            last = f"..{message + count - 1}" if count > 1 else ""
            return f"{'sent' if flags & SENT else 'arrived'} {named}{last}"
        if code == SEND:
            return f"{named} ← {target}"
        if code == RECV:
            return f"{named} → {'landing, as long as ' if flags & LAND else ''}{target}"
        if code == REDUCE:
            order = f"landing {named} ∘ itself" if flags & BEFORE else f"itself ∘ landing {named}"
            return f"{target} ← {order}"
        if code == COPY:
            return f"{target} ← {f'landing {named}' if source < 0 else self._text(source, length)}"
        return ""

    def _text(self, first: int, length: int) -> str:
        shown = [self._run_text(*run) for run in self.runs[first : first + min(length, 8)].tolist()]
        return " ".join(shown) + (f" … ({length} runs)" if length > 8 else "") or "nothing"

    @staticmethod
    def _run_text(role: int, start: int, length: int, stride: int, modulus: int) -> str:
        span = f"{start}" if length == 1 else f"{start}:{start + length}"
        moved = f" {stride:+} mod {modulus}" if modulus else ""
        return f"{ROLES[role] if 0 <= role < 3 else '?'}[{span}{moved}]"

    # -- for walkers -------------------------------------------------------------------------------------------------

    def walk(self) -> Iterator[Step]:
        """Yield the steps in the order in which they run, loops written out."""
        rows, i = self.steps.tolist(), 0
        while i < len(rows):
            row = rows[i]
            i += 1
            if row[CODE] != LOOP:
                yield self._step(row, 0)
                continue
            for turn in range(row[COUNT]):
                for inner in rows[i : i + row[SOURCE]]:
                    yield self._step(inner, turn)
            i += row[SOURCE]

    def _step(self, row: list[int], turn: int) -> Step:
        code, peer, message, count, first, length, source, flags = row
        of_source = self._runs(source, length, turn) if code == COPY and source >= 0 else None
        return Step(code, peer, message + turn, count, self._runs(first, length, turn), of_source, flags)

    def _runs(self, first: int, length: int, turn: int) -> tuple[tuple[int, int, int], ...]:
        return tuple(
            (role, (start + turn * stride) % modulus if modulus else start, n)
            for role, start, n, stride, modulus in self.runs[first : first + length].tolist()
        )


def _offsets(sizes: IntArray) -> IntArray:
    out = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=out[1:])
    return out
