"""Messages between two ranks: latency, bandwidth, bidirectional bandwidth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from topocomm.cli.bench.columns import Result
from topocomm.cli.bench.data import POISON, Pattern
from topocomm.cli.bench.osu import Datatype
from topocomm.cli.bench.timing import Repeats, VerificationError, percentiles_of

__all__ = ["Pair", "measure_messages", "pair_of"]

_PING, _PONG, _ACK = 1, 2, 3


@dataclass(frozen=True)
class Pair:
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
        """Put data into the send buffer, poison into the receive buffer."""
        self.send[:] = self.pattern.of(self.comm.rank, iteration)
        self.receive[:] = POISON

    def mistake(self, iteration: int) -> str | None:
        """Say what is wrong with the message that came from the peer; None if it is right."""
        wanted = self.pattern.of(self.peer, iteration)
        wrong = np.flatnonzero(self.receive != wanted)
        if not len(wrong):
            return None
        i = wrong[0]
        return f"rank {self.comm.rank}: element {i} is {self.receive[i]}, must be {wanted[i]} ({len(wrong)} wrong)"


def _latency(pair: Pair) -> None:
    """Send one message to the peer and one back: twice the latency."""
    comm, send, receive = pair.comm, [pair.send, pair.type], [pair.receive, pair.type]
    if comm.rank == 0:
        comm.Send(send, 1, _PING)
        comm.Recv(receive, 1, _PONG)
    else:
        comm.Recv(receive, 0, _PING)
        comm.Send(send, 0, _PONG)


def _bw(pair: Pair) -> None:
    """Send a window of messages from rank 0, answered by one empty message."""
    comm, acknowledgement = pair.comm, bytearray(4)
    if comm.rank == 0:
        MPI.Request.Waitall([comm.Isend([pair.send, pair.type], 1, _PING) for _ in range(pair.window)])
        comm.Recv([acknowledgement, MPI.CHAR], 1, _ACK)
    else:
        MPI.Request.Waitall([comm.Irecv([pair.receive, pair.type], 0, _PING) for _ in range(pair.window)])
        comm.Send([acknowledgement, MPI.CHAR], 0, _ACK)


def _bibw(pair: Pair) -> None:
    """Send a window of messages in both directions at once."""
    comm, peer, window = pair.comm, pair.peer, range(pair.window)
    receives = [comm.Irecv([pair.receive, pair.type], peer, _PING) for _ in window]
    sends = [comm.Isend([pair.send, pair.type], peer, _PING) for _ in window]
    MPI.Request.Waitall(sends + receives)


_EXCHANGES: dict[str, tuple[Callable[[Pair], None], tuple[int, ...]]] = {
    "latency": (_latency, (0, 1)),
    "bw": (_bw, (1,)),
    "bibw": (_bibw, (0, 1)),
}
"""Benchmark → the exchange that is timed, and the ranks that receive data in it."""


def pair_of(comm: MPI.Intracomm, datatype: Datatype, size: int, window: int) -> Pair:
    """Make the buffers for messages of `size` bytes, `window` of them in flight, between the two ranks of `comm`."""
    elements = size // datatype.itemsize
    send, receive = np.zeros(elements, datatype.dtype), np.zeros(elements, datatype.dtype)
    return Pair(comm, window, Pattern(elements, datatype), send, receive, getattr(MPI, datatype.attribute))


def measure_messages(name: str, pair: Pair, repeats: Repeats, percents: tuple[int, ...]) -> Result:
    """Exchange messages as the benchmark `name` does: microseconds, or 10**6 bytes per second.

    The numbers are those of rank 0, as in OSU. Raises VerificationError, on both ranks.
    """
    exchange, receivers = _EXCHANGES[name]
    comm = pair.comm
    seconds = []
    for iteration in range(repeats.warmup + repeats.iterations):
        verified = repeats.every or iteration == 0
        if verified:
            for _ in range(repeats.settle):
                exchange(pair)
            pair.prepare(iteration)
            comm.Barrier()
        start = perf_counter()
        exchange(pair)
        seconds.append(perf_counter() - start)
        if verified:
            _verify(pair, iteration, receivers)
    pair.prepare(repeats.warmup + repeats.iterations)
    comm.Barrier()
    exchange(pair)
    _verify(pair, repeats.warmup + repeats.iterations, receivers)
    return _result(name, np.array(seconds[repeats.warmup :]), pair, percents)


def _result(name: str, seconds: NDArray[np.float64], pair: Pair, percents: tuple[int, ...]) -> Result:
    if name == "latency":
        values = seconds * 1e6 / 2
        average = float(values.mean())
    else:
        megabytes = pair.send.nbytes / 1e6 * pair.window * (2 if name == "bibw" else 1)
        values = megabytes / seconds
        average = float(megabytes * len(seconds) / seconds.sum())
    return Result(average, float(values.min()), float(values.max()), percentiles_of(values, percents))


def _verify(pair: Pair, iteration: int, receivers: tuple[int, ...]) -> None:
    own = pair.mistake(iteration) if pair.comm.rank in receivers else None
    mistakes = [text for text in pair.comm.allgather(own) if text]
    if mistakes:
        raise VerificationError("; ".join(mistakes))
