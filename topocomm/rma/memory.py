"""Registered memory, the blocks its owner issues, and the targets that their holders open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topocomm.rma import errors
from topocomm.rma._lib import check, ffi, lib
from topocomm.rma.layout import Array, array_layout, as_array, bounds
from topocomm.rma.overlap import REMEDY, Piece
from topocomm.rma.signal import Signal

if TYPE_CHECKING:
    from topocomm.rma.context import Context

__all__ = ["Block", "BlockHandle", "Memory", "Target"]

HEADER, NUMBER = 56, 8  # bytes for the dtype and for the signal in BlockHandle.to_bytes


@dataclass(frozen=True)
class BlockHandle:
    """A block as it travels: send it with any call.

    ``wire`` is the C core's part; ``dtype`` as NumPy writes it; ``signal`` the number of the owner's signal.
    """

    wire: bytes
    dtype: str
    signal: int = 0

    BYTES = HEADER + NUMBER + lib.TC_BLOCK_BYTES

    def to_bytes(self) -> bytes:
        """Always ``BlockHandle.BYTES`` long, for calls that send buffers."""
        dtype = self.dtype.encode()
        if len(dtype) > HEADER:
            raise errors.RangeError(f"BlockHandle: the description of dtype {self.dtype} is longer than {HEADER} bytes")
        return dtype.ljust(HEADER) + self.signal.to_bytes(NUMBER, "little") + self.wire.ljust(lib.TC_BLOCK_BYTES, b"\0")

    @classmethod
    def from_bytes(cls, data: bytes) -> BlockHandle:
        """The inverse of :meth:`to_bytes`."""
        if len(data) != cls.BYTES:
            raise errors.BlockError(f"BlockHandle: {len(data)} bytes, a block has {cls.BYTES}")
        number = int.from_bytes(data[HEADER : HEADER + NUMBER], "little")
        return cls(bytes(data[HEADER + NUMBER :]), bytes(data[:HEADER]).decode(errors="replace").rstrip(), number)


class Memory:
    """Memory that peers may reach. ``array`` is the memory itself as a NumPy array.

    Made by :meth:`Context.allocate` (peers of the node map it) or :meth:`Context.register` (an array of yours, reached
    on the node by cross-memory attach).
    """

    def __init__(self, context: Context, handle: Any, array: Array, shared: bool) -> None:
        self.context = context
        self.handle = handle
        self.array = array
        self.shared = shared
        context.adopt(self)

    def block(self, view: Array, signal: Signal, source: int, tag: int = 0) -> Block:
        """Issues ``view``, a slice of this memory, to rank ``source``: the right to one message per epoch.

        Errors: RangeError if the view is not inside this memory, is too deeply strided, or, in checked mode, shares
        bytes with another live block of this context (blocks at stream signals may); LimitError; FreedError.
        """
        who = f"block for rank {source} on rank {self.context.rank}"
        view = as_array(view, who)
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
        check(lib.tc_block_issue(self.handle, layout, signal.handle, source, tag, out), who)
        if signal.kind != "stream":
            self.context.issued.add(out[0], Piece(view, signal.number, source, tag))
        return Block(self.context, out[0], view, signal, source, tag)

    def _refuse_shared(self, view: Array, tag: int, who: str) -> None:
        other = self.context.issued.sharing(view)
        if other is not None:
            raise errors.RangeError(
                f"{who}: tag {tag} shares bytes with the block of tag {other.tag} for rank {other.source}; {REMEDY}"
            )

    def free(self) -> None:
        """Unregisters the memory, and gives it back if it was allocated; errors: BusyError while it has blocks."""
        check(lib.tc_memory_free(self.handle), f"free of memory on rank {self.context.rank}")
        self.handle = ffi.NULL
        self.array = np.empty(0, np.uint8)

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        if ffi.NULL not in (self.handle, self.context.handle):
            self.free()


class Block:
    """A block as its owner holds it; ``handle_bytes`` travels to the rank it was issued to."""

    def __init__(self, context: Context, handle: Any, view: Array, signal: Signal, source: int, tag: int) -> None:
        self.context = context
        self.handle = handle
        self.view = view
        self.signal = signal
        signal.sources.append(source)
        self.source = source
        self.tag = tag
        context.adopt(self)

    @property
    def ticket(self) -> BlockHandle:
        """What to send to ``source``."""
        room, length = ffi.new("unsigned char[]", lib.TC_BLOCK_BYTES), ffi.new("size_t *")
        check(lib.tc_block_export(self.handle, room, lib.TC_BLOCK_BYTES, length), f"block for rank {self.source}")
        return BlockHandle(bytes(ffi.buffer(room, length[0])), self.view.dtype.str, self.signal.number)

    def free(self) -> None:
        """Takes the block back: its holder's next start raises StaleBlockError.

        Over a network the holder is told by a message; a put that was under way by then may still land, so let the
        holder know before the memory is freed or given to another use.
        """
        status = lib.tc_block_free(self.handle)
        while status == lib.TC_FULL:
            self.context.progress()
            status = lib.tc_block_free(self.handle)
        check(status, f"free of the block for rank {self.source}")
        self.signal.sources.remove(self.source)
        self.context.issued.remove(self.handle)
        self.handle = ffi.NULL

    def __enter__(self) -> Block:
        return self

    def __exit__(self, *_: object) -> None:
        if ffi.NULL not in (self.handle, self.context.handle):
            self.free()


class Target:
    """A block of a peer, opened by the rank it was issued to: what plans put to and get from."""

    def __init__(self, context: Context, ticket: BlockHandle) -> None:
        self.context = context
        out = ffi.new("tc_target **")
        who = f"open of a block on rank {context.rank}"
        status = lib.tc_target_open(context.handle, ticket.wire, len(ticket.wire), out)
        if status == lib.TC_ERR_DENIED:
            raise errors.UnsupportedError(
                f"{who}: its memory is a registered array, and the kernel forbids cross-memory attach; "
                "let the owner use Context.allocate instead"
            )
        check(status, who)
        self.handle: Any = out[0]
        self.dtype = np.dtype(ticket.dtype)
        self.wire, self.signal = ticket.wire, ticket.signal
        owner, tag, size = ffi.new("uint32_t *"), ffi.new("uint32_t *"), ffi.new("uint64_t *")
        check(lib.tc_target_info(self.handle, owner, tag, size), who)
        self.owner, self.tag, self.nbytes = int(owner[0]), int(tag[0]), int(size[0])
        context.adopt(self)

    def close(self) -> None:
        """Gives the target up; errors: BusyError while a plan uses it."""
        check(lib.tc_target_close(self.handle), f"close of a target on rank {self.owner}")
        self.handle = ffi.NULL

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        if ffi.NULL not in (self.handle, self.context.handle):
            self.close()
