"""The emulated transport: the C core's messages carried by mpi4py, for peers that share neither memory nor a fabric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from topocomm.rma._lib import check, ffi, lib

if TYPE_CHECKING:
    from topocomm.rma.context import Context

__all__ = ["Messages", "too_few_threads"]

KIND = slice(4, 8)  # of a message's header
PUT = 1


def too_few_threads(rank: int) -> str:
    """What is wrong if a progress thread of ours may not call MPI, or nothing."""
    if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
        return ""
    return (
        f"rank {rank}: a progress thread over messages needs MPI.THREAD_MULTIPLE; let mpi4py ask for it "
        "(mpi4py.rc.thread_level), leave out progress_thread, or name other transports"
    )


class Messages:
    """Sends and receives for one context, on a duplicate of its communicator."""

    def __init__(self, context: Context) -> None:
        self.handle = context.handle
        self.comm = context.comm.Dup()
        self.limit = context.limits.outstanding
        self.requests: list[tuple[Any, bytearray]] = []
        self.user = ffi.new_handle(self)
        check(
            lib.tc_context_messages(context.handle, lib.topocomm_send, lib.topocomm_poll, self.user),
            f"messages on rank {context.rank}",
        )

    def send(self, peer: int, data: bytearray) -> int:
        """Starts a send; a put is held back while too many are under way."""
        self.requests = [(r, d) for r, d in self.requests if not r.Test()]
        if len(self.requests) >= self.limit and int.from_bytes(data[KIND], "little") == PUT:
            return int(lib.TC_FULL)
        self.requests.append((self.comm.Isend([data, MPI.BYTE], peer), data))
        return 0

    def poll(self) -> int:
        """Hands every message that is there to the C core."""
        status = MPI.Status()
        while (message := self.comm.Improbe(status=status)) is not None:
            data = bytearray(status.Get_count(MPI.BYTE))
            message.Recv([data, MPI.BYTE])
            lib.tc_message_in(self.handle, ffi.from_buffer(data), len(data))
        return 0

    def finish(self) -> None:
        """Collective: completes the sends and gives the communicator back."""
        for request, _ in self.requests:
            request.Wait()
        self.requests.clear()
        self.comm.Free()

    def abandon(self) -> None:
        """Alone, after an error: lets go of sends that may never complete; the communicator is left to MPI."""
        for request, _ in self.requests:
            request.Free()
        self.requests.clear()


@ffi.def_extern(error=lib.TC_ERR_TRANSPORT)  # type: ignore[untyped-decorator]
def topocomm_send(user: Any, peer: int, data: Any, size: int) -> int:
    """Called by the C core to send."""
    carrier: Messages = ffi.from_handle(user)
    return carrier.send(peer, bytearray(ffi.buffer(data, size)))


@ffi.def_extern(error=lib.TC_ERR_TRANSPORT)  # type: ignore[untyped-decorator]
def topocomm_poll(user: Any) -> int:
    """Called by the C core to receive."""
    carrier: Messages = ffi.from_handle(user)
    return carrier.poll()
