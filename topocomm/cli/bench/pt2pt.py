"""Messages between two ranks: latency, bandwidth, bidirectional bandwidth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from topocomm.cli.bench.data import POISON, Pattern
from topocomm.cli.bench.measure import Effort, VerificationError, percentiles_of
from topocomm.cli.bench.osu import Datatype
from topocomm.cli.bench.table import Result

__all__ = ["Messages", "measure_messages", "messages_of"]

_PING, _PONG, _ACK = 1, 2, 3


@dataclass(frozen=True)
class Messages:
    """Buffers of one message size on one of the two ranks."""

    comm: MPI.Intracomm
    window: int
    pattern: Pattern
    send: NDArray[Any]
    receive: NDArray[Any]
    type: MPI.Datatype

    @property
    def peer(self) -> int:
        return 1 - self.comm.rank

    def prepare(self, iteration: int) -> None:
        """Data into the send buffer, poison into the receive buffer."""
        self.send[:] = self.pattern.of(self.comm.rank, iteration)
        self.receive[:] = POISON

    def mistake(self, iteration: int) -> str | None:
        """What is wrong with the message that came from the peer."""
        wanted = self.pattern.of(self.peer, iteration)
        wrong = np.flatnonzero(self.receive != wanted)
        if not len(wrong):
            return None
        i = wrong[0]
        return f"rank {self.comm.rank}: element {i} is {self.receive[i]}, must be {wanted[i]} ({len(wrong)} wrong)"


def _latency(messages: Messages) -> None:
    """One message to the peer and one back: twice the latency."""
    comm, send, receive = messages.comm, [messages.send, messages.type], [messages.receive, messages.type]
    if comm.rank == 0:
        comm.Send(send, 1, _PING)
        comm.Recv(receive, 1, _PONG)
    else:
        comm.Recv(receive, 0, _PING)
        comm.Send(send, 0, _PONG)


def _bw(messages: Messages) -> None:
    """A window of messages from rank 0, answered by one empty message."""
    comm, acknowledgement = messages.comm, bytearray(4)
    if comm.rank == 0:
        MPI.Request.Waitall([comm.Isend([messages.send, messages.type], 1, _PING) for _ in range(messages.window)])
        comm.Recv([acknowledgement, MPI.CHAR], 1, _ACK)
    else:
        MPI.Request.Waitall([comm.Irecv([messages.receive, messages.type], 0, _PING) for _ in range(messages.window)])
        comm.Send([acknowledgement, MPI.CHAR], 0, _ACK)


def _bibw(messages: Messages) -> None:
    """A window of messages in both directions at once."""
    comm, peer, window = messages.comm, messages.peer, range(messages.window)
    receives = [comm.Irecv([messages.receive, messages.type], peer, _PING) for _ in window]
    sends = [comm.Isend([messages.send, messages.type], peer, _PING) for _ in window]
    MPI.Request.Waitall(sends + receives)


_EXCHANGES: dict[str, tuple[Callable[[Messages], None], tuple[int, ...]]] = {
    "latency": (_latency, (0, 1)),
    "bw": (_bw, (1,)),
    "bibw": (_bibw, (0, 1)),
}
"""Benchmark → the exchange that is timed, and the ranks that receive data in it."""


def messages_of(comm: MPI.Intracomm, datatype: Datatype, size: int, window: int) -> Messages:
    """Messages of `size` bytes, `window` of them in flight, between the two ranks of `comm`."""
    elements = size // datatype.itemsize
    send, receive = np.zeros(elements, datatype.dtype), np.zeros(elements, datatype.dtype)
    return Messages(comm, window, Pattern(elements, datatype), send, receive, getattr(MPI, datatype.attribute))


def measure_messages(name: str, messages: Messages, effort: Effort, percents: tuple[int, ...]) -> Result:
    """Exchange messages as the benchmark `name` does: microseconds, or 10**6 bytes per second.

    The numbers are those of rank 0, as in OSU. Raises VerificationError, on both ranks.
    """
    exchange, receivers = _EXCHANGES[name]
    comm = messages.comm
    seconds = []
    for iteration in range(effort.warmup + effort.iterations):
        verified = effort.every or iteration == 0
        if verified:
            for _ in range(effort.settle):
                exchange(messages)
            messages.prepare(iteration)
            comm.Barrier()
        start = perf_counter()
        exchange(messages)
        seconds.append(perf_counter() - start)
        if verified:
            _verify(messages, iteration, receivers)
    messages.prepare(effort.warmup + effort.iterations)
    comm.Barrier()
    exchange(messages)
    _verify(messages, effort.warmup + effort.iterations, receivers)
    return _result(name, np.array(seconds[effort.warmup :]), messages, percents)


def _result(name: str, seconds: NDArray[np.float64], messages: Messages, percents: tuple[int, ...]) -> Result:
    if name == "latency":
        values = seconds * 1e6 / 2
        average = float(values.mean())
    else:
        megabytes = messages.send.nbytes / 1e6 * messages.window * (2 if name == "bibw" else 1)
        values = megabytes / seconds
        average = float(megabytes * len(seconds) / seconds.sum())
    return Result(average, float(values.min()), float(values.max()), percentiles_of(values, percents))


def _verify(messages: Messages, iteration: int, receivers: tuple[int, ...]) -> None:
    own = messages.mistake(iteration) if messages.comm.rank in receivers else None
    mistakes = [text for text in messages.comm.allgather(own) if text]
    if mistakes:
        raise VerificationError("; ".join(mistakes))
