"""Start, test and wait from numba's ``@njit``, without the interpreter and without its lock.

The functions take integers from :func:`plan_handle` and :func:`signal_handle` and return a status: 0 done, above zero
not yet, below zero an error; :func:`explain` puts a status into words. Keep plans, signals and arrays alive while
compiled code uses them: it cannot notice that one was freed.

Compile with ``nogil=True`` where the context has a progress thread or other Python threads are to run: a compiled
function that waits with the interpreter's lock in its hands stops them all, over messages also the progress thread.

    from numba import njit
    from topocomm.rma import jit

    start, done, wait, rearm = jit.plan_start, jit.plan_wait, jit.signal_wait, jit.signal_rearm

    @njit(nogil=True)
    def rounds(plans, signals, source, n):             # two plans and signals, which take turns
        for i in range(n):
            k = i % 2
            status = done(plans[k], 10.0)              # what it sent two rounds ago may be changed
            if status == 0:
                source[k, 0] = i
                status = start(plans[k])
            while status == 2:                         # a receiver is two epochs behind: nothing moved
                status = start(plans[k])
            if status == 0:
                status = wait(signals[k], 10.0)
            if status == 0:
                status = rearm(signals[k])
            if status != 0:
                return status
        return 0
"""

from __future__ import annotations

import ctypes
from typing import Any

from topocomm.rma import errors
from topocomm.rma._lib import ffi, lib, text
from topocomm.rma.plan import Plan
from topocomm.rma.signal import Signal

__all__ = [
    "AGAIN",
    "FULL",
    "TIMEOUT",
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

AGAIN: int = lib.TC_AGAIN
"""Not complete yet: from a test, or from re-arming an epoch that is not complete."""
FULL: int = lib.TC_FULL
"""Nothing moved, since a receiver is two epochs behind: start again."""
TIMEOUT: int = lib.TC_ERR_TIMEOUT
"""The seconds given to a wait have passed."""


def _function(name: str, arguments: list[Any], words: str) -> Any:
    address = int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))
    function = ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(address)
    function.__doc__ = words
    return function


HANDLE, SECONDS = ctypes.c_size_t, ctypes.c_double

plan_start = _function(
    "tc_plan_start",
    [HANDLE],
    """plan_start(plan: int) -> int

Start every transfer of the plan. 0: started · 2 (FULL): a receiver is two epochs behind, nothing moved, try again ·
below zero: refused, nothing moved; in checked mode also what is not proven free, which Plan.start names.""",
)
plan_test = _function(
    "tc_plan_test",
    [HANDLE],
    """plan_test(plan: int) -> int

0: complete, the arrays may be changed · 1 (AGAIN): under way · below zero: it failed.""",
)
plan_wait = _function(
    "tc_plan_wait",
    [HANDLE, SECONDS],
    """plan_wait(plan: int, seconds: float) -> int

Wait until the plan is complete, at most ``seconds``. 0: complete · TIMEOUT (below zero): not within that time ·
below zero: it failed.""",
)
signal_test = _function(
    "tc_signal_test",
    [HANDLE],
    """signal_test(signal: int) -> int

0: every message of this epoch has arrived · 1 (AGAIN): not yet · below zero: surplus, or freed.""",
)
signal_wait = _function(
    "tc_signal_wait",
    [HANDLE, SECONDS],
    """signal_wait(signal: int, seconds: float) -> int

Wait until every message of this epoch has arrived, at most ``seconds``. 0: arrived · TIMEOUT (below zero): not within
that time · below zero: a peer is lost, or surplus.""",
)
signal_rearm = _function(
    "tc_signal_rearm",
    [HANDLE],
    """signal_rearm(signal: int) -> int

End the reading of this epoch. 0: the next one has begun · 1 (AGAIN): not complete, nothing changed · below zero:
surplus (it is re-armed all the same), or freed.""",
)


def plan_handle(plan: Plan) -> int:
    """Return the plan as an integer for compiled code. Errors: FreedError."""
    return _handle(plan.handle, "plan")


def signal_handle(signal: Signal) -> int:
    """Return the signal as an integer for compiled code. Errors: FreedError."""
    return _handle(signal.handle, "signal")


def _handle(handle: Any, what: str) -> int:
    if handle == ffi.NULL:
        raise errors.FreedError(f"{what}_handle: the {what} was freed, or its context was closed")
    return int(ffi.cast("uintptr_t", handle))


def explain(status: int) -> str:
    """Put a status into words."""
    return text(status)
