"""Functions of the MPI library that mpi4py has loaded, for calls from C."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

from mpi4py import MPI

__all__ = ["address", "handle"]


@cache
def _places() -> list[Any]:
    """Return where functions are looked for: tools that were loaded before first, as for mpi4py's own calls."""
    return [ctypes.CDLL(None), ctypes.CDLL(MPI.__file__, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)]


def address(name: str) -> int | None:
    """Return the address of an MPI function, for instance ``MPI_Isend``; None if the library shows none."""
    functions = (getattr(place, name, None) for place in _places())
    function = next((f for f in functions if f is not None), None)
    return None if function is None else ctypes.cast(function, ctypes.c_void_p).value


def handle(obj: MPI.Comm | MPI.Datatype | MPI.Op | MPI.Request) -> int:
    """Return the C handle of an MPI object, narrow ones with their sign extended."""
    bits = 8 * MPI._sizeof(obj)
    value = MPI._handleof(obj) % (1 << bits)
    return value - (1 << bits) if value >> (bits - 1) else value
