"""Plans: transfers built once and started often."""

from __future__ import annotations

from time import monotonic

import numpy as np

from topocomm.rma import errors
from topocomm.rma._lib import check, ffi, lib
from topocomm.rma.handles import Handle, Owner
from topocomm.rma.memory import Block, BlockHandle, Target
from topocomm.rma.opening import LARGEST, SLICE, seconds, whole
from topocomm.rma.signal import Signal
from topocomm.rma.strides import Array, address, array_layout, as_array

__all__ = ["Plan"]

NOTHING = ffi.NULL
LOOK = 0.02  # seconds between looks at a receiver that holds a start back


class Plan(Handle):
    """Puts and gets that start together; each target takes one message per start.

    ``completion="local"``: done when the arrays here may be used again; ``"remote"``: when the data has landed.
    The arrays are remembered, not copied: each start sends what they hold then. A plan that Python drops while it runs
    keeps its arrays until it is complete; test, wait and flush hand over what was held back. ``guarantee`` says what
    keeps a start from overwriting what is still being read: proven (see :func:`prove_rounds`), checked at each start,
    or nothing.
    """

    KIND = "plan"

    def __init__(self, context: Owner, completion: str = "local") -> None:
        if completion not in ("local", "remote"):
            raise errors.RangeError(f"Plan: completion {completion!r} is unknown, choose local or remote")
        if not context.handle:
            context.usable(f"Plan on rank {context.rank}")
        if context.dropped.waiting:
            context.dropped.sweep()
        self.context = context
        out = ffi.new("tc_plan **")
        flag = lib.TC_REMOTE if completion == "remote" else lib.TC_LOCAL
        check(lib.tc_plan_create(context.handle, flag, out), f"Plan on rank {context.rank}")
        self.handle = out[0]
        self._start = lib.tc_plan_start_after  # one look-up less on the way that counts
        self.guarantee = "checked at each start" if context.checked else "not checked"
        self.arrays: list[Array] = []
        self.targets: list[Target] = []
        context.adopt(self)

    def __del__(self) -> None:
        if self.handle:
            self.context.dropped.add(lib.tc_plan_free, self.handle, (self.arrays, self.targets), again=True)

    def put(self, source: Array, target: Target, value: int = 0, offset: int | None = None) -> int:
        """Add a put of ``source`` and return its number; ``value`` goes with an identified notification.

        ``offset`` in elements puts a part of a contiguous block. Errors: RangeError for a wrong dtype or size.
        """
        return self._add("put", source, target, value, offset)

    def get(self, destination: Array, target: Target, value: int = 0, offset: int | None = None) -> int:
        """Add a get into ``destination``; the owner's signal counts it once its memory has been read."""
        if not as_array(destination, "get").flags.writeable:
            raise errors.RangeError(f"get on rank {self.context.rank}: the destination is read-only")
        return self._add("get", destination, target, value, offset)

    def set_value(self, item: int, value: int) -> None:
        """Change the value of the notification of transfer ``item``, from the next start on.

        Errors: RangeError for a value too large, or a transfer that is not there; BusyError while the plan runs.
        """
        who = f"set_value of a plan on rank {self.context.rank}"
        self._usable(who)
        if not self.targets:
            raise errors.RangeError(f"{who}: transfer {item!r}, the plan has none")
        item = whole(item, "transfer", 0, len(self.targets) - 1, who)
        value = whole(value, "value", 0, LARGEST, who)
        status = lib.tc_plan_value(self.handle, item, value)
        if status == lib.TC_ERR_VALUE:
            raise self._too_large(who, value, self.targets[item])
        self._check(status, who)

    def start(self, after: Signal | None = None) -> bool:
        """Start every transfer, and return at once: True if the plan is complete already.

        All are checked before any byte moves. A plan that is complete may start again without a wait.
        With ``after``, that signal is re-armed first: one call ends a round's reading and starts the next.
        Errors: NotProvenError, StaleBlockError, PeerLost, each naming peer and tag; BusyError if the plan still runs.
        If a receiver is two epochs behind, waits for it within the context's time limit.
        """
        try:
            status = self._start(self.handle, NOTHING if after is None else after.handle or after.gone())
        except (AttributeError, TypeError):
            who = f"start of a plan on rank {self.context.rank}"
            raise errors.KindError(f"{who}: after is {after!r}, needs the signal to re-arm first") from None
        if not status:
            return True
        return False if status == lib.TC_AGAIN else self._start_slowly(status, after)

    def try_start(self) -> bool:
        """Start unless back-pressure holds it back; returns True once started. Errors as of :meth:`start`."""
        status = lib.tc_plan_start(self.handle)
        if status == lib.TC_FULL:
            self._look("start")
        if status < 0:
            self._fail(status, "start")
        return bool(status == 0)

    def test(self) -> bool:
        """Return True if the plan is complete, in the sense it was made for."""
        status = lib.tc_plan_test(self.handle)
        if status < 0:
            self._fail(status, "test")
        return bool(status == 0)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for completion; ``timeout`` in seconds, the context's by default. Errors: WaitTimeout, PeerLost."""
        limit = (
            self.context.timeout if timeout is None else seconds(timeout, f"wait of a plan on rank {self.context.rank}")
        )
        status = lib.tc_plan_wait(self.handle, min(SLICE, limit))
        if status == 0:
            return
        end = monotonic() + limit - min(SLICE, limit)
        while status == lib.TC_ERR_TIMEOUT and monotonic() < end:
            status = lib.tc_plan_wait(self.handle, min(SLICE, max(0.0, end - monotonic())))
        if status == lib.TC_ERR_TIMEOUT:
            raise errors.WaitTimeout(f"wait of a plan on rank {self.context.rank}: not complete within {limit:g} s")
        if status:
            self._fail(status, "wait")

    def free(self) -> None:
        """Free the plan. Errors: BusyError while it runs; FreedError."""
        self._check(lib.tc_plan_free(self.handle), f"free of a plan on rank {self.context.rank}")
        self.handle = ffi.NULL
        self.arrays.clear()
        self.targets.clear()

    def under_way(self) -> bool:
        """Return True while it runs; hands over transfers held back, and leaves errors to test and wait."""
        return bool(self.handle) and bool(lib.tc_plan_test(self.handle) == lib.TC_AGAIN)

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.handle and self.context.handle:
            if kind is None:
                self.wait()
            self.free()

    def _add(self, what: str, array: Array, target: Target, value: int, offset: int | None) -> int:
        who = f"{what} on rank {self.context.rank}"
        if not self.handle:
            self._usable(who)
        if not isinstance(target, Target):
            hint = "use one from Context.open or Context.exchange"
            if isinstance(target, (Block, BlockHandle)):
                hint = "ship block.ticket to the rank it was issued to, and open it there with Context.open"
            raise errors.KindError(f"{who}: the target is a {type(target).__name__}; {hint}")
        who += f", rank {target.owner}'s block tag {target.tag}"
        if not target.handle:
            target._usable(who)
        if target.context is not self.context:
            raise errors.RangeError(f"{who}: the target is of another context than the plan")
        array = as_array(array, who)
        if array.dtype != target.dtype:
            raise errors.RangeError(f"{who}: the array is {array.dtype}, the block {target.dtype}")
        start = self._check_size(array, target, offset, who)
        value = whole(value, "value", 0, LARGEST, who)
        layout = array_layout(array, address(array), who)
        pointer = ffi.cast("void *", address(array))
        call = {"put": (lib.tc_plan_put, lib.tc_plan_put_part), "get": (lib.tc_plan_get, lib.tc_plan_get_part)}[what]
        if offset is None:
            status = call[0](self.handle, target.handle, pointer, layout, value)
        else:
            status = call[1](self.handle, target.handle, start, pointer, layout, value)
        if status == lib.TC_ERR_ARGUMENT and any(t is target for t in self.targets):
            raise errors.BlockError(f"{who}: the plan already has a transfer to this block; it takes one per epoch")
        if status == lib.TC_ERR_VALUE:
            raise self._too_large(who, value, target)
        if status == lib.TC_ERR_BUSY:
            raise errors.BusyError(f"{who}: the plan is running; call wait() first")
        if status == lib.TC_ERR_RANGE and offset is not None:
            raise errors.RangeError(
                f"{who}: offset {offset} into a strided block; only contiguous ones are put in parts"
            )
        self._check(status, who)
        self.arrays.append(array)
        self.targets.append(target)
        return len(self.targets) - 1

    def _check_size(self, array: Array, target: Target, offset: int | None, who: str) -> int:
        """Return the offset in bytes at which the array has room. Errors: RangeError."""
        size = max(1, array.itemsize)
        fits = array.nbytes == target.nbytes
        if offset is not None:
            fits = type(offset) is int and 0 <= offset * size <= target.nbytes - array.nbytes
        if fits:
            return (offset or 0) * size
        unit = "bytes" if array.dtype == np.uint8 else f"elements of {array.dtype}"
        start = size * whole(offset, f"offset (in {unit})", 0, target.nbytes // size, who) if offset is not None else 0
        room = target.nbytes - start
        if array.nbytes > room or offset is None:
            after = f" after offset {offset}" if offset else ""
            raise errors.RangeError(
                f"{who}: the array has {array.size} {unit}, the block has room for {room // size}{after}"
            )
        return start

    def _too_large(self, who: str, value: int, target: Target) -> errors.RangeError:
        kind = self.context.transport(target.owner)
        most = 2**8 - 1 if kind == "ofi" else LARGEST
        taker = f"the transport {kind} to rank {target.owner}"
        return errors.RangeError(f"{who}: value {value} is too large for {taker}, which takes {most} at most")

    def _look(self, what: str) -> None:
        """Check the owner of the block that holds a start back. Errors: PeerLost."""
        _, rank, _ = self._culprit()
        if rank >= 0 and not self.context.alive(rank):
            raise self.context.peer_lost(f"{what} of a plan on rank {self.context.rank}", rank)

    def _start_slowly(self, status: int, after: Signal | None) -> bool:
        end = monotonic() + self.context.timeout
        look = 0.0
        while status == lib.TC_FULL and monotonic() < end:
            if monotonic() >= look:
                self._look("start")
                look = monotonic() + LOOK
            self.context.progress()
            status = lib.tc_plan_start_after(self.handle, ffi.NULL)
        if status == lib.TC_FULL:
            _, rank, tag = self._culprit()
            raise errors.WaitTimeout(
                f"start on rank {self.context.rank}: rank {rank} has not re-armed the signal of its block tag {tag} "
                f"for three epochs, for {self.context.timeout:g} s"
            )
        if after is not None and (status == lib.TC_ERR_SURPLUS or (status == lib.TC_ERR_BUSY and not self.under_way())):
            after.rearm_failed(lib.TC_AGAIN if status == lib.TC_ERR_BUSY else status)
        if status < 0:
            self._fail(status, "start")
        return bool(status == 0)

    def _culprit(self) -> tuple[int, int, int]:
        item, rank, tag = ffi.new("uint32_t *"), ffi.new("uint32_t *"), ffi.new("uint32_t *")
        if lib.tc_plan_culprit(self.handle, item, rank, tag):
            return -1, -1, -1
        return int(item[0]), int(rank[0]), int(tag[0])

    def _fail(self, status: int, what: str) -> None:
        who = f"{what} of a plan on rank {self.context.rank}"
        _, rank, tag = self._culprit()
        if status == lib.TC_ERR_PEER_LOST:
            raise self.context.peer_lost(who, None if what == "wait" else rank)
        if status == lib.TC_ERR_NOT_PROVEN:
            raise errors.NotProvenError(
                f"{who}: rank {rank}'s block tag {tag} is not proven free: nothing that rank {self.context.rank} has "
                f"received was sent by rank {rank} after it re-armed that block's signal; let it send something after "
                "reading, or alternate between two blocks",
                rank,
                tag,
            )
        if status == lib.TC_ERR_BUSY:
            raise errors.BusyError(f"{who}: it is still running; call wait() first")
        if rank >= 0 and what == "start":
            who += f", rank {rank}'s block tag {tag}"
        if status == lib.TC_ERR_LIMIT:
            most = self.context.limits.outstanding
            raise errors.LimitError(f"{who}: open the context with a larger Limits.outstanding than {most}")
        raise self._failure(status, who)
