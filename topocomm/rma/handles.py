"""What all handles of the C core share: their end, by hand, with their context, or when Python drops the object."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from topocomm.rma import errors
from topocomm.rma._lib import failure, ffi, lib

if TYPE_CHECKING:
    from topocomm.rma.context import Context

__all__ = ["Dropped", "Handle"]


class Handle:
    """A handle of a context; ``KIND`` is its name in errors."""

    KIND = "handle"
    context: Context
    handle: Any = ffi.NULL

    def _check(self, status: int, who: str) -> None:
        if status:
            raise self._failure(status, who)

    def _failure(self, status: int, who: str) -> errors.RmaError:
        """The exception for a status of a call with this handle; tells a freed handle from a closed context."""
        if status in (lib.TC_ERR_ARGUMENT, lib.TC_ERR_FREED):
            if not self.context.handle:
                return errors.FreedError(f"{who}: the context {self.context.ended}")
            if not self.handle or status == lib.TC_ERR_FREED:
                return errors.FreedError(f"{who}: the {self.KIND} was freed; make a new one")
        return failure(status, who)

    def _usable(self, who: str) -> None:
        """Errors: FreedError."""
        if not self.handle or not self.context.handle:
            raise self._failure(lib.TC_ERR_FREED, who)


Entry = tuple[Callable[[Any], int], Any, object, bool]


class Dropped:
    """Handles whose Python objects are gone, each with what it still needs; freed when nothing uses them.

    Python may drop an object at any moment and in any thread, so it only leaves its handle here; the context's own
    calls free it.
    """

    def __init__(self) -> None:
        self.waiting: deque[Entry] = deque()
        self.kept: list[Entry] = []  # used by blocks whose objects are gone as well: until the context is closed

    def add(self, free: Callable[[Any], int], handle: Any, needs: object, again: bool) -> None:
        """``needs`` stays alive until ``free(handle)`` has; ``again``: if that finds it busy, try later."""
        self.waiting.append((free, handle, needs, again))

    def sweep(self) -> None:
        """Frees what can be freed by now."""
        for _ in range(len(self.waiting)):
            try:
                entry = self.waiting.popleft()
            except IndexError:  # another thread sweeps, too
                return
            free, handle, _, again = entry
            if free(handle) == lib.TC_ERR_BUSY:
                (self.waiting if again else self.kept).append(entry)
