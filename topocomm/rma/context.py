"""The context: one rank's end of notified RMA, connected to the other ranks of a communicator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from topocomm.rma import errors
from topocomm.rma._lib import CARRIED, check, ffi, lib, text
from topocomm.rma.handles import Dropped, Owner
from topocomm.rma.leaving import OPEN, Meetings, mpi_ended
from topocomm.rma.memory import Block, BlockHandle, Memory, Target, tickets_for
from topocomm.rma.opening import SLICE, Faults, Limits, Opening, Stats, difference, seconds, whole
from topocomm.rma.overlap import Issued
from topocomm.rma.plan import Plan
from topocomm.rma.sessions import mpi_comm
from topocomm.rma.signal import Signal
from topocomm.rma.strides import Array, as_array
from topocomm.rma.transports import offered, why_absent

__all__ = ["Context", "Faults", "Limits", "Stats"]

LARGEST_MEMORY = 2**46  # bytes
LOST = 1.0  # seconds after which a flush that does not end looks at all peers
USUAL = Limits()


class Context(Owner):
    """One rank's end of notified RMA; all ranks of ``comm`` open it together.

    ``comm`` needs ``rank``, ``size``, ``allgather`` and ``alltoall``, like mpi4py's.

    ``transports``: those allowed, in any order, of ``shm``, ``ofi``, ``mpi``; each peer gets the first of that list
    (in this order) that reaches it; ``TOPOCOMM_RMA_TRANSPORTS=shm,mpi`` changes the default. ``checked`` proves each
    put safe, or refuses it. ``timeout`` limits, in seconds, each wait that names no limit of its own. ``provider``,
    ``nics`` and ``weights`` choose libfabric's provider, the interfaces to stripe over, and their relative speeds;
    messages of ``stripe_from`` bytes and more are striped. ``progress_thread`` drives the network while the program
    computes, and takes a core for it. ``transports``, ``checked`` and ``provider`` are the same on all ranks.

    Leave it by ``with``, on all ranks together, or close it. What is still open when the program ends is closed a
    second later at most, and at once after an uncaught error; a child that the program forks has no context.

    Errors, on every rank: RangeError or KindError for a setting that cannot be, or that differs between ranks;
    TransportError if some rank cannot reach another.
    """

    def __init__(
        self,
        comm: Any,
        *,
        transports: Sequence[str] | None = None,
        checked: bool = False,
        timeout: float = 120.0,
        faults: Faults | None = None,
        limits: Limits = USUAL,
        provider: str = "",
        nics: Sequence[str] = (),
        weights: Sequence[float] = (),
        stripe_from: int = 65536,
        progress_thread: bool = False,
    ) -> None:
        super().__init__(comm, limits, bool(checked))
        self.messages: Any = None
        who = f"Context on rank {self.rank}"
        problem: errors.RmaError | None = None
        settings: Opening | None = None
        try:
            self.timeout = seconds(timeout, who)
            settings = Opening.of(
                who, self.rank, self.size, transports=transports, checked=checked, faults=faults, limits=limits,
                provider=provider, nics=nics, weights=weights, stripe_from=stripe_from,
                progress_thread=progress_thread,
            )  # fmt: skip
        except errors.RmaError as found:
            problem = found
        rows = self.comm.allgather((str(problem) if problem else "", settings.compared() if settings else {}))
        if problem:
            raise problem
        self._agree([row[0] for row in rows])
        differs = difference([row[1] for row in rows])
        if differs:
            raise errors.RangeError(f"Context: {differs}")
        assert settings is not None
        self._open(settings)

    def _open(self, settings: Opening) -> None:
        """Try every step at which one rank may fail, then agree: all ranks fail together or none does."""
        options, use_messages = settings.options, "mpi" in settings.transports
        handle = ffi.new("tc_context **")
        status = lib.tc_context_open(options, handle)
        problem = f"rank {self.rank} cannot open its context: {text(status)}" if status else ""
        self.handle = handle[0]
        if "ofi" in settings.transports and status in (0, lib.TC_ERR_UNSUPPORTED):
            problem = self._without_ofi(settings) or problem
        if use_messages and options.progress_thread and not problem:
            from topocomm.rma.messages import too_few_threads

            problem = too_few_threads(self.rank)
        self._agree(self.comm.allgather(problem))
        OPEN.add(self)
        if use_messages:
            from topocomm.rma.messages import MpiCarrier

            self.messages = MpiCarrier(self)
        if settings.faults:
            status = lib.tc_context_faults(self.handle, ffi.new("tc_faults *", settings.faults))
            problem = f"rank {self.rank}: faults {settings.faults}: {text(status)}" if status else ""
        room, length = ffi.new("unsigned char[]", lib.TC_ADDRESS_BYTES), ffi.new("size_t *")
        if not problem:
            status = lib.tc_context_address(self.handle, room, lib.TC_ADDRESS_BYTES, length)
            problem = f"rank {self.rank} has no address: {text(status)}" if status else ""
        addresses = self.comm.allgather((problem, bytes(ffi.buffer(room, length[0]))))
        self._agree([p for p, _ in addresses])
        self._agree(self.comm.allgather(self._connect([address for _, address in addresses])))
        mpi = mpi_comm(self.comm)
        if mpi is not None:
            from topocomm.rma.driving import drive_mpi

            drive_mpi(self, mpi)

    def _without_ofi(self, settings: Opening) -> str:
        """Say why ofi is absent if nothing else is allowed, or a provider or NIC is named; else an empty text."""
        if self.handle and not settings.provider and not settings.nics:
            return ""
        why = why_absent(self.handle, settings)
        return f"rank {self.rank} cannot open its context: ofi is absent: {why}" if why else ""

    def _connect(self, addresses: Sequence[bytes]) -> str:
        for peer, address in enumerate(addresses):
            status = lib.tc_context_connect(self.handle, peer, address, len(address))
            if status:
                return f"rank {self.rank} cannot reach rank {peer}: {text(status)} ({self._absent()})"
        return ""

    def _absent(self) -> str:
        return "; ".join(f"{c.transport}: {c.note}" for c in offered(self.handle) if not c.present)

    def _agree(self, problems: Sequence[str]) -> None:
        found = [p for p in problems if p]
        if found:
            self.close()
            raise errors.TransportError("; ".join(found[:4]) + (f"; and {len(found) - 4} more" if found[4:] else ""))

    # --- memory, signals, plans ---------------------------------------------------------------------------------
    def allocate(self, shape: int | Sequence[int], dtype: DTypeLike = np.float64) -> Memory:
        """Allocate memory of ``shape`` elements, zero at first, that the peers of this node can map.

        Errors: RangeError for a shape or dtype that cannot be; LimitError if the system gives no memory; FreedError.
        """
        who = f"allocate on rank {self.rank}"
        self.usable(who)
        try:
            kind = np.dtype(dtype)
        except TypeError as error:
            raise errors.KindError(f"{who}: dtype {dtype!r}: {error}") from None
        if kind.hasobject or kind.itemsize == 0:
            raise errors.RangeError(f"{who}: dtype {kind} cannot be transferred")
        lengths = tuple(shape) if isinstance(shape, (Sequence, np.ndarray)) else (shape,)
        lengths = tuple(whole(n, f"a length of shape {shape!r}", 0, LARGEST_MEMORY, who) for n in lengths)
        nbytes = math.prod(lengths) * kind.itemsize
        if nbytes > LARGEST_MEMORY:
            raise errors.RangeError(
                f"{who}: shape {shape} of {kind} has {nbytes} bytes, at most {LARGEST_MEMORY} can be"
            )
        self.dropped.sweep()
        out, base, size = ffi.new("tc_memory **"), ffi.new("void **"), ffi.new("uint64_t *")
        status = lib.tc_memory_allocate(self.handle, nbytes, out)
        if status == lib.TC_ERR_NO_MEMORY:
            raise errors.LimitError(f"{who}: the operating system gives no memory or descriptor for {nbytes} bytes")
        check(status, who)
        check(lib.tc_memory_base(out[0], base, size), who)
        check(lib.tc_memory_keep(out[0]), who)
        array = _mapped(base[0], int(size[0]))[:nbytes]
        return Memory(self, out[0], array.view(kind).reshape(lengths), True)

    def register(self, array: Array) -> Memory:
        """Register a contiguous, writeable array of the caller. Errors: RangeError, LimitError, FreedError."""
        who = f"register on rank {self.rank}"
        self.usable(who)
        array = as_array(array, who)
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            raise errors.RangeError(f"{who}: the array is not contiguous; register the array it is a slice of")
        if array.dtype.hasobject or not array.flags.writeable:
            raise errors.RangeError(f"{who}: the array must be writeable and hold no Python objects")
        self.dropped.sweep()
        out = ffi.new("tc_memory **")
        pointer = ffi.cast("void *", int(array.__array_interface__["data"][0]))
        check(lib.tc_memory_register(self.handle, pointer, array.nbytes, out), who)
        return Memory(self, out[0], array, False)

    def signal(self, kind: str = "counted") -> Signal:
        """Make a signal; see :class:`Signal` for the kinds. Errors: RangeError, LimitError, FreedError."""
        return Signal(self, kind)

    def open(self, ticket: BlockHandle) -> Target:
        """Open a block that a peer issued to this rank. Errors: BlockError, StaleBlockError, UnsupportedError."""
        return Target(self, ticket)

    def plan(self, completion: str = "local") -> Plan:
        """Make an empty plan; see :class:`Plan`. Errors: RangeError for an unknown ``completion``, FreedError."""
        return Plan(self, completion)

    def exchange(self, blocks: Mapping[int, Sequence[Block]]) -> dict[int, list[Target]]:
        """Send each rank the blocks issued to it; return the targets received, by owner, in order. Collective.

        Errors, on every rank: RangeError for a rank that is not there, BlockError for a block issued to another one,
        KindError for what is no mapping of ranks to lists of blocks.
        """
        who = f"exchange on rank {self.rank}"
        self.usable(who)
        problem: errors.RmaError | None = None
        tickets: list[list[BlockHandle]] = [[] for _ in range(self.size)]
        try:
            tickets = tickets_for(blocks, self.size, who)
        except errors.RmaError as found:
            problem = found
        received = self.comm.alltoall([(str(problem) if problem else "", mine) for mine in tickets])
        if problem:
            raise problem
        others = [words for words, _ in received if words]
        if others:
            raise errors.BlockError("; ".join(others[:4]))
        return {owner: [self.open(t) for t in mine] for owner, (_, mine) in enumerate(received) if mine}

    # --- driving -----------------------------------------------------------------------------------------------
    def flush(self, timeout: float | None = None) -> None:
        """Wait until nothing this rank started is under way. Errors: PeerLost, WaitTimeout.

        ``timeout`` in seconds, by default the context's."""
        who = f"flush on rank {self.rank}"
        self.usable(who)
        limit = self.timeout if timeout is None else seconds(timeout, who)
        start = monotonic()
        end, look = start + limit, start + SLICE
        while True:
            status = lib.tc_context_flush(self.handle, min(SLICE, max(0.0, end - monotonic())))
            owners = self._owners_under_way()
            if status == 0 and not owners:
                return
            if status == lib.TC_ERR_PEER_LOST:
                raise self.peer_lost(who)
            if status not in (0, lib.TC_ERR_TIMEOUT):
                check(status, who)
            self.progress()
            if monotonic() >= look:
                look = monotonic() + SLICE
                waited = monotonic() - start > LOST  # for what a transport has under way and no plan knows
                for rank in range(self.size) if waited else owners:
                    if not self.alive(rank):
                        raise self.peer_lost(who, rank)
            if monotonic() >= end:
                raise errors.WaitTimeout(f"{who}: not idle within {limit:g} s")

    def _owners_under_way(self) -> set[int]:
        """List the ranks whose blocks running plans put to or get from; hands over transfers that were held back."""
        self.dropped.sweep()
        running = [c for c in list(self.children) if isinstance(c, Plan) and c.under_way()]
        owners = {t.owner for plan in running for t in plan.targets}
        for _, _, needs, _ in list(self.dropped.waiting):
            if isinstance(needs, tuple):  # a plan's arrays and targets
                owners |= {t.owner for t in needs[1]}
        return owners

    @property
    def stats(self) -> Stats:
        """Counts of messages, pieces and bytes that this rank has handed to its transports."""
        who = f"stats on rank {self.rank}"
        self.usable(who)
        s = ffi.new("tc_stats *")
        check(lib.tc_context_stats(self.handle, s), who)
        return Stats(*(int(getattr(s, f.name)) for f in fields(Stats)))

    # --- the end -----------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Free everything of this context without waiting: flush first where data is under way.

        The peers see this one as lost. Arrays of allocated memory stay readable for as long as they are referred to.
        """
        if not self.handle:
            return
        if self.messages is not None and not self.messages.complete and not mpi_ended():
            lib.tc_context_bye(self.handle)
        if mpi_ended():
            lib.tc_context_hook(self.handle, ffi.NULL, ffi.NULL, 0)
        end = monotonic() + 1.0
        children = list(self.children)
        plans = [c.handle for c in children if isinstance(c, Plan) and c.handle]
        plans += [handle for free, handle, _, _ in self.dropped.waiting.copy() if free is lib.tc_plan_free]
        for plan in plans:
            if lib.tc_plan_free(plan) == lib.TC_ERR_BUSY:
                lib.tc_plan_wait(plan, max(0.0, end - monotonic()))
                lib.tc_plan_free(plan)
        for child in children:
            child.handle = ffi.NULL
        OPEN.discard(self)
        handle, self.handle = self.handle, ffi.NULL
        lib.tc_context_close(handle)  # a progress thread ends here, so what it uses is given back after this
        self.dropped = Dropped()
        self.issued = Issued()
        if self.messages is not None:
            self.messages.release()
        if CARRIED:
            raise CARRIED.pop()

    def forget(self) -> None:
        """Give everything up in a forked child, to whose parent it belongs."""
        lib.tc_context_forked(self.handle)
        for child in list(self.children):
            child.handle = ffi.NULL
        OPEN.discard(self)
        self.handle = ffi.NULL
        self.ended = "belongs to the process that this one was forked from; open one here"
        self.dropped, self.issued = Dropped(), Issued()

    def __enter__(self) -> Context:
        self.usable(f"with a context on rank {self.rank}")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Leave with all ranks; after an error alone: the others see this peer as lost, in waits or on leaving.

        Errors: PeerLost naming a rank that left alone or died; WaitTimeout.
        """
        if not self.handle:
            return
        meetings = Meetings(self)
        try:
            if kind is None:
                self.flush()
                meetings.meet()
                if self.messages is not None:
                    self.messages.finish(meetings.look)
                meetings.meet()
        finally:
            self.close()
            meetings.abandon()


def _mapped(base: Any, size: int) -> Array:
    """View the memory as bytes; it stays mapped until no array refers to it any more."""
    owner = ffi.gc(base, lambda pointer: lib.tc_memory_unmap(pointer, size))
    return np.frombuffer(ffi.buffer(owner, size), np.uint8)
