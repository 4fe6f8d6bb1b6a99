"""Registered memory, the blocks its owner issues, and the targets that their holders open."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np

from topocomm.rma import errors
from topocomm.rma._lib import failure, ffi, lib
from topocomm.rma.handles import Handle, Owner
from topocomm.rma.opening import whole
from topocomm.rma.overlap import REMEDY, Piece
from topocomm.rma.signal import Signal
from topocomm.rma.strides import Array, array_layout, as_array, bounds

__all__ = ["Block", "BlockHandle", "Memory", "Target", "tickets_for"]

HEADER, NUMBER = 184, 8  # bytes for the dtype and for the signal in BlockHandle.to_bytes


@dataclass(frozen=True)
class BlockHandle:
    """A block in the form that travels: send it with any call.

    ``wire`` is the C core's part; ``dtype`` as NumPy's files describe it; ``signal`` the number of the owner's signal.
    """

    wire: bytes
    dtype: str
    signal: int = 0

    BYTES = HEADER + NUMBER + lib.TC_BLOCK_BYTES

    def to_bytes(self) -> bytes:
        """Write as ``BlockHandle.BYTES`` bytes, for calls that send buffers. Errors: RangeError for a long dtype."""
        dtype = self.dtype.encode()
        if len(dtype) > HEADER:
            raise errors.RangeError(
                f"BlockHandle: the description of dtype {self.dtype} has {len(dtype)} bytes, {HEADER} fit; send "
                "the handle itself (pickled), or put the bytes: view(numpy.uint8)"
            )
        return dtype.ljust(HEADER) + self.signal.to_bytes(NUMBER, "little") + self.wire.ljust(lib.TC_BLOCK_BYTES, b"\0")

    @classmethod
    def from_bytes(cls, data: bytes) -> BlockHandle:
        """Read the bytes of :meth:`to_bytes`. Errors: KindError, BlockError."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise errors.KindError(f"BlockHandle.from_bytes: needs bytes, got {type(data).__name__}")
        if len(data) != cls.BYTES:
            raise errors.BlockError(f"BlockHandle.from_bytes: {len(data)} bytes, a block has {cls.BYTES}")
        number = int.from_bytes(data[HEADER : HEADER + NUMBER], "little")
        return cls(bytes(data[HEADER + NUMBER :]), bytes(data[:HEADER]).decode(errors="replace").rstrip(), number)


def _describe(dtype: np.dtype[Any]) -> str:
    """Write a dtype as text, fields and all."""
    described = np.lib.format.dtype_to_descr(dtype)
    return described if isinstance(described, str) else repr(described)


def _read_dtype(text: str, who: str) -> np.dtype[Any]:
    try:
        described = literal_eval(text) if text.startswith(("[", "(")) else text
        return np.dtype(np.lib.format.descr_to_dtype(described))  # type: ignore[arg-type]
    except (TypeError, ValueError, SyntaxError):
        raise errors.BlockError(f"{who}: {text!r} describes no dtype; these bytes are not a block") from None


class Memory(Handle):
    """Memory that peers may reach. ``array`` is the memory itself as a NumPy array.

    Made by :meth:`Context.allocate` (peers of the node map it) or :meth:`Context.register` (an array of yours, reached
    on the node by cross-memory attach). The array, and every view of it, stays readable after the memory is freed and
    the context closed; peers then reach it no more.
    """

    KIND = "memory"

    def __init__(self, context: Owner, handle: Any, array: Array, shared: bool) -> None:
        self.context = context
        self.handle = handle
        self.array = array
        self.shared = shared
        context.adopt(self)

    def __del__(self) -> None:
        if self.handle:
            self.context.dropped.add(lib.tc_memory_free, self.handle, self.array, again=False)

    def block(self, view: Array, signal: Signal, source: int, tag: int = 0) -> Block:
        """Issue ``view``, a slice of this memory, to rank ``source``: the right to one message per epoch.

        ``tag`` (0 to 2³² − 1) names the block in events and errors. Errors: RangeError if the view is not inside this
        memory, is too deeply strided, or, in checked mode, shares bytes with another live block of this context (blocks
        at stream signals may), or if there is no such rank; LimitError; FreedError.
        """
        who = f"block on rank {self.context.rank}"
        self._usable(who)
        source = whole(source, "source", 0, self.context.size - 1, who)
        tag = whole(tag, "tag", 0, 2**32 - 1, who)
        who = f"block for rank {source} on rank {self.context.rank}"
        view = as_array(view, who)
        if not isinstance(signal, Signal):
            raise errors.KindError(f"{who}: signal is {signal!r}, needs one of Context.signal()")
        if signal.context is not self.context:
            raise errors.RangeError(f"{who}: the signal is of another context than the memory")
        signal._usable(who)
        start, end = bounds(self.array)
        first, last = bounds(view)
        if view.size and not (start <= first and last <= end):
            raise errors.RangeError(f"{who}: the view is not part of the {self.array.nbytes} bytes registered here")
        if view.size and not view.flags.writeable:
            raise errors.RangeError(f"{who}: the view is read-only")
        layout = array_layout(view, start, who)
        if not view.size:
            layout.offset = 0
        if self.context.checked and signal.kind != "stream":
            self._refuse_shared(view, tag, who)
        out = ffi.new("tc_block **")
        status = lib.tc_block_issue(self.handle, layout, signal.handle, source, tag, out)
        if status == lib.TC_ERR_LIMIT:
            raise errors.LimitError(f"{who}: {self._full(signal)}")
        if status == lib.TC_ERR_RANGE and signal.kind == "stream":
            raise errors.RangeError(f"{who}: a block of a stream signal must be contiguous, strides {view.strides}")
        self._check(status, who)
        if signal.kind != "stream":
            self.context.issued.add(out[0], Piece(view, signal.number, source, tag))
        return Block(self, out[0], view, signal, source, tag)

    def _full(self, signal: Signal) -> str:
        limits, blocks = self.context.limits, len(signal.sources) + 1
        if signal.kind == "identified" and 4 * blocks > limits.queue_depth:
            return (
                f"{blocks} blocks at one identified signal need a queue of {4 * blocks} events; open the context with "
                f"a larger Limits.queue_depth, a power of two, than {limits.queue_depth}"
            )
        return (
            f"{limits.blocks} blocks exist; free some, or open the context with a larger Limits.blocks (at most 8192)"
        )

    def _refuse_shared(self, view: Array, tag: int, who: str) -> None:
        other = self.context.issued.sharing(view)
        if other is not None:
            raise errors.RangeError(
                f"{who}: tag {tag} shares bytes with the block of tag {other.tag} for rank {other.source}; {REMEDY}"
            )

    def free(self) -> None:
        """Unregister the memory: peers reach it no more. Its arrays stay readable.

        Errors: BusyError while it has blocks; FreedError.
        """
        who = f"free of memory on rank {self.context.rank}"
        status = lib.tc_memory_free(self.handle)
        if status == lib.TC_ERR_BUSY:
            raise errors.BusyError(f"{who}: it has blocks that are not freed; free them first")
        self._check(status, who)
        self.handle = ffi.NULL

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        if self.handle and self.context.handle:
            self.free()


class Block(Handle):
    """A block in its owner's hands; ``ticket`` travels to the rank it was issued to."""

    KIND = "block"

    def __init__(self, memory: Memory, handle: Any, view: Array, signal: Signal, source: int, tag: int) -> None:
        self.context = memory.context
        self.memory = memory
        self.handle = handle
        self.view = view
        self.signal = signal
        signal.sources.append(source)
        self.source = source
        self.tag = tag
        self.context.adopt(self)

    @property
    def ticket(self) -> BlockHandle:
        """The block in the form to send to ``source``."""
        who = f"ticket of the block for rank {self.source} tag {self.tag} on rank {self.context.rank}"
        room, length = ffi.new("unsigned char[]", lib.TC_BLOCK_BYTES), ffi.new("size_t *")
        self._check(lib.tc_block_export(self.handle, room, lib.TC_BLOCK_BYTES, length), who)
        return BlockHandle(bytes(ffi.buffer(room, length[0])), _describe(self.view.dtype), self.signal.number)

    def free(self) -> None:
        """Take the block back: its holder's next start raises StaleBlockError.

        Over a network a message tells the holder; a put that was under way by then may still land, so let the
        holder know before the memory is freed or given to another use. Errors: FreedError; WaitTimeout if the holder
        takes no messages.
        """
        who = f"free of the block for rank {self.source} tag {self.tag} on rank {self.context.rank}"
        end = monotonic() + self.context.timeout
        status = lib.tc_block_free(self.handle)
        while status == lib.TC_FULL:
            if monotonic() >= end:
                raise errors.WaitTimeout(f"{who}: rank {self.source} took no message for {self.context.timeout:g} s")
            self.context.progress()
            status = lib.tc_block_free(self.handle)
        self._check(status, who)
        self.signal.sources.remove(self.source)
        self.context.issued.remove(self.handle)
        self.handle = ffi.NULL

    def __enter__(self) -> Block:
        return self

    def __exit__(self, *_: object) -> None:
        if self.handle and self.context.handle:
            self.free()


def tickets_for(blocks: Any, size: int, who: str) -> list[list[BlockHandle]]:
    """Sort blocks into tickets for each of ``size`` ranks. Errors: RangeError, BlockError, KindError."""
    if not isinstance(blocks, Mapping):
        raise errors.KindError(
            f"{who}: needs a mapping of ranks to lists of blocks, {{rank: [block, …]}}, got {type(blocks).__name__}"
        )
    tickets: list[list[BlockHandle]] = [[] for _ in range(size)]
    for key, mine in blocks.items():
        rank = whole(key, "the rank offered blocks", 0, size - 1, who)
        if not isinstance(mine, Sequence) or not all(isinstance(block, Block) for block in mine):
            raise errors.KindError(f"{who}: for rank {rank} needs a list of blocks, got {mine!r}")
        for block in mine:
            if block.source != rank:
                words = f"block tag {block.tag} was issued to rank {block.source}, and is offered to rank {rank}"
                raise errors.BlockError(f"{who}: {words}")
        tickets[rank] = [block.ticket for block in mine]
    return tickets


class Target(Handle):
    """A block of a peer, opened by the rank it was issued to; plans put to it and get from it."""

    KIND = "target"

    def __init__(self, context: Owner, ticket: BlockHandle) -> None:
        self.context = context
        out = ffi.new("tc_target **")
        who = f"open of a block on rank {context.rank}"
        context.usable(who)
        if not isinstance(ticket, BlockHandle):
            hint = "ship block.ticket, not the block" if isinstance(ticket, Block) else "see BlockHandle.from_bytes"
            raise errors.KindError(f"{who}: needs a BlockHandle, got {type(ticket).__name__}; {hint}")
        self.dtype = _read_dtype(ticket.dtype, who)
        context.dropped.sweep()
        status = lib.tc_target_open(context.handle, ticket.wire, len(ticket.wire), out)
        if status == lib.TC_ERR_DENIED:
            raise errors.UnsupportedError(
                f"{who}: its memory is a registered array, and the kernel forbids cross-memory attach; "
                "let the owner use Context.allocate instead"
            )
        if status == lib.TC_ERR_NOT_YOURS:
            raise errors.BlockError(
                f"{who}: the block was issued to another rank; only the source of a block can open it"
            )
        if status:
            raise failure(status, who)
        self.handle = out[0]
        self.wire, self.signal = ticket.wire, ticket.signal
        owner, tag, size = ffi.new("uint32_t *"), ffi.new("uint32_t *"), ffi.new("uint64_t *")
        self._check(lib.tc_target_info(self.handle, owner, tag, size), who)
        self.owner, self.tag, self.nbytes = int(owner[0]), int(tag[0]), int(size[0])
        context.adopt(self)

    def __del__(self) -> None:
        if self.handle:
            self.context.dropped.add(lib.tc_target_close, self.handle, None, again=True)

    def close(self) -> None:
        """Give the target up. Errors: BusyError while a plan uses it; FreedError."""
        who = f"close of rank {self.owner}'s block tag {self.tag} on rank {self.context.rank}"
        self.context.dropped.sweep()
        status = lib.tc_target_close(self.handle)
        if status == lib.TC_ERR_BUSY:
            raise errors.BusyError(f"{who}: a plan transfers to it; free the plan first")
        self._check(status, who)
        self.handle = ffi.NULL

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        if self.handle and self.context.handle:
            self.close()
