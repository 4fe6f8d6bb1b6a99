"""The ground of ``topocomm.rma``: handles of the C core, and the context that owns them, as they see it.

A handle is freed by hand, with its context, or when Python drops its object.
"""

from __future__ import annotations

import itertools
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from topocomm.rma import errors
from topocomm.rma._lib import check, failure, ffi, lib
from topocomm.rma.opening import TRANSPORTS, Limits, whole
from topocomm.rma.overlap import Issued
from topocomm.rma.sessions import usable

__all__ = ["Dropped", "Handle", "Owner"]

SERIAL = itertools.count()
Entry = tuple[Callable[[Any], int], Any, object, bool]


class Dropped:
    """Handles whose Python objects are gone, each with the arrays it still needs; freed when nothing uses them.

    Python may drop an object at any moment and in any thread, so it only leaves its handle here; the context's own
    calls free it.
    """

    def __init__(self) -> None:
        self.waiting: deque[Entry] = deque()
        self.kept: list[Entry] = []  # used by blocks whose objects are gone as well: until the context is closed

    def add(self, free: Callable[[Any], int], handle: Any, needs: object, again: bool) -> None:
        """Keep ``needs`` alive until ``free(handle)`` succeeds; ``again``: retry later if that finds it busy."""
        self.waiting.append((free, handle, needs, again))

    def sweep(self) -> None:
        """Free every handle that nothing uses any more."""
        for _ in range(len(self.waiting)):
            try:
                entry = self.waiting.popleft()
            except IndexError:  # another thread sweeps, too
                return
            free, handle, _, again = entry
            if free(handle) == lib.TC_ERR_BUSY:
                (self.waiting if again else self.kept).append(entry)


class Owner(ABC):
    """A context as its handles see it: the communicator, the C core's handle, settings, peers, and what it owns."""

    def __init__(self, comm: Any, limits: Limits, checked: bool) -> None:
        try:
            self.rank, self.size = int(comm.rank), int(comm.size)
        except Exception as error:
            raise errors.KindError(f"Context: {comm!r} is no communicator with rank and size ({error})") from error
        self.comm = usable(comm)
        self.checked = checked
        self.limits = limits
        self.timeout = 0.0  # seconds
        self.handle: Any = ffi.NULL
        self.ended = "was closed"
        self.serial = next(SERIAL)
        self.signal_numbers = itertools.count(1)
        self.dropped = Dropped()
        self.issued = Issued()
        self.children: weakref.WeakSet[Handle] = weakref.WeakSet()

    @abstractmethod
    def close(self) -> None:
        """Free everything of this context without waiting for anything."""

    @abstractmethod
    def forget(self) -> None:
        """Give everything up in a forked child, to whose parent it belongs."""

    def progress(self) -> None:
        """Let transports that need it move data; waits and tests do so by themselves."""
        status = lib.tc_context_progress(self.handle)
        if self.dropped.waiting:
            self.dropped.sweep()
        if status < 0:
            who = f"progress on rank {self.rank}"
            self.usable(who)
            check(status, who)

    def transport(self, peer: int) -> str:
        """Return the name of the transport chosen for ``peer``. Errors: RangeError, FreedError."""
        kind, who = ffi.new("uint32_t *"), f"transport on rank {self.rank}"
        self.usable(who)
        check(lib.tc_peer_transport(self.handle, whole(peer, "peer", 0, self.size - 1, who), kind), who)
        return next(name for name, number in TRANSPORTS.items() if number == kind[0])

    def alive(self, peer: int) -> bool:
        """Return False once ``peer`` is known to have died or closed its context. Errors: RangeError, FreedError."""
        who = f"alive on rank {self.rank}"
        self.usable(who)
        return bool(lib.tc_peer_alive(self.handle, whole(peer, "peer", 0, self.size - 1, who)) == 0)

    def peer_lost(self, who: str, rank: int | None = None) -> errors.PeerLost:
        """Make the exception for a lost peer; by default the one the C core met last."""
        out = ffi.new("uint32_t *")
        if rank is None or rank < 0:
            rank = int(out[0]) if lib.tc_context_lost(self.handle, out) == 0 else -1
        return errors.PeerLost(f"{who}: rank {rank} died or closed its context", rank)

    def usable(self, who: str) -> None:
        """Check that the context is open. Errors: FreedError."""
        if not self.handle:
            raise errors.FreedError(f"{who}: the context {self.ended}")

    def adopt(self, child: Handle) -> None:
        """Remember a handle that closing this context frees."""
        self.children.add(child)


class Handle:
    """A handle of a context; ``KIND`` is its name in errors."""

    KIND = "handle"
    context: Owner
    handle: Any = ffi.NULL

    def _check(self, status: int, who: str) -> None:
        if status:
            raise self._failure(status, who)

    def _failure(self, status: int, who: str) -> errors.RmaError:
        """Make the exception for a status of a call with this handle; tells a freed handle from a closed context."""
        if status in (lib.TC_ERR_ARGUMENT, lib.TC_ERR_FREED):
            if not self.context.handle:
                return errors.FreedError(f"{who}: the context {self.context.ended}")
            if not self.handle or status == lib.TC_ERR_FREED:
                return errors.FreedError(f"{who}: the {self.KIND} was freed; make a new one")
        return failure(status, who)

    def _usable(self, who: str) -> None:
        """Check that neither the handle nor its context was freed. Errors: FreedError."""
        if not self.handle or not self.context.handle:
            raise self._failure(lib.TC_ERR_FREED, who)
