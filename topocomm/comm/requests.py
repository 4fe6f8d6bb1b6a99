"""Requests of calls that topocomm serves itself: mpi4py's requests, with a handle of MPI's that stands for the call.

MPI's own waits take them, in lists with any others: the handle is a generalized request, which the watch
(:mod:`topocomm.engines.requests`) completes. The methods of one request, and :meth:`Request.Waitall`, drive the call
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

from mpi4py import MPI

from topocomm.comm._recogniser import Driven, know_requests
from topocomm.engines.requests import Work
from topocomm.library import handle

__all__ = ["Prequest", "Request"]

_NULL = handle(MPI.REQUEST_NULL)

know_requests(MPI._addressof(MPI.REQUEST_NULL) - id(MPI.REQUEST_NULL), MPI._sizeof(MPI.Request), _NULL)


def _say_nothing(status: MPI.Status | None) -> None:
    """Fill a status as that of a request which received nothing."""
    if status is None:
        return
    status.source, status.tag, status.error = MPI.ANY_SOURCE, MPI.ANY_TAG, MPI.SUCCESS
    status.Set_elements(MPI.BYTE, 0)
    status.Set_cancelled(False)


class _Ours(Driven):
    """What requests of both kinds have: a work, which is driven when they are waited for."""

    _work: Work | None = None
    """What was started last; None: nothing was."""

    def _begin(self, work: Work) -> None:
        self._give_handle(work.start())
        self._work = work
        self._bind(*work.addresses)

    def _over(self) -> None:
        """Let go of a work whose end is seen."""
        self._give_handle(_NULL)

    def _current(self) -> Work | None:
        """Return the work under way; let go of one whose end a wait of MPI's has seen."""
        work = self._work
        if work is None or work.is_under_way:
            return work
        work.over()
        self._over()
        return None

    def _Wait(self, status: MPI.Status | None = None) -> Literal[True]:
        """MPI_Wait. Raises what the blocking call raises."""
        work = self._current()
        if work is not None:
            self._see(work, work.wait)
        _say_nothing(status)
        return True

    def _Test(self, status: MPI.Status | None = None) -> bool:
        """MPI_Test. Raises what the blocking call raises."""
        work = self._current()
        if work is not None and not self._see(work, work.test):
            return False
        _say_nothing(status)
        return True

    def _see(self, work: Work, call: Callable[[], bool | None]) -> bool:
        """Test or wait; let go of the work if that saw its end. Return False if it is under way."""
        try:
            return call() is not False
        finally:
            if not work.is_under_way:  # it is where a signal's handler has raised
                self._over()

    def _fail(self, status: int) -> None:
        """Raise what ended the call, which a wait or test in C has seen with this status."""
        work = self._work
        assert work is not None
        error = work.failure(status)
        self._over()
        raise error

    def wait(self, status: MPI.Status | None = None) -> Any:
        """As :meth:`Wait`; returns None."""
        self.Wait(status)

    def test(self, status: MPI.Status | None = None) -> tuple[bool, Any]:
        """As :meth:`Test`; returns also None."""
        return self.Test(status), None

    def Get_status(self, status: MPI.Status | None = None) -> bool:
        """MPI_Request_get_status: tell whether the call is complete, and leave it to be waited for."""
        work = self._current()
        if work is not None and not work.is_complete:
            return False
        _say_nothing(status)
        return True

    get_status = Get_status

    def Cancel(self) -> None:
        """Raise MPI.Exception: MPI cancels no collective."""
        raise MPI.Exception(MPI.ERR_REQUEST)

    cancel = Cancel

    def Free(self) -> None:
        """Wait for the call no more: it goes on, and its buffers are kept until it is complete."""
        work = self._current()
        if work is not None:
            work.drop()
            self._over()

    def free(self) -> None:
        """As :meth:`Free`."""
        self.Free()

    def __del__(self) -> None:
        if self._current() is not None:
            self.Free()

    @classmethod
    def Waitall(cls, requests: Sequence[MPI.Request], statuses: list[MPI.Status] | None = None) -> Literal[True]:
        """MPI_Waitall: first for requests of topocomm's, then for all others together."""
        ours = [request for request in requests if isinstance(request, _Ours)]
        if statuses is None:
            for request in ours:
                request.Wait()
        return MPI.Request.Waitall(requests, statuses)


class Request(_Ours):
    """A non-blocking call. Made by ``I…``."""

    @classmethod
    def of(cls, work: Work) -> Self:
        """Start a work; return the request that waits for it."""
        made = cls()
        made._begin(work)
        return made

    def _over(self) -> None:
        work = self._work
        super()._over()
        self._bind(0, 0, 0, 0, 0, 0)
        self._work = None
        if work is not None and not work.is_under_way:
            work.retire()


class Prequest(_Ours, MPI.Prequest):
    """A persistent call. Made by ``…_init``; started, waited for, and started again."""

    _works: Any = None
    """Gives the work of each start; None: the request was freed."""

    @classmethod
    def of(cls, works: Callable[[], Work]) -> Self:
        """Return a request that has not been started."""
        made = cls()
        made._works = works
        return made

    def Start(self) -> None:
        """MPI_Start. Raises Error if the call is under way, MPI.Exception if the request was freed."""
        self._start()

    def _Start(self) -> None:
        if self._works is None:
            raise MPI.Exception(MPI.ERR_REQUEST)
        work = self._current()
        self._begin(self._works() if work is None else work)  # which raises if it is under way

    @classmethod
    def Startall(cls, requests: list[MPI.Prequest]) -> None:
        """MPI_Startall, of requests of topocomm's and others, in their order."""
        for request in requests:
            request.Start()

    def Free(self) -> None:
        """MPI_Request_free. A call under way goes on, and its buffers are kept until it is complete."""
        super().Free()
        self._bind(0, 0, 0, 0, 0, 0)
        self._works = None

    def __bool__(self) -> bool:
        return self._works is not None

    def __eq__(self, other: object) -> bool:
        return other is self if self else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = MPI.Request.__hash__
