"""Start, test and wait from numba's ``@njit``, without the interpreter and without its lock.

Pass ``plan_handle(plan)`` and ``signal_handle(signal)``, which are integers, into the compiled function, and keep the
objects alive while it runs. The functions return the C core's status: 0 done, above zero not yet, below zero an error
that :func:`explain` puts into words.
"""

from __future__ import annotations

import ctypes
from typing import Any

from topocomm.rma._lib import ffi, lib, text
from topocomm.rma.plan import Plan
from topocomm.rma.signal import Signal

__all__ = [
    "explain",
    "plan_handle",
    "plan_start",
    "plan_test",
    "plan_wait",
    "signal_handle",
    "signal_rearm",
    "signal_test",
    "signal_wait",
]


def _function(name: str, *arguments: Any) -> Any:
    address = int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))
    return ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(address)


plan_start = _function("tc_plan_start", ctypes.c_size_t)
plan_test = _function("tc_plan_test", ctypes.c_size_t)
plan_wait = _function("tc_plan_wait", ctypes.c_size_t, ctypes.c_double)
signal_test = _function("tc_signal_test", ctypes.c_size_t)
signal_wait = _function("tc_signal_wait", ctypes.c_size_t, ctypes.c_double)
signal_rearm = _function("tc_signal_rearm", ctypes.c_size_t)


def plan_handle(plan: Plan) -> int:
    """The plan as compiled code takes it."""
    return int(ffi.cast("uintptr_t", plan.handle))


def signal_handle(signal: Signal) -> int:
    """The signal as compiled code takes it."""
    return int(ffi.cast("uintptr_t", signal.handle))


def explain(status: int) -> str:
    """A status in words."""
    return text(status)
