"""The context: one rank's end of notified RMA, connected to the other ranks of a communicator."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from topocomm.rma import errors
from topocomm.rma._lib import check, ffi, lib, text
from topocomm.rma.layout import Array, as_array
from topocomm.rma.memory import Block, BlockHandle, Memory, Target
from topocomm.rma.overlap import Issued
from topocomm.rma.plan import Plan
from topocomm.rma.signal import Signal

__all__ = ["Context", "Faults", "Limits", "Stats"]

TRANSPORTS = {"shm": lib.TC_SHM, "ofi": lib.TC_OFI, "mpi": lib.TC_MSG}


@dataclass(frozen=True)
class Faults:
    """A simulated network in front of every transport, for tests: everything follows from ``seed``.

    ``pieces``: cut contiguous messages into up to this many (≤ 8); ``delay_us``: hold each piece up to this long;
    ``duplicate``, ``drop``: probabilities of each piece's notification coming twice, of the piece never coming.
    """

    seed: int = 0
    reorder: bool = True
    pieces: int = 3
    delay_us: int = 100
    duplicate: float = 0.1
    drop: float = 0.0


@dataclass(frozen=True)
class Limits:
    """Table sizes of a context. ``outstanding``: operations under way before a start is held back."""

    signals: int = 1024
    blocks: int = 8192
    queues: int = 16
    queue_depth: int = 256
    outstanding: int = 256


@dataclass(frozen=True)
class Stats:
    """Counts since the context was opened; messages, pieces and bytes as handed to transports by this rank.

    ``control``: messages besides those of the user (proofs, requests, acknowledgements); ``strays``: notifications for
    freed blocks; ``surplus``: notifications refused as one too many; ``full``: times back-pressure held a put back.
    """

    messages: int
    pieces: int
    bytes: int
    control: int
    strays: int
    surplus: int
    full: int


class Context:
    """Opened by all ranks of ``comm`` together; ``comm`` needs ``rank``, ``size`` and ``allgather``, like mpi4py's.

    ``transports``: those allowed, in any order, of ``shm``, ``ofi``, ``mpi``; each peer gets the first of that list
    (in this order) that reaches it; ``TOPOCOMM_RMA_TRANSPORTS=shm,mpi`` changes the default. ``checked`` proves each
    put safe, or refuses it. ``timeout`` limits, in seconds, each wait that names no limit of its own. ``provider``,
    ``nics`` and ``weights`` choose libfabric's provider, the interfaces to stripe over, and their relative speeds;
    messages of ``stripe_from`` bytes and more are striped. ``progress_thread`` drives the network while the program
    computes, and takes a core for it.

    Errors: TransportError, on every rank, if some rank cannot reach another.
    """

    def __init__(
        self,
        comm: Any,
        *,
        transports: Sequence[str] | None = None,
        checked: bool = False,
        timeout: float = 120.0,
        faults: Faults | None = None,
        limits: Limits = Limits(),
        provider: str = "",
        nics: Sequence[str] = (),
        weights: Sequence[float] = (),
        stripe_from: int = 65536,
        progress_thread: bool = False,
    ) -> None:
        self.comm = comm
        self.rank: int = comm.rank
        self.size: int = comm.size
        self.checked = checked
        self.timeout = timeout
        self.limits = limits
        self.handle: Any = ffi.NULL
        self.messages: Any = None
        self.signal_numbers = itertools.count(1)
        self.issued = Issued()
        self._children: weakref.WeakSet[Any] = weakref.WeakSet()
        allowed = self._allowed(transports)
        options = ffi.new("tc_options *")
        lib.tc_options_default(options)
        options.rank, options.size = self.rank, self.size
        options.checked, options.progress_thread = checked, progress_thread
        options.transports = sum(TRANSPORTS[name] for name in allowed)
        for field in fields(limits):
            setattr(options, field.name, getattr(limits, field.name))
        options.provider = (provider or os.environ.get("TOPOCOMM_RMA_PROVIDER", "")).encode()
        options.nics = (",".join(nics) or os.environ.get("TOPOCOMM_RMA_NICS", "")).encode()
        options.weights = list(weights)
        options.stripe_from = stripe_from
        self._open(options, "mpi" in allowed, faults)

    @staticmethod
    def _allowed(transports: Sequence[str] | None) -> tuple[str, ...]:
        default = os.environ.get("TOPOCOMM_RMA_TRANSPORTS", "shm,ofi,mpi").split(",")
        names = tuple(transports if transports is not None else default)
        unknown = [name for name in names if name not in TRANSPORTS]
        if unknown or not names:
            raise ValueError(f"transports {names}: choose some of {', '.join(TRANSPORTS)}")
        return names

    def _open(self, options: Any, use_messages: bool, faults: Faults | None) -> None:
        """Everything one rank may fail at is tried, then all ranks agree: they fail together or not at all."""
        handle = ffi.new("tc_context **")
        status = lib.tc_context_open(options, handle)
        problem = f"rank {self.rank} cannot open its context: {text(status)}" if status else ""
        if status == lib.TC_ERR_UNSUPPORTED:
            problem += " (of the transports asked for, ofi is absent; topocomm.rma.report() says why)"
        self.handle = handle[0]
        if use_messages and options.progress_thread and not problem:
            from topocomm.rma.messages import too_few_threads

            problem = too_few_threads(self.rank)
        self._agree(self.comm.allgather(problem))
        if use_messages:
            from topocomm.rma.messages import Messages

            self.messages = Messages(self)
        if faults:
            record = {f.name: getattr(faults, f.name) for f in fields(faults)}
            status = lib.tc_context_faults(self.handle, ffi.new("tc_faults *", record))
            problem = f"rank {self.rank}: faults {faults}: {text(status)}" if status else ""
        room, length = ffi.new("unsigned char[]", lib.TC_ADDRESS_BYTES), ffi.new("size_t *")
        if not problem:
            status = lib.tc_context_address(self.handle, room, lib.TC_ADDRESS_BYTES, length)
            problem = f"rank {self.rank} has no address: {text(status)}" if status else ""
        addresses = self.comm.allgather((problem, bytes(ffi.buffer(room, length[0]))))
        self._agree([p for p, _ in addresses])
        self._agree(self.comm.allgather(self._connect([address for _, address in addresses])))

    def _connect(self, addresses: Sequence[bytes]) -> str:
        for peer, address in enumerate(addresses):
            status = lib.tc_context_connect(self.handle, peer, address, len(address))
            if status:
                return f"rank {self.rank} cannot reach rank {peer}: {text(status)} ({self._absent()})"
        return ""

    def _absent(self) -> str:
        from topocomm.rma.capabilities import capabilities

        return "; ".join(f"{c.transport}: {c.note}" for c in capabilities(self) if not c.present)

    def _agree(self, problems: Sequence[str]) -> None:
        found = [p for p in problems if p]
        if found:
            self.close()
            raise errors.TransportError("; ".join(found[:4]) + (f"; and {len(found) - 4} more" if found[4:] else ""))

    # --- memory, signals, plans ---------------------------------------------------------------------------------
    def allocate(self, shape: int | Sequence[int], dtype: DTypeLike = np.float64) -> Memory:
        """Memory of ``shape`` elements, zero at first, that the peers of this node can map."""
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        out, base, size = ffi.new("tc_memory **"), ffi.new("void **"), ffi.new("uint64_t *")
        who = f"allocate on rank {self.rank}"
        if kind.hasobject or kind.itemsize == 0:
            raise errors.RangeError(f"{who}: dtype {kind} cannot be transferred")
        check(lib.tc_memory_allocate(self.handle, count * kind.itemsize, out), who)
        check(lib.tc_memory_base(out[0], base, size), who)
        array = np.frombuffer(ffi.buffer(base[0], size[0]), np.uint8)[: count * kind.itemsize]
        return Memory(self, out[0], array.view(kind).reshape(shape), True)

    def register(self, array: Array) -> Memory:
        """Registers a contiguous, writeable array of the caller, which must outlive the registration."""
        who = f"register on rank {self.rank}"
        array = as_array(array, who)
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            raise errors.RangeError(f"{who}: the array is not contiguous; register the array it is a slice of")
        if array.dtype.hasobject or not array.flags.writeable:
            raise errors.RangeError(f"{who}: the array must be writeable and hold no Python objects")
        out = ffi.new("tc_memory **")
        pointer = ffi.cast("void *", int(array.__array_interface__["data"][0]))
        check(lib.tc_memory_register(self.handle, pointer, array.nbytes, out), who)
        return Memory(self, out[0], array, False)

    def signal(self, kind: str = "counted") -> Signal:
        """A signal; see :class:`Signal` for the kinds."""
        return Signal(self, kind)

    def open(self, ticket: BlockHandle) -> Target:
        """Opens a block that a peer issued to this rank. Errors: BlockError, StaleBlockError, UnsupportedError."""
        return Target(self, ticket)

    def plan(self, completion: str = "local") -> Plan:
        """An empty plan; see :class:`Plan`."""
        return Plan(self, completion)

    def exchange(self, blocks: Mapping[int, Sequence[Block]]) -> dict[int, list[Target]]:
        """Collective: sends each rank the blocks issued to it; returns the targets received, by owner, in order."""
        tickets = [[b.ticket for b in blocks.get(rank, ())] for rank in range(self.size)]
        received = self.comm.alltoall(tickets)
        return {owner: [self.open(t) for t in mine] for owner, mine in enumerate(received) if mine}

    # --- driving -----------------------------------------------------------------------------------------------
    def progress(self) -> None:
        """Lets transports that need it move data; waits and tests do so by themselves."""
        check(min(0, lib.tc_context_progress(self.handle)), f"progress on rank {self.rank}")

    def flush(self, timeout: float | None = None) -> None:
        """Waits until nothing this rank started is under way."""
        limit = self.timeout if timeout is None else timeout
        status = lib.tc_context_flush(self.handle, limit)
        if status == lib.TC_ERR_TIMEOUT:
            raise errors.WaitTimeout(f"flush on rank {self.rank}: not idle within {limit:g} s")
        check(status, f"flush on rank {self.rank}")

    @property
    def stats(self) -> Stats:
        """What this rank has handed to its transports so far."""
        s = ffi.new("tc_stats *")
        check(lib.tc_context_stats(self.handle, s), f"stats on rank {self.rank}")
        return Stats(*(int(getattr(s, f.name)) for f in fields(Stats)))

    def transport(self, peer: int) -> str:
        """The name of the transport chosen for ``peer``."""
        kind = ffi.new("uint32_t *")
        check(lib.tc_peer_transport(self.handle, peer, kind), f"transport to rank {peer}")
        return next(name for name, number in TRANSPORTS.items() if number == kind[0])

    def alive(self, peer: int) -> bool:
        """False once ``peer`` is known to have died or to have closed its context."""
        return bool(lib.tc_peer_alive(self.handle, peer) == 0)

    def peer_lost(self, who: str, rank: int | None = None) -> errors.PeerLost:
        """The exception for a lost peer; by default the one the C core met last."""
        out = ffi.new("uint32_t *")
        if rank is None or rank < 0:
            rank = int(out[0]) if lib.tc_context_lost(self.handle, out) == 0 else -1
        return errors.PeerLost(f"{who}: rank {rank} died or closed its context", rank)

    def adopt(self, child: Any) -> None:
        """Remembers a handle that closing this context frees."""
        self._children.add(child)

    def close(self) -> None:
        """Frees everything of this context, and waits for nothing: flush first where data is under way."""
        if self.handle == ffi.NULL:
            return
        children = list(self._children)
        for plan in (c for c in children if isinstance(c, Plan)):
            if plan.handle != ffi.NULL and lib.tc_plan_free(plan.handle) != 0:
                lib.tc_plan_wait(plan.handle, 1.0)
                lib.tc_plan_free(plan.handle)
        for child in children:
            child.handle = ffi.NULL
        lib.tc_context_close(self.handle)
        self.handle = ffi.NULL
        self.issued = Issued()
        if self.messages is not None:
            self.messages.abandon()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Leaves together, after an error alone: the others then see this peer as lost."""
        if kind is None and self.handle != ffi.NULL:
            self.flush()
            self._meet()
            if self.messages is not None:
                self.messages.finish()
                self.messages = None
        self.close()

    def _meet(self) -> None:
        """A barrier that goes on driving the network, so that nobody waits for a peer that has stopped calling in."""
        if not hasattr(self.comm, "Ibarrier"):
            self.comm.allgather(None)
            return
        request = self.comm.Ibarrier()
        while not request.Test():
            self.progress()
