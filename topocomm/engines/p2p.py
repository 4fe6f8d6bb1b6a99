"""Engine ``p2p``: the messages of a plan as mpi4py sends and receives on a private communicator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpi4py import MPI

from topocomm.errors import Error
from topocomm.plan import Message, Plan, PlanRound, Reduction
from topocomm.plan.moves import Regions
from topocomm.schedule import Combine

__all__ = ["Carrier", "run"]

_MAX_COUNT = 1 << 30
"""Elements reduced by one call: MPI libraries before MPI-4 count them in 31 bits."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """What carries the messages of one communicator: a communicator, its rank of every member, and a first tag.

    Messages between two ranks match in the order of the rounds, so one tag is enough for a schedule.
    """

    comm: MPI.Intracomm
    ranks: Sequence[int]
    tag: int


def _wrong_length(carrier: Carrier, m: Message, found: int) -> Error:
    rank = carrier.ranks.index(carrier.comm.rank)
    return Error(
        f"rank {rank}: a message from rank {m.peer} has {found} bytes, needs {m.nbytes}; "
        "the ranks called the collective with different counts or types"
    )


def _transfer(carrier: Carrier, rnd: PlanRound, regions: Regions, status: MPI.Status) -> None:
    """All messages of a round. One each way, the common case, takes a single blocking call."""
    sends, recvs = rnd.sends, rnd.recvs
    comm, ranks, tag = carrier.comm, carrier.ranks, carrier.tag
    if len(sends) == 1 and len(recvs) == 1:
        s, r = sends[0], recvs[0]
        comm.Sendrecv(s.view(regions), ranks[s.peer], tag, r.view(regions), ranks[r.peer], tag, status)
        if status.count != r.nbytes:
            raise _wrong_length(carrier, r, status.count)
    elif len(recvs) == 1 and not sends:
        r = recvs[0]
        comm.Recv(r.view(regions), ranks[r.peer], tag, status)
        if status.count != r.nbytes:
            raise _wrong_length(carrier, r, status.count)
    elif len(sends) == 1 and not recvs:
        s = sends[0]
        comm.Send(s.view(regions), ranks[s.peer], tag)
    elif sends or recvs:
        requests = [comm.Irecv(r.view(regions), ranks[r.peer], tag) for r in recvs]
        requests += [comm.Isend(s.view(regions), ranks[s.peer], tag) for s in sends]
        statuses = [MPI.Status() for _ in requests]
        MPI.Request.Waitall(requests, statuses)
        for r, st in zip(recvs, statuses, strict=False):
            if st.count != r.nbytes:
                raise _wrong_length(carrier, r, st.count)


def _reduce(red: Reduction, regions: Regions, op: MPI.Op, datatype: MPI.Datatype) -> None:
    for move in red.gather:
        move.run(regions)
    received, held = red.received.view(regions), red.held.view(regions)
    for first in range(0, red.count, _MAX_COUNT):
        count = min(_MAX_COUNT, red.count - first)
        piece = slice(first * len(held) // red.count, (first + count) * len(held) // red.count)
        if red.order is Combine.BEFORE:
            op.Reduce_local([received[piece], count, datatype], [held[piece], count, datatype])
        else:
            op.Reduce_local([held[piece], count, datatype], [received[piece], count, datatype])
            held[piece] = received[piece]
    for move in red.scatter:
        move.run(regions)


def run(carrier: Carrier, plan: Plan, regions: Regions, op: MPI.Op, datatype: MPI.Datatype) -> None:
    """Run one rank's plan.

    Parameters
    ----------
    carrier
        Carries nothing else with its tag between its ranks.
    regions
        Send buffer, receive buffer and scratch memory, as bytes.
    op, datatype
        Of a reduction; ``datatype`` describes the elements that the plan counts.

    Raises
    ------
    Error
        If a message has not the length that the plan expects.
    mpi4py.MPI.Exception
        Whatever MPI raises.
    """
    status = MPI.Status()
    for move in plan.load:
        move.run(regions)
    for rnd in plan.rounds:
        for move in rnd.pack:
            move.run(regions)
        for move in rnd.local:
            move.run(regions)
        _transfer(carrier, rnd, regions, status)
        for move in rnd.unpack:
            move.run(regions)
        for red in rnd.reductions:
            _reduce(red, regions, op, datatype)
    for move in plan.store:
        move.run(regions)
