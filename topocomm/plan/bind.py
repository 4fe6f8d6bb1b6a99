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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from topocomm.arrays import IntArray
from topocomm.errors import ScheduleError
from topocomm.plan.homes import Homes, Places, index, ranges
from topocomm.plan.program import (
    BEFORE,
    COPY,
    FENCE,
    LAND,
    LOOP,
    RECV,
    RECV_ROLE,
    REDUCE,
    SEND,
    SEND_ROLE,
    SENT,
    WAIT,
    Program,
)
from topocomm.plan.steps import Message, Steps
from topocomm.schedule.rounds import (
    Combine,
    Exchanges,
    RankSchedule,
    Recv,
    Repeat,
    Round,
    Schedule,
    Send,
    expand,
)

__all__ = ["bind"]

_SHORTEST_LOOP = 4
"""Repetitions from which on a loop is worth its steps."""


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


class _Binder(Steps):
    """Makes one rank's program."""

    def __init__(self, schedule: Schedule, part: RankSchedule, rank: int, in_place: bool) -> None:
        self.schedule, self.part, self.rank, self.in_place = schedule, part, rank, in_place
        super().__init__(Homes(part, schedule.nslots, schedule.pieces, in_place))
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
                self.finish(number)
        self.copy(homes.place[homes.store], homes.recv_base + np.arange(len(homes.store)))
        self.emit(FENCE)
        self.flush()
        steps, runs = np.concatenate(self.step_chunks), np.concatenate([*self.run_chunks, np.zeros((0, 5), np.int64)])
        longer = homes.layout[SEND_ROLE if len(homes.load) >= len(homes.store) else RECV_ROLE]
        s = self.schedule
        arrays = steps.astype(np.int32), runs.astype(np.int32), homes.layout
        return Program(self.rank, s.size, *arrays, s.nslots, s.pieces, longer, self.in_place)

    def _load(self) -> None:
        homes = self.homes
        source, target = np.arange(len(homes.load)), homes.place[homes.load]
        if homes.input_stays:
            away = target >= homes.scratch_base
            source, target = source[away], target[away]
        self.copy(source, target)

    # -- rounds --------------------------------------------------------------------------------------------------------

    def _round(self, rnd: Round) -> None:
        sends = [s for s in rnd.sends if s.peer != self.rank]
        recvs = [r for r in rnd.recvs if r.peer != self.rank]
        posted, late = self._post_free(recvs)
        for s in sends:
            self._send(s.peer, self.homes.runs(s.slots))
        self._to_myself(rnd)
        for message in posted:  # only now: what the round sends is what was there when it began
            self.track(message, self.writing)
        for r in late:
            self.track(self._post(r, self.homes.runs(r.slots)), self.writing)
        self.round += 1

    def _post_free(self, recvs: Sequence[Recv]) -> tuple[list[Message], list[Recv]]:
        """Post the receives whose places are free; leave the others, with all that follow them from the same rank."""
        posted: list[Message] = []
        late: list[Recv] = []
        for r in recvs:
            places = self.homes.runs(r.slots)
            lands = r.combine is not Combine.REPLACE or len(places) > 1
            if any(r.peer == other.peer for other in late) or not (lands or self.free(places)):
                late.append(r)
            else:
                posted.append(self._post(r, places))
        return posted, late

    def _post(self, r: Recv, places: Places) -> Message:
        number = self.posted.get(r.peer, 0)
        self.posted[r.peer] = number + 1
        combined = r.combine is not Combine.REPLACE and len(places) > 0
        lands = combined or len(places) > 1
        if not lands:
            self.before_writing(places)
        self.emit(RECV, r.peer, number, self.round, places, LAND if lands else 0)
        code = REDUCE if combined else COPY if lands else RECV
        flags = (LAND if lands else 0) | (BEFORE if r.combine is Combine.BEFORE else 0)
        return Message(code, r.peer, number, places or self.known, flags)

    def _send(self, peer: int, places: Places) -> None:
        self.before_reading(places or self.known)
        number = self.sent.get(peer, 0)
        self.sent[peer] = number + 1
        self.emit(SEND, peer, number, self.round, places)
        self.track(Message(SEND, peer, number, places), self.reading)

    def _to_myself(self, rnd: Round) -> None:
        """Messages of a rank to itself are copies."""
        give = [s.slots for s in rnd.sends if s.peer == self.rank]
        take = [r for r in rnd.recvs if r.peer == self.rank]
        if len(give) != len(take) or any(len(a) != len(r.slots) for a, r in zip(give, take, strict=False)):
            raise ScheduleError(f"rank {self.rank} sends itself {len(give)} messages, and receives {len(take)}")
        for slots, r in zip(give, take, strict=True):
            if r.combine is not Combine.REPLACE:
                raise ScheduleError(f"rank {self.rank} sends itself a message that is combined; no engine does that")
            self.copy(self.homes.place[index(slots)], self.homes.place[index(r.slots)])

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
            self.before_reading(ranges(at))
        for at in received:
            self.before_writing(ranges(at))
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
                self.track(Message(SEND, s.peer, first, ranges(at), 0, times), self.reading)

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
        self.before_reading(ranges(give))
        self.before_writing(ranges(take))
        window = np.arange(len(item)) // item.window
        mine = to == self.rank
        if (mine != (source == self.rank)).any():
            raise ScheduleError(f"rank {self.rank} sends itself a message in another round than it receives it")
        away, ones = ~mine, np.ones(len(item), np.int64)
        given, taken = self.add_many_runs(give, ones), self.add_many_runs(take, ones)
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
        self.flush()
        self.step_chunks.append(joined[np.argsort(joined[:, 0], kind="stable"), 1:])
        for i in np.flatnonzero(away & (window == last)).tolist():
            came, went = int(source[i]), int(to[i])
            self.track(Message(RECV, came, self.posted[came] - 1, [(int(take[i]), 1)]), self.writing)
            self.track(Message(SEND, went, self.sent[went] - 1, [(int(give[i]), 1)]), self.reading)

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


def _overwritten(sent: Iterable[IntArray], received: Iterable[IntArray], times: int, places: int) -> bool:
    """Whether a repetition overwrites what it or an earlier one sends."""
    last, turns = np.full(places, -1, np.int64), np.arange(times)
    for at in received:
        np.maximum.at(last, at, turns)
    return any(bool((last[at] >= turns).any()) for at in sent)
