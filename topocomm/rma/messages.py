"""The emulated transport: the C core's messages carried by mpi4py, for peers that share neither memory nor a fabric.

The C core calls back into Python here, where an interrupt (Ctrl-C, a signal's handler that raises) may come after any
call. No message may be lost by that or come twice, so each step that cannot be repeated is one call whose outcome is in
a list before Python looks for interrupts (``list.extend(map(function, …))``), and what was begun is gone on with by the
next callback. The exception waits in ``CARRIED`` until the C core has returned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from topocomm.rma._lib import CARRIED, check, ffi, lib
from topocomm.rma.leaving import LEFT

if TYPE_CHECKING:
    from topocomm.rma.context import Context

__all__ = ["Messages", "too_few_threads"]

KIND = slice(4, 8)  # of a message's header
PUT = 1
TRIES = 3


def too_few_threads(rank: int) -> str:
    """What is wrong if a progress thread of ours may not call MPI, or nothing."""
    if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
        return ""
    return (
        f"rank {rank}: a progress thread over messages needs MPI.THREAD_MULTIPLE; let mpi4py ask for it "
        "(mpi4py.rc.thread_level), leave out progress_thread, or name other transports"
    )


class Incoming:
    """A message on its way in: matched, received, handed over."""

    def __init__(self) -> None:
        self.matched: list[MPI.Message | None] = []
        self.data: bytearray | None = None
        self.handed: list[int] = []


class Messages:
    """Sends and receives for one context, on a duplicate of its communicator."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.handle = context.handle
        self.comm = context.comm.Dup()
        self.limit = context.limits.outstanding
        self.requests: list[Any] = []  # each keeps its bytes
        self.testing = threading.Lock()  # of the requests, by the progress thread or by finish()
        self.incoming = Incoming()
        self.status = MPI.Status()
        self.complete = False  # every rank has taken what was sent to it
        self.user = ffi.new_handle(self)
        check(
            lib.tc_context_messages(context.handle, lib.topocomm_send, lib.topocomm_poll, self.user),
            f"messages on rank {context.rank}",
        )

    def send(self, peer: int, data: bytearray, sent: list[Any]) -> int:
        """Starts a send, unless it is in ``sent``; a put is held back while too many are under way."""
        if not sent:
            with self.testing:
                self.requests = [r for r in self.requests if not r.Test()]
            if len(self.requests) >= self.limit and int.from_bytes(data[KIND], "little") == PUT:
                return int(lib.TC_FULL)
            sent.extend(map(self.comm.Isend, ([data, MPI.BYTE],), (peer,)))
        with self.testing:
            if not any(request is sent[0] for request in self.requests[-1:]):
                self.requests += sent
        return 0

    def poll(self) -> int:
        """Hands every message that is there to the C core."""
        while True:
            new = self.incoming
            if not new.matched:
                new.matched.extend(map(self.comm.Improbe, (MPI.ANY_SOURCE,), (MPI.ANY_TAG,), (self.status,)))
            message = new.matched[0]
            if message is None:
                new.matched.clear()
                return 0
            if new.data is None:
                new.data = bytearray(self.status.Get_count(MPI.BYTE))
            if message != MPI.MESSAGE_NULL:  # which it becomes when it is received
                message.Recv([new.data, MPI.BYTE])
            if not new.handed:
                size = len(new.data)
                new.handed.extend(map(lib.tc_message_in, (self.handle,), (ffi.from_buffer(new.data),), (size,)))
            self.incoming = Incoming()

    def finish(self, look: Callable[[], None]) -> None:
        """Completes the sends, and goes on receiving: the peers may be doing the same. ``look`` raises when it is time
        to give up.
        """
        while self.requests:
            with self.testing:
                self.requests = [r for r in self.requests if not r.Test()]
            self.context.progress()
            look()
        self.complete = True

    def release(self) -> None:
        """After the C core's end: gives the communicator back, which is collective, or leaves all to MPI."""
        if self.complete:
            self.comm.Free()
        else:
            LEFT.extend((request,) for request in self.requests)


def _keep(_: object, error: BaseException, __: object) -> None:
    """An interrupt that came before the first line of a callback."""
    CARRIED.append(error)


def _keep_and_send(_: object, error: BaseException, traceback: Any) -> int | None:
    CARRIED.append(error)
    given = traceback.tb_frame.f_locals
    return _send(given["user"], given["peer"], given["data"], given["size"])


def _send(user: Any, peer: int, data: Any, size: int) -> int:
    sent: list[Any] = []
    for _ in range(TRIES):
        try:
            carrier: Messages = ffi.from_handle(user)
            return carrier.send(peer, bytearray(ffi.buffer(data, size)), sent)
        except MPI.Exception as error:
            CARRIED.append(error)
            break
        except BaseException as error:
            CARRIED.append(error)  # raised by the next poll, when this send is on its way
    return int(lib.TC_ERR_TRANSPORT)


@ffi.def_extern(error=lib.TC_ERR_TRANSPORT, onerror=_keep_and_send)  # type: ignore[untyped-decorator]
def topocomm_send(user: Any, peer: int, data: Any, size: int) -> int:
    """Called by the C core to send."""
    return _send(user, peer, data, size)


@ffi.def_extern(error=lib.TC_ERR_TRANSPORT, onerror=_keep)  # type: ignore[untyped-decorator]
def topocomm_poll(user: Any) -> int:
    """Called by the C core to receive."""
    if CARRIED:
        return int(lib.TC_ERR_TRANSPORT)
    try:
        carrier: Messages = ffi.from_handle(user)
        return carrier.poll()
    except BaseException as error:
        CARRIED.append(error)
    return int(lib.TC_ERR_TRANSPORT)
