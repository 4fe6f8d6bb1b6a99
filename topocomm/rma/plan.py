"""Plans: transfers built once and started often."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from topocomm.rma import errors
from topocomm.rma._lib import check, failure, ffi, lib
from topocomm.rma.layout import Array, address, array_layout, as_array
from topocomm.rma.memory import Target
from topocomm.rma.signal import SLICE, Signal

if TYPE_CHECKING:
    from topocomm.rma.context import Context

__all__ = ["Plan"]

NOTHING = ffi.NULL


class Plan:
    """Puts and gets that start together; each target takes one message per start.

    ``completion="local"``: done when the arrays here may be used again; ``"remote"``: when the data has landed.
    The arrays are remembered, not copied: each start sends what they hold then. ``guarantee`` says what keeps a start
    from overwriting what is still being read: proven (see :func:`prove_rounds`), checked at each start, or nothing.
    """

    def __init__(self, context: Context, completion: str = "local") -> None:
        if completion not in ("local", "remote"):
            raise ValueError(f"Plan: completion {completion!r} is unknown, choose local or remote")
        self.context = context
        out = ffi.new("tc_plan **")
        flag = lib.TC_REMOTE if completion == "remote" else lib.TC_LOCAL
        check(lib.tc_plan_create(context.handle, flag, out), f"Plan on rank {context.rank}")
        self.handle: Any = out[0]
        self._start = lib.tc_plan_start_after  # one look-up less on the way that counts
        self.guarantee = "checked at each start" if context.checked else "not checked"
        self.arrays: list[Array] = []
        self.targets: list[Target] = []
        context.adopt(self)

    def put(self, source: Array, target: Target, value: int = 0, offset: int | None = None) -> int:
        """Adds a put of ``source`` and returns its number; ``value`` goes with an identified notification.

        ``offset`` in elements puts a part of a contiguous block. Errors: RangeError for a wrong dtype or size.
        """
        return self._add("put", source, target, value, offset)

    def get(self, destination: Array, target: Target, value: int = 0, offset: int | None = None) -> int:
        """Adds a get into ``destination``; the owner's signal counts it once its memory has been read."""
        if not as_array(destination, "get").flags.writeable:
            raise errors.RangeError(f"get on rank {self.context.rank}: the destination is read-only")
        return self._add("get", destination, target, value, offset)

    def set_value(self, item: int, value: int) -> None:
        """Another value for the notification of transfer ``item``, from the next start on."""
        check(lib.tc_plan_value(self.handle, item, value), f"value {value} of transfer {item}")

    def start(self, after: Signal | None = None) -> bool:
        """Starts every transfer, and returns at once: True if the plan is complete already.

        All are checked before any byte moves. A plan that is complete may start again without a wait.
        With ``after``, that signal is re-armed first: one call ends a round's reading and starts the next.
        Errors: NotProvenError, StaleBlockError, PeerLost, each naming peer and tag; BusyError if the plan still runs.
        If a receiver is two epochs behind, waits for it within the context's time limit.
        """
        status = self._start(self.handle, NOTHING if after is None else after.handle)
        if not status:
            return True
        return False if status == lib.TC_AGAIN else self._start_slowly(status)

    def try_start(self) -> bool:
        """Like :meth:`start`, but False where back-pressure would make it wait, and True once it is started."""
        status = lib.tc_plan_start(self.handle)
        if status < 0:
            self._fail(status, "start")
        return bool(status == 0)

    def test(self) -> bool:
        """Is the plan complete, in the sense it was made for?"""
        status = lib.tc_plan_test(self.handle)
        if status < 0:
            self._fail(status, "test")
        return bool(status == 0)

    def wait(self, timeout: float | None = None) -> None:
        """Waits for completion; ``timeout`` in seconds, the context's by default. Errors: WaitTimeout, PeerLost."""
        limit = self.context.timeout if timeout is None else timeout
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
        """Frees the plan; errors: BusyError while it runs."""
        check(lib.tc_plan_free(self.handle), f"free of a plan on rank {self.context.rank}")
        self.handle = ffi.NULL
        self.arrays.clear()
        self.targets.clear()

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if ffi.NULL not in (self.handle, self.context.handle):
            if kind is None:
                self.wait()
            self.free()

    def _add(self, what: str, array: Array, target: Target, value: int, offset: int | None) -> int:
        who = f"{what} on rank {self.context.rank}, rank {target.owner}'s block tag {target.tag}"
        array = as_array(array, who)
        if array.dtype != target.dtype:
            raise errors.RangeError(f"{who}: the array is {array.dtype}, the block {target.dtype}")
        room = target.nbytes - (offset or 0) * array.itemsize
        if array.nbytes > room or (offset is None and array.nbytes != room):
            raise errors.RangeError(
                f"{who}: the array has {array.size} elements, the block has room for {room // array.itemsize}"
            )
        layout = array_layout(array, address(array), who)
        pointer = ffi.cast("void *", address(array))
        call = {"put": (lib.tc_plan_put, lib.tc_plan_put_part), "get": (lib.tc_plan_get, lib.tc_plan_get_part)}[what]
        if offset is None:
            status = call[0](self.handle, target.handle, pointer, layout, value)
        else:
            status = call[1](self.handle, target.handle, offset * array.itemsize, pointer, layout, value)
        if status == lib.TC_ERR_ARGUMENT and any(t is target for t in self.targets):
            raise errors.BlockError(f"{who}: the plan already has a transfer to this block; it takes one per epoch")
        check(status, who)
        self.arrays.append(array)
        self.targets.append(target)
        return len(self.targets) - 1

    def _start_slowly(self, status: int) -> bool:
        end = monotonic() + self.context.timeout
        while status == lib.TC_FULL and monotonic() < end:
            self.context.progress()
            status = lib.tc_plan_start_after(self.handle, ffi.NULL)
        if status == lib.TC_FULL:
            _, rank, tag = self._culprit()
            raise errors.WaitTimeout(
                f"start on rank {self.context.rank}: rank {rank} has not re-armed the signal of its block tag {tag} "
                f"for three epochs, for {self.context.timeout:g} s"
            )
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
        if rank >= 0 and what == "start":
            who += f", rank {rank}'s block tag {tag}"
        raise failure(status, who)
