"""The emulated transport: the C core's messages carried by mpi4py, for peers that share neither memory nor a fabric.

The C core calls back into Python here, where an interrupt (Ctrl-C, a signal's handler that raises) may come after any
call. No message may be lost by that or come twice. So what a call returns that cannot be repeated is bound without a
step of the interpreter between (as the target of a loop, or by unpacking), and what was begun is gone on with by the
next callback. The exception waits in ``CARRIED`` until the C core has returned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mpi4py import MPI

from topocomm.rma._lib import CARRIED, check, ffi, lib
from topocomm.rma.handles import Owner
from topocomm.rma.leaving import LEFT

__all__ = ["MpiCarrier", "too_few_threads"]

KIND = slice(4, 8)  # of a message's header
PUT = 1
TRIES = 3


def too_few_threads(rank: int) -> str:
    """Say what is wrong if a progress thread of ours may not call MPI; else return an empty text."""
    if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
        return ""
    return (
        f"rank {rank}: a progress thread over messages needs MPI.THREAD_MULTIPLE; let mpi4py ask for it "
        "(mpi4py.rc.thread_level), leave out progress_thread, or name other transports"
    )


class MpiCarrier:
    """Sends and receives for one context, on a duplicate of its communicator."""

    def __init__(self, context: Owner) -> None:
        self.context = context
        self.handle = context.handle
        self.comm = context.comm.Dup()
        self.limit = context.limits.outstanding
        self.requests: list[Any] = []  # of sends; each keeps its bytes
        self.status = MPI.Status()
        self.match = partial(self.comm.Improbe, MPI.ANY_SOURCE, MPI.ANY_TAG, self.status)
        self.message: MPI.Message | None = None  # matched, but not handed over yet
        self.data: bytearray | None = None  # its bytes
        self.sent: Any = None  # the request of the latest send
        self.finishing = self.complete = False  # complete: every rank has taken what was sent to it
        self.user = ffi.new_handle(self)
        check(
            lib.tc_context_messages(context.handle, lib.topocomm_send, lib.topocomm_poll, self.user),
            f"messages on rank {context.rank}",
        )

    def send(self, peer: int, data: bytearray) -> int:
        """Start a send, unless ``sent`` is set; a put is held back while too many are under way."""
        if self.sent is None:
            self.requests = [r for r in self.requests if not r.Test()]
            if len(self.requests) >= self.limit and int.from_bytes(data[KIND], "little") == PUT:
                return int(lib.TC_FULL)
            (self.sent,) = map(self.comm.Isend, ([data, MPI.BYTE],), (peer,))
        self.requests.append(self.sent)
        return 0

    def poll(self) -> int:
        """Hand every message that is there to the C core."""
        if self.message is not None:
            self.take(self.message)
        matched = iter(self.match, None)
        for self.message in matched:
            self.take(self.message)
        if self.finishing:
            self.requests = [r for r in self.requests if not r.Test()]
        return 0

    def take(self, message: MPI.Message) -> None:
        """Receive a matched message, unless that is done, and hand it over."""
        if self.data is None:
            self.data = bytearray(self.status.Get_count())
        if message:  # it becomes a null handle when it is received
            message.Recv([self.data, MPI.BYTE])
        take, handle, data, size = lib.tc_message_in, self.handle, ffi.from_buffer(self.data), len(self.data)
        self.message = self.data = None
        take(handle, data, size)

    def finish(self, look: Callable[[], None]) -> None:
        """Complete the sends and go on receiving, as the peers may be sending too; ``look`` raises to give up."""
        self.finishing = True
        while self.requests:
            self.context.progress()
            look()
        self.complete = True

    def release(self) -> None:
        """Free the communicator after the C core's end, which is collective, or leave all to MPI."""
        if self.complete:
            self.comm.Free()
        else:
            LEFT.extend((request,) for request in self.requests)


def _keep(_: object, error: BaseException, __: object) -> None:
    """Keep an interrupt that came before the first line of a callback."""
    CARRIED.append(error)


def _keep_and_send(_: object, error: BaseException, traceback: Any) -> int:
    CARRIED.append(error)
    given = traceback.tb_frame.f_locals
    return _send(given["user"], given["peer"], given["data"], given["size"])


def _send(user: Any, peer: int, data: Any, size: int) -> int:
    """Send for the C core, which calls this."""
    carrier: MpiCarrier = ffi.from_handle(user)
    carrier.sent = None
    for _ in range(TRIES):
        try:
            return carrier.send(peer, bytearray(ffi.buffer(data, size)))
        except MPI.Exception as error:
            CARRIED.append(error)
            break
        except BaseException as error:
            CARRIED.append(error)  # raised by the next poll, when this send is on its way
    return int(lib.TC_ERR_TRANSPORT)


ffi.def_extern("topocomm_send", error=lib.TC_ERR_TRANSPORT, onerror=_keep_and_send)(_send)


@ffi.def_extern(error=lib.TC_ERR_TRANSPORT, onerror=_keep)  # type: ignore[untyped-decorator]
def topocomm_poll(user: Any) -> int:
    """Receive for the C core, which calls this."""
    if CARRIED:
        return int(lib.TC_ERR_TRANSPORT)
    try:
        carrier: MpiCarrier = ffi.from_handle(user)
        return carrier.poll()
    except BaseException as error:
        CARRIED.append(error)
    return int(lib.TC_ERR_TRANSPORT)
