"""An mpi4py-shaped face: a window that all ranks share, with puts that notify.

    with Win.Allocate(8 * 1024, 8, comm=comm) as win:
        win.Put_notify(array, target=1, target_disp=0, notify=3)      # on the origin
        win.Wait_notify(3, count=1)                                   # on the target

As with ``MPI.Win``, who writes where and when is for the program to see to: notifications of one number are counted,
not told apart, and nothing holds back a put into data that is still being read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from topocomm.rma import errors
from topocomm.rma.context import Context
from topocomm.rma.layout import Array, as_array
from topocomm.rma.memory import Memory, Target
from topocomm.rma.plan import Plan

__all__ = ["Win"]


class Win:
    """Made by :meth:`Allocate` or :meth:`Create`, by all ranks of ``comm`` together."""

    def __init__(self, context: Context, memory: Memory, disp_unit: int, notifications: int) -> None:
        self.context = context
        self.memory = memory
        self.disp_unit = disp_unit
        self.notifications = notifications
        everything = memory.array.reshape(-1).view(np.uint8)
        self.signals = [context.signal("stream") for _ in range(notifications)]
        offers = {
            rank: [memory.block(everything, signal, rank, n) for n, signal in enumerate(self.signals)]
            for rank in range(context.size)
        }
        self.units: list[int] = context.comm.allgather(disp_unit)
        self.targets: dict[int, list[Target]] = context.exchange(offers)
        self._running: list[Plan] = []

    @classmethod
    def Allocate(cls, size: int, disp_unit: int = 1, comm: Any = None, notifications: int = 4, **options: Any) -> Win:
        """A window of ``size`` bytes per rank, displacements counted in ``disp_unit`` bytes; options as of Context."""
        context = Context(comm if comm is not None else cls._world(), **options)
        return cls(context, context.allocate(size, np.uint8), disp_unit, notifications)

    @classmethod
    def Create(cls, memory: Array, disp_unit: int = 1, comm: Any = None, notifications: int = 4, **options: Any) -> Win:
        """A window on each rank's own contiguous array."""
        context = Context(comm if comm is not None else cls._world(), **options)
        return cls(context, context.register(memory), disp_unit, notifications)

    @staticmethod
    def _world() -> Any:
        from mpi4py import MPI

        return MPI.COMM_WORLD

    def Put_notify(self, origin: Array, target: int, target_disp: int = 0, notify: int = 0) -> None:
        """Puts the array's bytes, and counts one at notification ``notify`` of the target. Complete after Flush."""
        self._move("put", origin, target, target_disp, notify)

    def Get_notify(self, origin: Array, target: int, target_disp: int = 0, notify: int = 0) -> None:
        """Gets into the array, and counts one at the target's ``notify`` once its memory was read; see Flush."""
        self._move("get", origin, target, target_disp, notify)

    def Wait_notify(self, notify: int = 0, count: int = 1, timeout: float | None = None) -> None:
        """Waits for ``count`` notifications of this number and takes them."""
        self.signals[notify].take(count, timeout)

    def Test_notify(self, notify: int = 0, count: int = 1) -> bool:
        """Takes ``count`` notifications of this number if there are as many."""
        return self.signals[notify].try_take(count)

    def Flush(self, timeout: float | None = None) -> None:
        """Completes at this end: arrays put may be changed, arrays got may be read."""
        for plan in self._running:
            plan.wait(timeout)
            plan.free()
        self._running.clear()

    def tomemory(self) -> Array:
        """This rank's part of the window."""
        return self.memory.array

    def Free(self) -> None:
        """Collective: flushes and gives the window back."""
        self.Flush()
        self.context.__exit__(None)

    def _move(self, what: str, origin: Array, target: int, disp: int, notify: int) -> None:
        who = f"{what.capitalize()}_notify on rank {self.context.rank}"
        if not 0 <= notify < self.notifications:
            raise errors.RangeError(f"{who}: notification {notify}, the window has {self.notifications}")
        if not 0 <= target < self.context.size:
            raise errors.RangeError(f"{who}: target rank {target}, the communicator has {self.context.size}")
        array = as_array(origin, who)
        if not array.flags.c_contiguous:
            raise errors.RangeError(f"{who}: the array must be contiguous")
        data = array.reshape(-1).view(np.uint8)
        plan = self.context.plan()
        move = plan.put if what == "put" else plan.get
        move(data, self.targets[target][notify], offset=disp * self.units[target])
        plan.start()
        if plan.test():
            plan.free()
        else:
            self._running.append(plan)

    def __enter__(self) -> Win:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.Free()
        else:
            self.context.close()
