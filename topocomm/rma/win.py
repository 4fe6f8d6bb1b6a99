"""An mpi4py-shaped face: a window that all ranks share, with puts that notify.

    with Win.Allocate(8 * 1024, 8, comm=comm) as win:
        win.Put_notify(array, target=1, target_disp=0, notify=3)      # on the origin
        win.Wait_notify(3, count=1)                                   # on the target

As with ``MPI.Win``, who writes where and when is for the program to see to: notifications of one number are counted,
not told apart, and nothing holds back a put into data that is still being read. What differs from ``MPI.Win`` is listed
in docs/notified-rma.md.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from topocomm.rma import errors
from topocomm.rma._lib import ffi, lib
from topocomm.rma.context import Context
from topocomm.rma.datatypes import buffer_bytes, memory_of
from topocomm.rma.memory import BlockHandle, Memory, Target
from topocomm.rma.opening import whole
from topocomm.rma.plan import Plan
from topocomm.rma.sessions import has_init
from topocomm.rma.strides import Array, address, flat_bytes
from topocomm.rma.together import together

__all__ = ["Win"]

KEPT = 128  # plans kept for calls that come again
BYTES, NOTHING, ADDRESS = ffi.from_buffer, ffi.NULL, ffi.typeof("char *")
Key = tuple[Any, ...]


class Win:
    """Made by :meth:`Allocate` or :meth:`Create`, by all ranks of ``comm`` together.

    ``comm`` is MPI.COMM_WORLD by default; ``info`` is there for mpi4py's order of arguments and unused;
    ``notifications`` is how many numbers there are to notify, equal on all ranks; options as of :class:`Context`.
    Errors, alike on every rank: RangeError for sizes, units and arrays; UnsupportedError for ``checked=True``, since
    the notifications of a window have no epochs that anything could be proven by.
    """

    def __init__(self, context: Context, memory: Memory, disp_unit: int, notifications: int) -> None:
        self.context = context
        self.memory = memory
        self.disp_unit = disp_unit
        self.notifications = notifications
        self._idle: OrderedDict[Key, Plan] = OrderedDict()  # by what they do, the latest used last
        self._latest: Plan | None = None
        self._running: deque[tuple[Key, Plan]] = deque()
        self._failed: list[Plan] = []
        self._start = lib.tc_plan_start_after
        tickets = together(context, self._offer)
        offered = context.comm.alltoall(tickets)
        self.targets: list[list[Target]] = together(
            context, lambda: [[context.open(t) for t in one] for one in offered]
        )
        self.units: list[int] = context.comm.allgather(disp_unit)
        self._nobody = _proc_null()

    def _offer(self) -> list[list[BlockHandle]]:
        everything = flat_bytes(self.memory.array, "Win")
        self.signals = [self.context.signal("stream") for _ in range(self.notifications)]
        return [
            [self.memory.block(everything, signal, rank, n).ticket for n, signal in enumerate(self.signals)]
            for rank in range(self.context.size)
        ]

    @classmethod
    def Allocate(cls, size: int, disp_unit: int = 1, info: Any = None, comm: Any = None, notifications: int = 4,
                 **options: Any) -> Win:  # fmt: skip
        """A window of ``size`` bytes here, which may differ between ranks; displacements count ``disp_unit`` bytes."""
        room = lambda context: context.allocate(whole(size, "size", 0, None, "Win"), np.uint8)  # noqa: E731
        return cls._make(room, disp_unit, info, comm, notifications, options)

    @classmethod
    def Create(cls, memory: Any, disp_unit: int = 1, info: Any = None, comm: Any = None, notifications: int = 4,
               **options: Any) -> Win:  # fmt: skip
        """A window on contiguous, writeable memory of each rank's own: an array, or anything with the buffer protocol.

        None, or MPI.BOTTOM, on ranks that have no memory to share.
        """
        return cls._make(lambda context: _own(context, memory), disp_unit, info, comm, notifications, options)

    @classmethod
    def _make(
        cls,
        memory_in: Callable[[Context], Memory],
        disp_unit: int,
        info: Any,
        comm: Any,
        notifications: int,
        options: dict[str, Any],
    ) -> Win:
        if hasattr(info, "Get_rank"):
            raise errors.KindError("Win: the third argument is info, as in mpi4py; give the communicator as comm=")
        checked = options.pop("checked", False)
        context = Context(_world() if comm is None else comm, **options)
        try:
            together(context, lambda: _check(disp_unit, notifications, checked))
            numbers = context.comm.allgather(notifications)
            if len(set(numbers)) > 1:
                found = ", ".join(f"rank {r}: {n}" for r, n in enumerate(numbers))
                raise errors.RangeError(f"Win: notifications must be the same on all ranks; got {found}")
            return cls(context, together(context, lambda: memory_in(context)), disp_unit, notifications)
        except BaseException:
            context.close()
            raise

    def Put_notify(self, origin: Any, target: int, target_disp: int = 0, notify: int = 0) -> None:
        """Puts the bytes of ``origin``, and counts one at notification ``notify`` of the target. Complete after Flush.

        ``origin`` is contiguous memory (an array, bytes, anything with the buffer protocol) or a list as mpi4py takes
        it: ``[array, datatype]``, ``[array, count, datatype]``, …; a target of MPI.PROC_NULL is no operation.
        Errors: RangeError, naming what does not fit; PeerLost.
        """
        try:
            key = (BYTES(origin), origin.nbytes, origin.dtype.hasobject, target, target_disp, notify)
            plan = self._idle[key] if not self._running else self._known(key)
        except (KeyError, TypeError, ValueError, AttributeError, BufferError):
            self._move("Put_notify", origin, target, target_disp, notify)
            return
        status = self._start(plan.handle, NOTHING)
        if status:
            self._unfinished(status, key, origin)
        elif plan is not self._latest:
            self._latest = plan
            self._idle.move_to_end(key)

    def Get_notify(self, origin: Any, target: int, target_disp: int = 0, notify: int = 0) -> None:
        """Gets into ``origin``, and counts one at the target's ``notify`` once its memory was read; see Flush."""
        self._move("Get_notify", origin, target, target_disp, notify)

    def Wait_notify(self, notify: int = 0, count: int = 1, timeout: float | None = None) -> None:
        """Waits for ``count`` notifications of this number and takes them.

        ``timeout`` in seconds, the context's own by default. Errors: RangeError, WaitTimeout, PeerLost.
        """
        if not 0 <= notify < self.notifications or count < 1:
            raise self._unnumbered("Wait_notify", notify, count)
        self.signals[notify].take(count, timeout)

    def Test_notify(self, notify: int = 0, count: int = 1) -> bool:
        """Takes ``count`` notifications of this number if there are as many."""
        if not 0 <= notify < self.notifications or count < 1:
            raise self._unnumbered("Test_notify", notify, count)
        return self.signals[notify].try_take(count)

    def Flush(self, timeout: float | None = None) -> None:
        """Completes at this end: arrays put may be changed, arrays got may be read."""
        if self.context.handle == ffi.NULL:
            raise errors.FreedError(f"Flush on rank {self.context.rank}: the window was freed")
        while self._running:
            self._finish_oldest(timeout)

    def tomemory(self) -> Array:
        """This rank's part of the window; it is gone after Free."""
        if self.context.handle == ffi.NULL:
            raise errors.FreedError(f"tomemory on rank {self.context.rank}: the window was freed")
        return self.memory.array

    def Free(self) -> None:
        """Collective: flushes and gives the window back."""
        if self.context.handle != ffi.NULL:
            self.Flush()
            for plan in self._idle.values():
                plan.free()
            self._idle.clear()
        self.context.__exit__(None)
        self.context.ended = "of the window was closed by Free"

    def _unnumbered(self, what: str, notify: int, count: int) -> errors.RangeError:
        who = f"{what} on rank {self.context.rank}"
        if not 0 <= notify < self.notifications:
            return errors.RangeError(f"{who}: notification {notify}, the window has 0 to {self.notifications - 1}")
        return errors.RangeError(f"{who}: count {count}, must be at least 1")

    # --- plans ---------------------------------------------------------------------------------------------------
    def _move(self, what: str, origin: Any, target: int, disp: int, notify: int) -> None:
        """The way of a call that is not known: checks everything, then takes the plan kept for it or makes one."""
        who = f"{what} on rank {self.context.rank}"
        if target == self._nobody:
            return
        data = buffer_bytes(origin, who)
        place = self._place(data, target, disp, notify, who)
        key: Key = (ffi.cast(ADDRESS, address(data)), data.nbytes, False, target, disp, notify)
        if what == "Get_notify":
            key = (*key, what)
            if not data.flags.writeable:
                raise errors.RangeError(f"{who}: the array is read-only")
        self._collect()
        if key in self._idle:
            self._run(key, self._idle.pop(key), data)
            return
        plan = self.context.plan()
        try:
            (plan.put if what == "Put_notify" else plan.get)(data, self.targets[target][notify], offset=place)
        except BaseException:
            plan.free()
            raise
        plan.arrays.clear()  # the plan stands for an address: whoever calls again holds what is there
        self._run(key, plan, data)

    def _place(self, data: Array, target: int, disp: int, notify: int, who: str) -> int:
        """The first byte of the target's window that is meant, if everything is within it."""
        if not 0 <= whole(notify, "notification", 0, None, who) < self.notifications:
            raise errors.RangeError(f"{who}: notification {notify}, the window has 0 to {self.notifications - 1}")
        if not 0 <= whole(target, "target", -(2**31), None, who) < self.context.size:
            raise errors.RangeError(f"{who}: target rank {target}, the communicator has {self.context.size}")
        unit, room = self.units[target], self.targets[target][notify].nbytes
        first = whole(disp, "target_disp", 0, None, who) * unit
        if first + data.nbytes > room:
            raise errors.RangeError(
                f"{who}: {data.nbytes} bytes at displacement {disp} in units of {unit} bytes reach outside "
                f"rank {target}'s window of {room} bytes"
            )
        return first

    def _unfinished(self, status: int, key: Key, array: Array) -> None:
        """A kept plan that was started and is under way, or that was refused: then nothing moved, and it says why."""
        plan = self._idle.pop(key)
        if status == lib.TC_AGAIN:
            self._hold(key, plan, array)
        else:
            self._run(key, plan, array)

    def _run(self, key: Key, plan: Plan, array: Array) -> None:
        try:
            complete = plan.start()
        except BaseException:
            self._drop(plan)
            raise
        if complete:
            self._keep(key, plan)
        else:
            self._hold(key, plan, array)

    def _hold(self, key: Key, plan: Plan, array: Array) -> None:
        """A plan under way keeps its array."""
        plan.arrays.append(array)
        self._running.append((key, plan))

    def _known(self, key: Key) -> Plan:
        """The plan of such a call, perhaps one that was under way. Errors: KeyError."""
        self._collect()
        return self._idle[key]

    def _collect(self) -> None:
        """Takes back plans that are complete, oldest first, and waits for one where too many are under way."""
        while self._running and lib.tc_plan_test(self._running[0][1].handle) == 0:
            key, plan = self._running.popleft()
            plan.arrays.clear()
            self._keep(key, plan)
        if len(self._running) >= self.context.limits.outstanding:
            self._finish_oldest(None)

    def _finish_oldest(self, timeout: float | None) -> None:
        key, plan = self._running[0]
        try:
            plan.wait(timeout)
        except errors.WaitTimeout:
            raise
        except errors.RmaError:
            self._running.popleft()
            self._drop(plan)
            raise
        self._running.popleft()
        plan.arrays.clear()
        self._keep(key, plan)

    def _keep(self, key: Key, plan: Plan) -> None:
        """Keeps an idle plan for the next such call; the one not used for longest goes."""
        if key in self._idle:
            plan.free()
            return
        self._idle[_unpinned(key)] = self._latest = plan
        if len(self._idle) > KEPT:
            self._idle.popitem(last=False)[1].free()

    def _drop(self, plan: Plan) -> None:
        """Frees a plan that failed, or leaves it to the end of the context while some of it is under way."""
        try:
            plan.free()
        except errors.RmaError:
            self._failed.append(plan)

    def __enter__(self) -> Win:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.Free()
        else:
            self.context.__exit__(kind)


def _unpinned(key: Key) -> Key:
    """The same key, which holds no buffer: cffi's pointers are equal where their addresses are."""
    return (ffi.cast(ADDRESS, key[0]), *key[1:])


def _check(disp_unit: int, notifications: int, checked: bool) -> None:
    if checked:
        raise errors.UnsupportedError(
            "Win: checked=True would check nothing: notifications of a window are counted without epochs, so no "
            "message proves that data was read; use rma.Exchange, or blocks and plans"
        )
    whole(disp_unit, "disp_unit", 1, None, "Win")
    whole(notifications, "notifications", 1, None, "Win")


def _own(context: Context, memory: Any) -> Memory:
    """Register the caller's memory, or allocate none."""
    if memory is None or _is_bottom(memory):
        return context.allocate(0, np.uint8)
    return context.register(memory_of(memory, f"Win.Create on rank {context.rank}"))


def _is_bottom(memory: Any) -> bool:
    module = sys.modules.get("mpi4py.MPI")
    return module is not None and memory is module.BOTTOM


def _world() -> Any:
    from mpi4py import MPI

    if not has_init():
        raise errors.KindError("Win: there is no MPI.COMM_WORLD before MPI_Init; give the communicator as comm=")
    return MPI.COMM_WORLD


def _proc_null() -> int | None:
    """MPI.PROC_NULL where the program uses MPI."""
    module = sys.modules.get("mpi4py.MPI")
    return None if module is None else int(module.PROC_NULL)
