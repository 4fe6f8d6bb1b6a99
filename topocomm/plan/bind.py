"""Bind a schedule to a rank: make its program, for every number of bytes.

Slots get their places first: output blocks in the caller's receive buffer, input blocks that are only read in the
caller's send buffer, everything else in scratch memory. So what needs no copy gets none: an allgather without a
reordering receives straight into the receive buffer, a leaf of a tree sends straight from the send buffer.

Then the rounds become steps. Waits are lazy: a round is how a schedule is written; its program waits for exactly those
messages whose bytes the next step reads or overwrites, and combines what has landed when somebody needs the result.
Receives are posted before the waits of the round before them, as far as their places are free. So a program waits
after, and posts no later than, rounds that end would: it cannot wait for ever where they do not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from topocomm.arrays import IntArray
from topocomm.errors import ScheduleError
from topocomm.plan.program import (
    BEFORE,
    COPY,
    FENCE,
    LAND,
    LOOP,
    RECV,
    RECV_ROLE,
    REDUCE,
    SCRATCH_ROLE,
    SEND,
    SEND_ROLE,
    SENT,
    WAIT,
    Program,
)
from topocomm.schedule.rounds import (
    Combine,
    Exchanges,
    Item,
    RankSchedule,
    Recv,
    Repeat,
    Round,
    Schedule,
    Send,
    Slots,
    expand,
)

__all__ = ["bind"]

_SHORTEST_LOOP = 4
"""Repetitions from which on a loop is worth its steps."""

Places: TypeAlias = list[tuple[int, int]]
"""(first place, places): a run in the numbering of all places of SEND, RECV and SCRATCH one after the other."""


def bind(schedule: Schedule, rank: int, in_place: bool = False) -> Program:
    """Make the program of ``rank``.

    Parameters
    ----------
    in_place
        The input is in the receive buffer: the role SEND is that part of it.

    Raises
    ------
    ScheduleError
        If a rank sends itself a message that is combined, or as many to itself as it does not receive.
    """
    part = schedule.part(rank)
    return _Binder(schedule, part, rank, in_place).bind()


@dataclass(slots=True)
class _Pending:
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


class _Homes:
    """Where the slots of one rank live."""

    def __init__(self, part: RankSchedule, nslots: int, pieces: int, in_place: bool) -> None:
        load, store = np.asarray(part.load, np.int64), np.asarray(part.store, np.int64)
        read, written = _footprint(part.items, nslots)
        stored = np.zeros(nslots, bool)
        stored[store] = True
        same = len(load) == len(store) and bool((load == store).all())
        stays = not in_place or same or len(load) == 0 or len(load) == pieces != len(store)
        self.place = np.full(nslots, -1, np.int64)  # in the numbering of all roles, one after the other
        self.recv_base, self.scratch_base = len(load), len(load) + len(store)
        in_recv = _is_run(part.store) and stays and not (written & ~stored).any()
        if in_recv:
            self.place[store] = self.recv_base + np.arange(len(store))
        self.input_stays = in_place and in_recv
        """Whether input that lives in RECV is there already."""
        free = self.place[load] < 0
        if _is_run(part.load) and not in_place and not written[load[free]].any():
            self.place[load[free]] = np.flatnonzero(free)
        needed = read | written | stored
        needed[load] = True
        rest = np.flatnonzero(needed & (self.place < 0))
        self.place[rest] = self.scratch_base + np.arange(len(rest))
        self.layout = (load.astype(np.int32), store.astype(np.int32), rest.astype(np.int32))
        self.load, self.store = load, store
        self.bases = np.array([0, self.recv_base, self.scratch_base], np.int64)
        self.ends = np.array([self.recv_base, self.scratch_base, self.scratch_base + len(rest)], np.int64)

    def roles(self, places: IntArray) -> IntArray:
        """Return the role of every place."""
        return np.searchsorted(self.ends, places, side="right")

    def role(self, place: int) -> int:
        """Return the role of one place."""
        return SEND_ROLE if place < self.recv_base else RECV_ROLE if place < self.scratch_base else SCRATCH_ROLE

    def runs(self, slots: Slots) -> Places:
        """Return the places of ``slots`` as runs, in order; none reaches over the end of a role."""
        if len(slots) == 1:
            return [(int(self.place[slots[0]]), 1)]
        places = self.place[_index(slots)]
        return [(int(places[a]), b - a) for a, b in self._pieces(places)]

    def _pieces(self, places: IntArray, others: IntArray | None = None) -> Iterator[tuple[int, int]]:
        """Cut places (and ``others``, alongside) where they do not go on by one or enter another role."""
        if len(places) == 0:
            return
        ends = self._breaks(places)
        if others is not None:
            ends |= self._breaks(others)
        cuts = [0, *(np.flatnonzero(ends) + 1).tolist(), len(places)]
        yield from itertools.pairwise(cuts)

    def _breaks(self, places: IntArray) -> IntArray:
        after = places[1:]
        return np.asarray((after - places[:-1] != 1) | (after == self.recv_base) | (after == self.scratch_base))

    def copies(self, source: IntArray, target: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Cut a copy into runs: first places of source and target, and lengths."""
        cuts = np.array([*self._pieces(source, target)], np.int64).reshape(-1, 2)
        return source[cuts[:, 0]], target[cuts[:, 0]], cuts[:, 1] - cuts[:, 0]


class _Binder:
    """Makes one rank's program."""

    def __init__(self, schedule: Schedule, part: RankSchedule, rank: int, in_place: bool) -> None:
        self.schedule, self.part, self.rank, self.in_place = schedule, part, rank, in_place
        self.homes = _Homes(part, schedule.nslots, schedule.pieces, in_place)
        places = int(self.homes.ends[-1])
        self.known: Places = [(places, 1)]
        """What messages without blocks carry: that their sender has come so far. A place of its own, not in memory."""
        self.reading = [0] * (places + 1)  # the last message under way that is sent from a place
        self.writing = [0] * (places + 1)  # the last one that arrives in, or is combined into it
        self.pending: list[_Pending] = [_Pending(0, 0, 0, [], done=True)]
        self.sent: dict[int, int] = {}
        self.posted: dict[int, int] = {}
        self.rows: list[tuple[int, ...]] = []
        self.runs: list[tuple[int, ...]] = []
        self.step_chunks: list[IntArray] = []
        self.run_chunks: list[IntArray] = []
        self.run_count = 0
        self.round = 0

    def bind(self) -> Program:
        homes = self.homes
        self._load()
        for item in self.part.items:
            if isinstance(item, Round):
                self._round(item)
            elif isinstance(item, Repeat):
                self._repeat(item)
            else:
                self._exchanges(item)
        for number, message in enumerate(self.pending):
            if message.flags & LAND:
                self._finish(number)
        self._copy(homes.place[homes.store], homes.recv_base + np.arange(len(homes.store)))
        self._emit(FENCE)
        self._flush()
        steps, runs = np.concatenate(self.step_chunks), np.concatenate([*self.run_chunks, np.zeros((0, 5), np.int64)])
        longer = homes.layout[SEND_ROLE if len(homes.load) >= len(homes.store) else RECV_ROLE]
        s = self.schedule
        arrays = steps.astype(np.int32), runs.astype(np.int32), homes.layout
        return Program(self.rank, s.size, *arrays, s.nslots, s.pieces, longer, self.in_place)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _emit(
        self,
        code: int,
        peer: int = 0,
        message: int = 0,
        count: int = 0,
        places: Sequence[tuple[int, int]] = (),
        flags: int = 0,
    ) -> None:
        first = self._add_runs(places)
        self.rows.append((code, peer, message, count, first, len(places), -1 if code == COPY else 0, flags))

    def _add_runs(self, places: Sequence[tuple[int, int]]) -> int:
        first = self.run_count
        for place, length in places:
            role = self.homes.role(place)
            self.runs.append((role, place - int(self.homes.bases[role]), length, 0, 0))
        self.run_count += len(places)
        return first

    def _flush(self) -> None:
        if self.rows:
            self.step_chunks.append(np.array(self.rows, np.int64))
            self.rows = []
        if self.runs:
            self.run_chunks.append(np.array(self.runs, np.int64))
            self.runs = []

    def _add_many_runs(self, places: IntArray, lengths: IntArray) -> int:
        """Append runs given as arrays; return the number of the first."""
        self._flush()
        first, roles = self.run_count, self.homes.roles(places)
        none = np.zeros(len(places), np.int64)
        self.run_chunks.append(np.stack([roles, places - self.homes.bases[roles], lengths, none, none], axis=1))
        self.run_count += len(places)
        return first

    def _copy(self, source: IntArray, target: IntArray) -> None:
        """Copy places to places, where they are not the same."""
        away = source != target
        if not away.any():
            return
        source, target, lengths = self.homes.copies(source[away], target[away])
        for place, length in zip(source.tolist(), lengths.tolist(), strict=True):
            self._before_reading([(place, length)])
        for place, length in zip(target.tolist(), lengths.tolist(), strict=True):
            self._before_writing([(place, length)])
        first = self._add_many_runs(target, lengths)
        of_source = self._add_many_runs(source, lengths)
        self.rows.append((COPY, 0, 0, 0, first, len(lengths), of_source, 0))

    def _load(self) -> None:
        homes = self.homes
        source, target = np.arange(len(homes.load)), homes.place[homes.load]
        if homes.input_stays:
            away = target >= homes.scratch_base
            source, target = source[away], target[away]
        self._copy(source, target)

    # -- what is under way ---------------------------------------------------------------------------------------------

    def _before_reading(self, places: Places) -> None:
        for first, length in places:
            for number in _numbers(self.writing, first, length):
                self._finish(number)

    def _before_writing(self, places: Places) -> None:
        self._before_reading(places)
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
        self._finish(number)

    def _free(self, places: Places) -> bool:
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

    def _finish(self, number: int) -> None:
        """Wait for a message, if nothing has yet, and combine or unpack what has landed."""
        message = self.pending[number]
        if message.done:
            return
        message.done = True
        if message.code == SEND:
            self._emit(WAIT, message.peer, message.message, message.count, flags=SENT)
            return
        for older in message.before:
            self._finish(older)
        self._emit(WAIT, message.peer, message.message, message.count)
        if message.flags & LAND:
            self._finish_sends(message.places)
            self._emit(message.code, message.peer, message.message, 0, message.places, message.flags & BEFORE)

    def _track(self, message: _Pending, table: list[int]) -> None:
        number, older = len(self.pending), set()
        for first, length in message.places:
            older |= _numbers(table, first, length)
            table[first : first + length] = [number] * length
        message.before = [n for n in sorted(older) if not self.pending[n].done]
        self.pending.append(message)

    # -- rounds --------------------------------------------------------------------------------------------------------

    def _round(self, rnd: Round) -> None:
        sends = [s for s in rnd.sends if s.peer != self.rank]
        recvs = [r for r in rnd.recvs if r.peer != self.rank]
        posted, late = self._post_free(recvs)
        for s in sends:
            self._send(s.peer, self.homes.runs(s.slots))
        self._to_myself(rnd)
        for message in posted:  # only now: what the round sends is what was there when it began
            self._track(message, self.writing)
        for r in late:
            self._track(self._post(r, self.homes.runs(r.slots)), self.writing)
        self.round += 1

    def _post_free(self, recvs: Sequence[Recv]) -> tuple[list[_Pending], list[Recv]]:
        """Post the receives whose places are free; leave the others, with all that follow them from the same rank."""
        posted: list[_Pending] = []
        late: list[Recv] = []
        for r in recvs:
            places = self.homes.runs(r.slots)
            lands = r.combine is not Combine.REPLACE or len(places) > 1
            if any(r.peer == other.peer for other in late) or not (lands or self._free(places)):
                late.append(r)
            else:
                posted.append(self._post(r, places))
        return posted, late

    def _post(self, r: Recv, places: Places) -> _Pending:
        number = self.posted.get(r.peer, 0)
        self.posted[r.peer] = number + 1
        combined = r.combine is not Combine.REPLACE and len(places) > 0
        lands = combined or len(places) > 1
        if not lands:
            self._before_writing(places)
        self._emit(RECV, r.peer, number, self.round, places, LAND if lands else 0)
        code = REDUCE if combined else COPY if lands else RECV
        flags = (LAND if lands else 0) | (BEFORE if r.combine is Combine.BEFORE else 0)
        return _Pending(code, r.peer, number, places or self.known, flags)

    def _send(self, peer: int, places: Places) -> None:
        self._before_reading(places or self.known)
        number = self.sent.get(peer, 0)
        self.sent[peer] = number + 1
        self._emit(SEND, peer, number, self.round, places)
        self._track(_Pending(SEND, peer, number, places), self.reading)

    def _to_myself(self, rnd: Round) -> None:
        """Messages of a rank to itself are copies."""
        give = [s.slots for s in rnd.sends if s.peer == self.rank]
        take = [r for r in rnd.recvs if r.peer == self.rank]
        if len(give) != len(take) or any(len(a) != len(r.slots) for a, r in zip(give, take, strict=False)):
            raise ScheduleError(f"rank {self.rank} sends itself {len(give)} messages, and receives {len(take)}")
        for slots, r in zip(give, take, strict=True):
            if r.combine is not Combine.REPLACE:
                raise ScheduleError(f"rank {self.rank} sends itself a message that is combined; no engine does that")
            self._copy(self.homes.place[_index(slots)], self.homes.place[_index(r.slots)])

    # -- rounds in short -----------------------------------------------------------------------------------------------

    def _repeat(self, item: Repeat) -> None:
        """A loop, as far as the places of its slots are regular; what is left one by one."""
        fits = self._fitting(item)
        if fits is None or fits.times < _SHORTEST_LOOP:
            for rnd in expand((item,)):
                self._round(rnd)
            return
        self._loop(item.round, fits)
        left = item.times - fits.times
        if left:
            self._repeat(Repeat(item.at(fits.times), left, item.step, item.modulus))

    def _fitting(self, item: Repeat) -> _Fit | None:
        rnd = item.round
        messages: tuple[Send | Recv, ...] = (*rnd.sends, *rnd.recvs)
        peers = [s.peer for s in rnd.sends], [r.peer for r in rnd.recvs]
        if self.rank in peers[0] + peers[1] or any(len(m.slots) != 1 for m in messages):
            return None
        if any(len(set(p)) < len(p) for p in peers):
            return None
        turns = np.arange(item.times, dtype=np.int64) * item.step
        times, moves, places = item.times, [], []
        for m in messages:
            at = self.homes.place[(m.slots[0] + turns) % item.modulus]
            fit, modulus = self._regular(at, item)
            times = min(times, fit)
            moves.append((item.step, modulus))
            places.append(at)
        return _Fit(times, moves, [at[:times] for at in places])

    def _regular(self, at: IntArray, item: Repeat) -> tuple[int, int]:
        """Return how many of the places move on regularly, and modulo what in their role."""
        role = self.homes.role(int(at[0]))
        base, size = int(self.homes.bases[role]), int(self.homes.ends[role] - self.homes.bases[role])
        turns, best = np.arange(len(at), dtype=np.int64) * item.step, (0, 1)
        for modulus in {item.modulus, size}:
            if 0 < modulus <= size and int(at[0]) - base < modulus:
                wrong = np.flatnonzero(base + (int(at[0]) - base + turns) % modulus != at)
                best = max(best, (int(wrong[0]) if len(wrong) else len(at), modulus))
        return best

    def _loop(self, rnd: Round, fit: _Fit) -> None:
        """One loop; its messages are waited for in their own repetition, what it sends where somebody overwrites it."""
        sends, recvs, times = rnd.sends, rnd.recvs, fit.times
        sent, received = fit.places[: len(sends)], fit.places[len(sends) :]
        for at in sent:
            self._before_reading(_ranges(at))
        for at in received:
            self._before_writing(_ranges(at))
        overwritten = _overwritten(sent, received, times, len(self.reading))
        of_recvs = list(zip(recvs, fit.moves[len(sends) :], received, strict=True))
        of_sends = list(zip(sends, fit.moves, sent, strict=False))
        posted = {r.peer: self.posted.get(r.peer, 0) for r in recvs}
        given = {s.peer: self.sent.get(s.peer, 0) for s in sends}
        body: list[tuple[int, ...]] = []
        for r, move, at in of_recvs:
            lands = LAND if r.combine is not Combine.REPLACE else 0
            body.append(self._body_step(RECV, r.peer, posted[r.peer], at, move, lands))
        body += [self._body_step(SEND, s.peer, given[s.peer], at, move, 0) for s, move, at in of_sends]
        body += [(WAIT, r.peer, posted[r.peer], 1, 0, 0, 0, 0) for r in recvs]
        body += [(WAIT, s.peer, given[s.peer], 1, 0, 0, 0, SENT) for s in sends if overwritten]
        for r, move, at in of_recvs:
            if r.combine is not Combine.REPLACE:
                order = BEFORE if r.combine is Combine.BEFORE else 0
                body.append(self._body_step(REDUCE, r.peer, posted[r.peer], at, move, order))
        self.rows.append((LOOP, 0, 0, times, 0, 0, len(body), 0))
        self.rows += body
        self.round += times
        for r in recvs:
            self.posted[r.peer] = self.posted.get(r.peer, 0) + times
        for s, at in zip(sends, sent, strict=True):
            first = self.sent.get(s.peer, 0)
            self.sent[s.peer] = first + times
            if not overwritten:
                self._track(_Pending(SEND, s.peer, first, _ranges(at), 0, times), self.reading)

    def _body_step(
        self, code: int, peer: int, message: int, at: IntArray, move: tuple[int, int], flags: int
    ) -> tuple[int, ...]:
        role = self.homes.role(int(at[0]))
        self.runs.append((role, int(at[0]) - int(self.homes.bases[role]), 1, *move))
        self.run_count += 1
        return code, peer, message, self.round if code != REDUCE else 0, self.run_count - 1, 1, 0, flags

    def _exchanges(self, item: Exchanges) -> None:
        """Many messages of one slot each, two windows of them under way at a time."""
        place = self.homes.place
        to, source, give, take = item.send_peers, item.recv_peers, place[item.send_slots], place[item.recv_slots]
        apart = len(np.unique(np.concatenate((take, give)))) == len(take) + len(np.unique(give))
        distinct = len(np.unique(to)) == len(to) and len(np.unique(source)) == len(source)
        if item.combine is not Combine.REPLACE or not (apart and distinct):
            for rnd in item.rounds():
                self._round(rnd)
            return
        self._before_reading(_ranges(give))
        self._before_writing(_ranges(take))
        window = np.arange(len(item)) // item.window
        mine = to == self.rank
        if (mine != (source == self.rank)).any():
            raise ScheduleError(f"rank {self.rank} sends itself a message in another round than it receives it")
        away, ones = ~mine, np.ones(len(item), np.int64)
        given, taken = self._add_many_runs(give, ones), self._add_many_runs(take, ones)
        number, last = np.arange(len(item)), int(window[-1]) if len(item) else 0
        steps = [
            _rows(3 * window[away], RECV, source[away], self._next(self.posted, source[away]), taken + number[away]),
            _rows(3 * window[away] + 1, SEND, to[away], self._next(self.sent, to[away]), given + number[away]),
            _rows(3 * window[mine] + 1, COPY, to[mine] * 0, to[mine] * 0, taken + number[mine], given + number[mine]),
        ]
        waited = away & (window < last)
        for peers, table, flags in ((source, self.posted, 0), (to, self.sent, SENT)):
            numbers = np.array([table[peer] - 1 for peer in peers[waited].tolist()], np.int64)
            rows = _rows(3 * window[waited] + 5, WAIT, peers[waited], numbers, numbers * 0)
            rows[:, 4], rows[:, 6], rows[:, 8] = 1, 0, flags
            steps.append(rows)
        for rows in steps[:2]:
            rows[:, 4] = self.round + rows[:, 0] // 3
        self.round += last + 1
        joined = np.concatenate(steps)
        self._flush()
        self.step_chunks.append(joined[np.argsort(joined[:, 0], kind="stable"), 1:])
        for i in np.flatnonzero(away & (window == last)).tolist():
            came, went = int(source[i]), int(to[i])
            self._track(_Pending(RECV, came, self.posted[came] - 1, [(int(take[i]), 1)]), self.writing)
            self._track(_Pending(SEND, went, self.sent[went] - 1, [(int(give[i]), 1)]), self.reading)

    @staticmethod
    def _next(table: dict[int, int], peers: IntArray) -> IntArray:
        """Number one more message with each of these peers."""
        numbers = [table.get(peer, 0) for peer in peers.tolist()]
        for peer, number in zip(peers.tolist(), numbers, strict=True):
            table[peer] = number + 1
        return np.array(numbers, np.int64)


@dataclass(slots=True)
class _Fit:
    """A loop's repetitions, how the run of each message moves, and the places it comes to."""

    times: int
    moves: list[tuple[int, int]]
    places: list[IntArray]


def _rows(
    key: IntArray, code: int, peers: IntArray, numbers: IntArray, runs: IntArray, source: IntArray | None = None
) -> IntArray:
    """Steps of one run each as an array, behind a column to sort them by."""
    none, ones = np.zeros(len(key), np.int64), np.ones(len(key), np.int64)
    one_code = np.full(len(key), code, np.int64)
    return np.stack([key, one_code, peers, numbers, none, runs, ones, none if source is None else source, none], axis=1)


def _ranges(places: IntArray) -> Places:
    """Return the set of places as runs, ascending."""
    if len(places) == 0:
        return []
    known = np.unique(places)
    cuts = [0, *(np.flatnonzero(np.diff(known) != 1) + 1).tolist(), len(known)]
    return [(int(known[a]), b - a) for a, b in itertools.pairwise(cuts)]


def _numbers(table: list[int], first: int, length: int) -> set[int]:
    if length == 1:
        return {table[first]} - {0}
    return set(table[first : first + length]) - {0}


def _overlap(places: Places, first: int, length: int) -> bool:
    return any(a < first + length and first < a + n for a, n in places)


def _overwritten(sent: Iterable[IntArray], received: Iterable[IntArray], times: int, places: int) -> bool:
    """Whether a repetition overwrites what it or an earlier one sends."""
    last, turns = np.full(places, -1, np.int64), np.arange(times)
    for at in received:
        np.maximum.at(last, at, turns)
    return any(bool((last[at] >= turns).any()) for at in sent)


def _footprint(items: Iterable[Item], nslots: int) -> tuple[IntArray, IntArray]:
    """Masks of the slots that the rounds send, and of those that they receive."""
    read, written = np.zeros(nslots, bool), np.zeros(nslots, bool)
    for item in items:
        if isinstance(item, Exchanges):
            read[item.send_slots] = True
            written[item.recv_slots] = True
            continue
        rnd, turns = (item.round, item) if isinstance(item, Repeat) else (item, None)
        for s in rnd.sends:
            _mark(read, s.slots, turns)
        for r in rnd.recvs:
            _mark(written, r.slots, turns)
    return read, written


def _mark(mask: IntArray, slots: Slots, turns: Repeat | None) -> None:
    if turns is not None:
        moved = np.arange(turns.times)[:, None] * turns.step + np.asarray(slots, np.int64)
        mask[moved.reshape(-1) % turns.modulus] = True
    else:
        mask[_index(slots)] = True


def _index(slots: Slots) -> slice | IntArray:
    if isinstance(slots, range) and slots.step == 1:
        return slice(slots.start, slots.stop)
    return np.asarray(slots, np.int64)


def _is_run(slots: Slots) -> bool:
    return len(slots) > 0 and isinstance(slots, range) and slots.step == 1
