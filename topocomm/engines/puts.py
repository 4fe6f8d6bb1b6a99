"""The process's endpoint of notified puts for engine ``c``: libfabric, opened when a communicator first needs it.

One endpoint serves all communicators of a process, and stays until the process ends: others may put into its memory as
long as they live. What leads to a peer is found out pair by pair, when a program first sends there: where either side
has no libfabric, or a provider that this engine was not tried with, messages go over MPI.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from mpi4py import MPI

from topocomm.rma._core import ffi, lib
from topocomm.rma.errors import RmaError
from topocomm.rma.opening import Faults, Limits, Opening
from topocomm.rma.transports import offered

__all__ = ["KNOWN", "MOST", "Counters", "Endpoint", "endpoint", "numbers"]

KNOWN = ("tcp", "tcp;ofi_rxm")
"""Providers of libfabric that the engine was tried with. Others are used where ``TOPOCOMM_RMA_PROVIDER`` names them."""

MOST = 1 << 26
"""Bytes that others may put into, in a process. A pair takes 512 KiB, and less once a quarter of this is left."""

_LIMITS = Limits(signals=8192, queues=0)
_lock = threading.Lock()
_endpoints: list[Endpoint] = []


@dataclass(frozen=True)
class Counters:
    """Counts of a process since its endpoint was opened."""

    links: int
    """Pairs of processes with memory for each other."""
    memory: int
    """Bytes that others may put into."""
    openings: int
    """Messages of MPI that opened channels."""
    messages: int
    """Messages of programs that this process put."""
    parts: int
    """Puts that these took: a message longer than a quarter of a lane takes several."""
    credits: int
    """Puts besides: that room is free again, where no message said so in time."""


class Endpoint:
    """One process's endpoint of notified puts; ``why``: the reason why it has no network, else empty."""

    def __init__(self, faults: Faults | None = None, most: int = MOST) -> None:
        rank, size = 0, 1
        context, self.provider, self.why = ffi.NULL, "", "processes have no numbers before MPI_Init"
        if MPI.Is_initialized():
            rank, size = MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()
            context, self.provider, self.why = _open(rank, size, faults)
        out = ffi.new("tc_net **")
        if lib.tc_net_open(context, rank, size, most, out) != 0:
            raise MemoryError("no memory for notified puts")
        self.handle = out[0]
        self.context = context

    def counters(self) -> Counters:
        """Return the counts so far."""
        facts = ffi.new("tc_net_facts *")
        lib.tc_net_info(self.handle, facts)
        return Counters(facts.links, facts.memory, facts.openings, facts.messages, facts.parts, facts.credits)


def endpoint(faults: Faults | None = None, most: int = MOST) -> Endpoint:
    """Return this process's endpoint; the first call opens it. Local.

    Parameters
    ----------
    faults
        A simulated network in front, for tests; counts if the call is the first.
    most
        Bytes that others may put into; counts if the call is the first.
    """
    with _lock:
        if not _endpoints:
            _endpoints.append(Endpoint(faults, most))
        return _endpoints[0]


def _open(rank: int, size: int, faults: Faults | None) -> tuple[Any, str, str]:
    """Open a context over libfabric alone; return it, its provider, and why there is none."""
    out, who = ffi.new("tc_context **"), f"notified puts on rank {rank}"
    try:
        settings = Opening.of(
            who, rank, size, transports=("ofi",), checked=False, faults=faults, limits=_LIMITS, provider="", nics=(),
            weights=(), stripe_from=65536, progress_thread=False,
        )  # fmt: skip
    except RmaError as e:
        return ffi.NULL, "", str(e)
    status = lib.tc_context_open(settings.options, out)
    if status != 0:
        return ffi.NULL, "", f"no libfabric: {ffi.string(lib.tc_status_text(status)).decode()}"
    provider = next((c.provider for c in offered(out[0]) if c.transport == "ofi" and c.present), "")
    if not provider or (provider not in KNOWN and not settings.provider):
        lib.tc_context_close(out[0])
        return ffi.NULL, provider, f"provider {provider} of libfabric is not known to this engine"
    if settings.faults:
        lib.tc_context_faults(out[0], ffi.new("tc_faults *", settings.faults))
    return out[0], provider, ""


def numbers(comm: MPI.Intracomm, ranks: list[int]) -> npt.NDArray[np.int32]:
    """Return the rank in MPI.COMM_WORLD of members of ``comm``, given by rank there; -1 where there is none. Local."""
    if not MPI.Is_initialized():
        return np.full(len(ranks), -1, np.int32)
    members, world = comm.Get_group(), MPI.COMM_WORLD.Get_group()
    try:
        found = np.array(MPI.Group.Translate_ranks(members, ranks, world), np.int32)
    finally:
        members.Free()
        world.Free()
    found[found == MPI.UNDEFINED] = -1
    return found
