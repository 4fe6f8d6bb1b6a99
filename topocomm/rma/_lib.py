"""The C core's functions, its status codes as exceptions, and the small change between NumPy and C."""

from __future__ import annotations

from topocomm.rma import errors

try:
    from topocomm.rma._core import ffi, lib
except ImportError as missing:  # pragma: no cover - depends on the build
    raise errors.UnsupportedError(
        "topocomm.rma needs its C core, topocomm.rma._core; build it with: python setup.py build_ext --inplace"
    ) from missing

__all__ = ["CARRIED", "check", "failure", "ffi", "lib", "text"]

CARRIED: list[BaseException] = []  # raised in a callback from C: an interrupt, or an error of MPI's

CLASSES: dict[int, type[errors.RmaError]] = {
    lib.TC_ERR_ARGUMENT: errors.FreedError,
    lib.TC_ERR_NO_MEMORY: errors.LimitError,
    lib.TC_ERR_LIMIT: errors.LimitError,
    lib.TC_ERR_RANGE: errors.RangeError,
    lib.TC_ERR_STALE: errors.StaleBlockError,
    lib.TC_ERR_FREED: errors.FreedError,
    lib.TC_ERR_BUSY: errors.BusyError,
    lib.TC_FULL: errors.BusyError,
    lib.TC_ERR_BLOCK: errors.BlockError,
    lib.TC_ERR_NOT_YOURS: errors.BlockError,
    lib.TC_ERR_UNREACHABLE: errors.TransportError,
    lib.TC_ERR_SURPLUS: errors.SurplusError,
    lib.TC_ERR_VALUE: errors.RangeError,
    lib.TC_ERR_UNSUPPORTED: errors.UnsupportedError,
    lib.TC_ERR_TRANSPORT: errors.TransportError,
    lib.TC_ERR_OVERFLOW: errors.LimitError,
    lib.TC_ERR_DENIED: errors.UnsupportedError,
    lib.TC_ERR_OPENED: errors.BlockError,
}


def text(status: int) -> str:
    """Return the C core's words for a status."""
    return str(ffi.string(lib.tc_status_text(status)).decode())


def failure(status: int, what: str) -> errors.RmaError:
    """Make the exception for a status of ``what``, operation and rank. Raises an exception that a callback left."""
    if CARRIED:
        raised = CARRIED[0]
        CARRIED.clear()
        raise raised
    words = text(status)
    if status == lib.TC_ERR_ARGUMENT:
        words = "the handle was freed, or its context closed"
    return CLASSES.get(status, errors.RmaError)(f"{what}: {words}")


def check(status: int, what: str) -> None:
    """Raise the exception for a status other than 0, done."""
    if status != 0:
        raise failure(status, what)
