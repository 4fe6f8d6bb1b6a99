"""Write the steps of a program, and keep account of the messages under way: who waits for what, as late as may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from topocomm.arrays import IntArray
from topocomm.plan.homes import Homes, Places
from topocomm.plan.program import BEFORE, COPY, LAND, SEND, SENT, WAIT

__all__ = ["Message", "Steps"]


@dataclass(slots=True)
class Message:
    """A message under way: places that are read until it is sent, or written until it has come."""

    code: int
    peer: int
    message: int
    places: Places
    flags: int = 0
    count: int = 1
    before: list[int] = field(default_factory=list)
    """Others under way with the same places, older than this one."""
    done: bool = False


class Steps:
    """The steps and runs written so far, and the messages that are under way."""

    def __init__(self, homes: Homes) -> None:
        self.homes = homes
        places = int(self.homes.ends[-1])
        self.known: Places = [(places, 1)]
        """What messages without blocks carry: that their sender has come so far. A place of its own, not in memory."""
        self.reading = [0] * (places + 1)  # the last message under way that is sent from a place
        self.writing = [0] * (places + 1)  # the last one that arrives in, or is combined into it
        self.pending: list[Message] = [Message(0, 0, 0, [], done=True)]
        self.sent: dict[int, int] = {}
        self.posted: dict[int, int] = {}
        self.rows: list[tuple[int, ...]] = []
        self.runs: list[tuple[int, ...]] = []
        self.step_chunks: list[IntArray] = []
        self.run_chunks: list[IntArray] = []
        self.run_count = 0

    # -- steps ---------------------------------------------------------------------------------------------------------

    def emit(
        self,
        code: int,
        peer: int = 0,
        message: int = 0,
        count: int = 0,
        places: Sequence[tuple[int, int]] = (),
        flags: int = 0,
    ) -> None:
        first = self.add_runs(places)
        self.rows.append((code, peer, message, count, first, len(places), -1 if code == COPY else 0, flags))

    def add_runs(self, places: Sequence[tuple[int, int]]) -> int:
        first = self.run_count
        for place, length in places:
            role = self.homes.role(place)
            self.runs.append((role, place - int(self.homes.bases[role]), length, 0, 0))
        self.run_count += len(places)
        return first

    def flush(self) -> None:
        if self.rows:
            self.step_chunks.append(np.array(self.rows, np.int64))
            self.rows = []
        if self.runs:
            self.run_chunks.append(np.array(self.runs, np.int64))
            self.runs = []

    def add_many_runs(self, places: IntArray, lengths: IntArray) -> int:
        """Append runs given as arrays; return the number of the first."""
        self.flush()
        first, roles = self.run_count, self.homes.roles(places)
        none = np.zeros(len(places), np.int64)
        self.run_chunks.append(np.stack([roles, places - self.homes.bases[roles], lengths, none, none], axis=1))
        self.run_count += len(places)
        return first

    def copy(self, source: IntArray, target: IntArray) -> None:
        """Copy places to places, where they are not the same."""
        away = source != target
        if not away.any():
            return
        source, target, lengths = self.homes.copies(source[away], target[away])
        for place, length in zip(source.tolist(), lengths.tolist(), strict=True):
            self.before_reading([(place, length)])
        for place, length in zip(target.tolist(), lengths.tolist(), strict=True):
            self.before_writing([(place, length)])
        first = self.add_many_runs(target, lengths)
        of_source = self.add_many_runs(source, lengths)
        self.rows.append((COPY, 0, 0, 0, first, len(lengths), of_source, 0))

    # -- what is under way ---------------------------------------------------------------------------------------------

    def before_reading(self, places: Places) -> None:
        for first, length in places:
            for number in _numbers(self.writing, first, length):
                self.finish(number)

    def before_writing(self, places: Places) -> None:
        self.before_reading(places)
        self._finish_sends(places)

    def _finish_sends(self, places: Places) -> None:
        for first, length in places:
            for number in _numbers(self.reading, first, length):
                self._finish_send(number, first, length)

    def _finish_send(self, number: int, first: int, length: int) -> None:
        message = self.pending[number]
        for older in message.before:
            if _overlap(self.pending[older].places, first, length):
                self._finish_send(older, first, length)
        self.finish(number)

    def free(self, places: Places) -> bool:
        """Whether nothing under way reads or writes any of these places."""
        pending = self.pending
        return all(
            pending[number].done
            for first, length in places
            for table in (self.writing, self.reading)
            for number in _numbers(table, first, length)
        ) and not any(self._sent_from(first, length) for first, length in places)

    def _sent_from(self, first: int, length: int) -> bool:
        """Whether an older message is still being sent from any of these places."""
        return any(
            not self.pending[older].done and _overlap(self.pending[older].places, first, length)
            for number in _numbers(self.reading, first, length)
            for older in self._older(number)
        )

    def _older(self, number: int) -> Iterator[int]:
        for older in self.pending[number].before:
            yield older
            yield from self._older(older)

    def finish(self, number: int) -> None:
        """Wait for a message, if nothing has yet, and combine or unpack what has landed."""
        message = self.pending[number]
        if message.done:
            return
        message.done = True
        if message.code == SEND:
            self.emit(WAIT, message.peer, message.message, message.count, flags=SENT)
            return
        for older in message.before:
            self.finish(older)
        self.emit(WAIT, message.peer, message.message, message.count)
        if message.flags & LAND:
            self._finish_sends(message.places)
            self.emit(message.code, message.peer, message.message, 0, message.places, message.flags & BEFORE)

    def track(self, message: Message, table: list[int]) -> None:
        number, older = len(self.pending), set()
        for first, length in message.places:
            older |= _numbers(table, first, length)
            table[first : first + length] = [number] * length
        message.before = [n for n in sorted(older) if not self.pending[n].done]
        self.pending.append(message)


def _numbers(table: list[int], first: int, length: int) -> set[int]:
    if length == 1:
        return {table[first]} - {0}
    return set(table[first : first + length]) - {0}


def _overlap(places: Places, first: int, length: int) -> bool:
    return any(a < first + length and first < a + n for a, n in places)
