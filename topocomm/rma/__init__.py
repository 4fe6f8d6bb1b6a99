"""Notified RMA: puts and gets that tell the other side by themselves that they are there.

A receiver allocates or registers memory, makes a signal, and issues blocks of the memory to its peers; they travel
with any call. A sender opens them as targets, builds a plan of puts and starts it as often as it likes; the receiver
waits for the signal, reads, and re-arms it. No handshake before, no synchronisation after.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from topocomm.rma.capability import Capability, capabilities, report
    from topocomm.rma.context import Context, Faults, Limits, Stats
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

_LOADED_WHEN_USED = {
    **dict.fromkeys(("Capability", "capabilities", "report"), "capability"),
    **dict.fromkeys(("Context", "Faults", "Limits", "Stats"), "context"),
    **dict.fromkeys(("Exchange", "Part"), "exchange"),
    **dict.fromkeys(("Block", "BlockHandle", "Memory", "Target"), "memory"),
    **dict.fromkeys(("alltoallv", "halo", "neighbour_alltoall", "sendrecv"), "patterns"),
    **dict.fromkeys(("Event", "Signal", "SignalState", "wait_any"), "signal"),
    **{"Plan": "plan", "prove_rounds": "proof", "Win": "win"},
}
"""Name → the module that has it: whoever needs only the C core does not load them all."""


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_LOADED_WHEN_USED[name]}"), name)
    globals()[name] = found
    return found
