"""Recorded calls (``TOPOCOMM_RECORD``): reading them, and what each costs on a machine. No MPI."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topocomm.choose.rule import NATIVE
from topocomm.collectives import COLLECTIVES
from topocomm.errors import Error, TopologyError
from topocomm.topology import Topology

if TYPE_CHECKING:
    from topocomm.choose.modelled import Chooser
    from topocomm.model.machine import Machine

__all__ = ["FORMAT", "VERSION", "Counted", "Priced", "price", "read_trace"]

FORMAT, VERSION = "topocomm-trace", 1
_MOST_BYTES = 1 << 30
"""Bytes of a file beyond which it is no trace."""


@dataclass(frozen=True)
class Counted:
    """A call, and how often it was made."""

    topology: Topology
    collective: str
    nbytes: int
    root: int
    commutative: bool
    served: str
    """What served it: an algorithm, or native."""
    count: int


@dataclass(frozen=True)
class Priced:
    """A call with what it costs in all: by what was chosen, by the MPI library at its best, and at least; seconds."""

    call: Counted
    chosen: str
    seconds: float
    native: float
    bound: float


def read_trace(path: str) -> list[Counted]:
    """Read the calls of a file. Raises Error, with the file's name, if it is none."""
    try:
        if Path(path).stat().st_size > _MOST_BYTES:
            raise Error(f"{path}: more than {_MOST_BYTES} bytes; a trace has a few a call")
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise Error(f"{path}: cannot be read: {e.strerror}") from None
    except (ValueError, RecursionError) as e:
        raise Error(f"{path}: no JSON: {e}") from None
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (FORMAT, VERSION):
        raise Error(f"{path}: no {FORMAT} of version {VERSION}; record one with TOPOCOMM_RECORD={path}")
    try:
        topologies = [Topology(places["levels"], places["ranks"]) for places in document["topologies"]]
        return [_call(row, topologies) for row in document["calls"]]
    except (KeyError, TypeError, ValueError, IndexError, TopologyError) as e:
        raise Error(f"{path}: malformed: {e}") from None


def _call(row: Any, topologies: list[Topology]) -> Counted:
    number, collective, nbytes, root, commutative, served, count = row
    if not all(type(n) is int and n >= 0 for n in (number, nbytes, root, count)):
        raise ValueError(f"call {row} needs whole numbers of at least 0")
    if collective not in COLLECTIVES or type(commutative) is not bool or type(served) is not str:
        raise ValueError(f"call {row} is of no known form")
    topology = topologies[number]
    if root >= topology.size:
        raise ValueError(f"call {row}: the communicator has {topology.size} ranks")
    return Counted(topology, collective, nbytes, root, commutative, served, count)


def price(calls: list[Counted], machine: Machine | None = None) -> list[Priced]:
    """Price every call on a machine (None: assumed), the dearest first. Raises TopologyError if it does not fit."""
    from topocomm.choose.modelled import Chooser
    from topocomm.model.network import Network
    from topocomm.model.optimum import time_bound

    choosers: dict[str, Chooser] = {}
    found = []
    for call in calls:
        key = call.topology.signature
        if key not in choosers:
            choosers[key] = Chooser(call.topology, machine)
        chooser = choosers[key]
        choice = chooser.choose(call.collective, call.nbytes, ordered=not call.commutative)
        bound = time_bound(call.collective, Network(chooser.machine, call.topology), call.nbytes, call.root).seconds
        least = choice.seconds if choice.is_ours else choice.library_seconds
        name = choice.algorithm if choice.is_ours else NATIVE
        found.append(Priced(call, name, call.count * least, call.count * choice.library_seconds, call.count * bound))
    return sorted(found, key=lambda priced: -priced.seconds)
