"""Notified RMA: puts and gets that tell the other side by themselves that they are there.

A receiver allocates or registers memory, makes a signal, and issues blocks of the memory to its peers; they travel
with any call. A sender opens them as targets, builds a plan of puts and starts it as often as it likes; the receiver
waits for the signal, reads, and re-arms it. No handshake before, no synchronisation after.
"""

from topocomm.rma.capabilities import Capability, capabilities, report
from topocomm.rma.context import Context, Faults, Limits, Stats
from topocomm.rma.errors import (
    BlockError,
    BusyError,
    FreedError,
    KindError,
    LimitError,
    NotProvenError,
    PeerLost,
    RangeError,
    RmaError,
    StaleBlockError,
    SurplusError,
    TransportError,
    UnsupportedError,
    WaitTimeout,
)
from topocomm.rma.exchange import Exchange, Part
from topocomm.rma.memory import Block, BlockHandle, Memory, Target
from topocomm.rma.patterns import alltoallv, halo, neighbour_alltoall, sendrecv
from topocomm.rma.plan import Plan
from topocomm.rma.proof import prove_rounds
from topocomm.rma.signal import Event, Signal, SignalState, wait_any
from topocomm.rma.win import Win

__all__ = [
    "Block",
    "BlockError",
    "BlockHandle",
    "BusyError",
    "Capability",
    "Context",
    "Event",
    "Exchange",
    "Faults",
    "FreedError",
    "KindError",
    "LimitError",
    "Limits",
    "Memory",
    "NotProvenError",
    "Part",
    "PeerLost",
    "Plan",
    "RangeError",
    "RmaError",
    "Signal",
    "SignalState",
    "StaleBlockError",
    "Stats",
    "SurplusError",
    "Target",
    "TransportError",
    "UnsupportedError",
    "WaitTimeout",
    "Win",
    "alltoallv",
    "capabilities",
    "halo",
    "neighbour_alltoall",
    "prove_rounds",
    "report",
    "sendrecv",
    "wait_any",
]
