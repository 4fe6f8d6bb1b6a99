"""Signals: a receiver's counts of data that has arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from topocomm.rma import errors
from topocomm.rma._lib import ffi, lib
from topocomm.rma.handles import Handle, Owner
from topocomm.rma.opening import LARGEST, SLICE, limit_of, seconds, whole

__all__ = ["Event", "Signal", "SignalState", "wait_any"]


@dataclass(frozen=True)
class Event:
    """An identified notification: who, which block (its tag), for which epoch, the sender's value, and bytes."""

    source: int
    tag: int
    epoch: int
    value: int
    bytes: int


@dataclass(frozen=True)
class SignalState:
    """Counts of messages: of this epoch, expected and arrived; come early for the next ones; refused as surplus."""

    epoch: int
    expected: int
    arrived: int
    early: int
    surplus: int


class Signal(Handle):
    """Counts the messages of an epoch over all blocks issued with it: one message per block and epoch.

    ``kind`` is ``"counted"``; ``"identified"``, which also queues each arrival as an :class:`Event`; or ``"stream"``,
    without epochs, whose arrivals are taken by number with :meth:`take`.
    """

    KIND = "signal"
    KINDS = ("counted", "identified", "stream")

    def __init__(self, context: Owner, kind: str = "counted") -> None:
        if kind not in self.KINDS:
            raise errors.RangeError(f"Signal: kind {kind!r} is unknown, choose one of {', '.join(self.KINDS)}")
        context.usable(f"Signal on rank {context.rank}")
        context.dropped.sweep()
        self.context = context
        self.kind = kind
        self.number = next(context.signal_numbers)
        self.sources: list[int] = []  # ranks that blocks counting here were issued to, one entry per block
        self._known_surplus = 0
        self.handle = self._create(kind)
        self._wait = lib.tc_signal_wait  # one look-up less on the way that counts
        context.adopt(self)

    def _create(self, kind: str) -> Any:
        context, handle = self.context, ffi.new("tc_signal **")
        status = lib.tc_signal_create(context.handle, self.KINDS.index(kind), handle)
        if status != lib.TC_ERR_LIMIT:
            self._check(status, f"Signal on rank {context.rank}")
            return handle[0]
        field, words = "signals", "signals"
        if kind == "identified" and lib.tc_signal_create(context.handle, 0, handle) == 0:
            lib.tc_signal_free(handle[0])  # there is room for a signal, but none for its queue
            field, words = "queues", "identified signals"
        raise errors.LimitError(
            f"Signal on rank {context.rank}: {getattr(context.limits, field)} {words} exist; free some (each "
            f"exchange has two, until its free()), or open the context with a larger Limits.{field}"
        )

    def __del__(self) -> None:
        if self.handle:
            self.context.dropped.add(lib.tc_signal_free, self.handle, None, again=False)

    def test(self) -> bool:
        """Return True if every message of this epoch has arrived. Changes nothing; errors as for :meth:`wait`."""
        status = lib.tc_signal_test(self.handle)
        if status <= 0:
            if status:
                self._fail(status, "test")
            return True
        return False

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every message of this epoch has arrived; the data may be read until :meth:`rearm`.

        ``timeout`` in seconds, the context's own by default. Errors: WaitTimeout naming the missing peers and pieces;
        PeerLost; SurplusError.
        """
        status = self._wait(self.handle, SLICE if timeout is None else limit_of(timeout, self.context.rank))
        if status:
            self._go_on(lambda s: lib.tc_signal_wait(self.handle, s), status, timeout, "wait")

    def rearm(self) -> None:
        """Begin the next epoch, as this one's data has been read; messages that came early for it count.

        Errors: BusyError if the epoch is not complete; SurplusError if it had more messages than blocks (it is
        re-armed all the same).
        """
        status = lib.tc_signal_rearm(self.handle)
        if status:
            self.rearm_failed(status)

    def gone(self) -> Any:
        """Raise FreedError."""
        self._usable(f"rearm of a signal on rank {self.context.rank}")

    def rearm_failed(self, status: int) -> None:
        """Raise the error of a rearm's status."""
        if status == lib.TC_AGAIN:
            who = f"rearm of a signal on rank {self.context.rank}"
            raise errors.BusyError(f"{who}: {self._progress()}; wait for it first")
        self._fail(status, "rearm")

    def take(self, count: int = 1, timeout: float | None = None) -> None:
        """Wait for ``count`` arrivals at a stream signal, and take them off its count; ``timeout`` in seconds."""
        count = whole(count, "count", 1, LARGEST, f"take on rank {self.context.rank}")
        status = lib.tc_signal_take_wait(
            self.handle, count, SLICE if timeout is None else limit_of(timeout, self.context.rank)
        )
        if status:
            self._go_on(lambda s: lib.tc_signal_take_wait(self.handle, count, s), status, timeout, "take")

    def try_take(self, count: int = 1) -> bool:
        """Take ``count`` arrivals off a stream signal if there are as many; returns whether it did."""
        count = whole(count, "count", 1, LARGEST, f"try_take on rank {self.context.rank}")
        status = lib.tc_signal_take(self.handle, count)
        if status < 0:
            self._fail(status, "take")
        return bool(status == 0)

    def event(self, timeout: float | None = None) -> Event:
        """Wait for the next identified notification; by its epoch it may be an early one."""
        event = ffi.new("tc_event *")
        status = lib.tc_signal_event_wait(
            self.handle, SLICE if timeout is None else limit_of(timeout, self.context.rank), event
        )
        if status:
            self._go_on(lambda s: lib.tc_signal_event_wait(self.handle, s, event), status, timeout, "event")
        return Event(event.source, event.tag, event.epoch, event.value, event.bytes)

    def try_event(self) -> Event | None:
        """Return the next identified notification, or None if there is none yet."""
        event = ffi.new("tc_event *")
        status = lib.tc_signal_event(self.handle, event)
        if status < 0:
            self._fail(status, "event")
        return None if status else Event(event.source, event.tag, event.epoch, event.value, event.bytes)

    @property
    def state(self) -> SignalState:
        """The counts as they are now."""
        numbers = [ffi.new("uint64_t *") for _ in range(5)]
        self._check(lib.tc_signal_state(self.handle, *numbers), f"state of a signal on rank {self.context.rank}")
        return SignalState(*(int(n[0]) for n in numbers))

    def missing(self) -> tuple[tuple[int, int, int, int], ...]:
        """List (source rank, tag, pieces announced, pieces arrived) of each message this epoch still lacks."""
        room = self.context.limits.blocks
        entries, count = ffi.new("tc_missing[]", room), ffi.new("uint32_t *")
        status = lib.tc_signal_missing(self.handle, entries, room, count)
        self._check(status, f"missing of a signal on rank {self.context.rank}")
        return tuple((e.source, e.tag, e.pieces, e.arrived.bit_count()) for e in entries[0 : min(count[0], room)])

    def free(self) -> None:
        """Free the signal; its blocks must be freed before. Errors: BusyError, FreedError."""
        who = f"free of a signal on rank {self.context.rank}"
        status = lib.tc_signal_free(self.handle)
        if status == lib.TC_ERR_BUSY:
            raise errors.BusyError(f"{who}: blocks count at it; free them first")
        self._check(status, who)
        self.handle = ffi.NULL

    def __enter__(self) -> Signal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.handle and self.context.handle:
            self.free()

    def _go_on(self, call: Any, status: int, timeout: float | None, what: str) -> None:
        limit = self.context.timeout if timeout is None else timeout
        end = monotonic() + limit - min(SLICE, limit)
        if self.context.dropped.waiting:
            self.context.dropped.sweep()
        while status == lib.TC_ERR_TIMEOUT and monotonic() < end:
            status = call(min(SLICE, max(0.0, end - monotonic())))
        if status == lib.TC_ERR_TIMEOUT:
            missing = self.missing()
            raise errors.WaitTimeout(
                f"{what} on rank {self.context.rank}: nothing more within {limit:g} s; {describe_missing(missing)}",
                missing,
            )
        if status:
            self._fail(status, what)

    def _progress(self) -> str:
        state = self.state
        return f"epoch {state.epoch} has {state.arrived} of {state.expected} messages"

    def _fail(self, status: int, what: str) -> None:
        who = f"{what} of a signal on rank {self.context.rank}"
        if status == lib.TC_ERR_PEER_LOST:
            raise self.context.peer_lost(who)
        if status == lib.TC_ERR_SURPLUS:
            raise errors.SurplusError(f"{who}: {self._too_many()}")
        if status == lib.TC_ERR_UNSUPPORTED:
            kind = {"event": "identified", "take": "stream"}.get(what)
            advice = f"; make it with signal({kind!r})" if kind else ", which has no epochs; use take()"
            raise errors.UnsupportedError(f"{who}: the signal is {self.kind}{advice}")
        if status == lib.TC_ERR_OVERFLOW:
            depth = self.context.limits.queue_depth
            raise errors.LimitError(
                f"{who}: its queue of {depth} identified notifications is full; take them with event() in time, or "
                "open the context with a larger Limits.queue_depth"
            )
        raise self._failure(status, who)

    def _too_many(self) -> str:
        state = self.state
        more, self._known_surplus = state.surplus - self._known_surplus, state.surplus
        if more > 0:
            return f"{more} message{'s' * (more > 1)} too many came for the epoch that it ended"
        if state.arrived > state.expected:
            return (
                f"epoch {state.epoch} has {state.arrived} messages and expects {state.expected}: "
                f"{state.arrived - state.expected} too many; a block takes one per epoch"
            )
        return f"messages came for epoch {state.epoch - 1} after it had been re-armed; a block takes one per epoch"


def describe_missing(missing: Sequence[tuple[int, int, int, int]]) -> str:
    """Name the missing messages in words, at most eight of them."""
    parts = [
        f"rank {source} tag {tag}" + (f" ({arrived} of {pieces} pieces)" if pieces else "")
        for source, tag, pieces, arrived in missing[:8]
    ]
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    return "missing: " + (", ".join(parts) if parts else "nobody (is a block still to be issued?)") + more


def wait_any(signals: Sequence[Signal], timeout: float | None = None) -> int:
    """Wait until one of the signals is complete and return its index; errors as for :meth:`Signal.wait`."""
    if not signals:
        raise errors.RangeError("wait_any: needs at least one signal")
    for signal in signals:
        if not isinstance(signal, Signal):
            raise errors.KindError(f"wait_any: {signal!r} is no signal")
        signal._usable(f"wait_any on rank {signal.context.rank}")
        if signal.context is not signals[0].context:
            raise errors.RangeError(f"wait_any on rank {signal.context.rank}: the signals are of different contexts")
    handles, index = ffi.new("tc_signal *[]", [s.handle for s in signals]), ffi.new("uint32_t *")
    limit = (
        signals[0].context.timeout
        if timeout is None
        else seconds(timeout, f"wait_any on rank {signals[0].context.rank}")
    )
    end = monotonic() + limit
    while True:
        left = max(0.0, end - monotonic())
        status = lib.tc_signal_wait_any(handles, len(signals), min(SLICE, left), index)
        if status == 0:
            return int(index[0])
        if status != lib.TC_ERR_TIMEOUT:
            signals[index[0]]._fail(status, "wait_any")
        if monotonic() >= end:
            missing = tuple(m for s in signals for m in s.missing())
            raise errors.WaitTimeout(
                f"wait_any on rank {signals[0].context.rank}: none within {limit:g} s; {describe_missing(missing)}",
                missing,
            )
