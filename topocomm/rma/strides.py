"""NumPy arrays as layouts: up to three nested strides over contiguous runs of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from topocomm.rma import errors
from topocomm.rma._lib import ffi

__all__ = ["Array", "address", "array_layout", "as_array", "bounds", "flat_bytes"]

Array = NDArray[Any]
OUTER = 3


def address(array: Array) -> int:
    """Return the address of the array's first element."""
    return int(array.__array_interface__["data"][0])


def bounds(array: Array) -> tuple[int, int]:
    """Return the first address, and one past the last, of an array with strides ≥ 0."""
    start = address(array)
    if array.size == 0:
        return start, start
    reach = sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True))
    return start, start + reach + array.itemsize


def _merge(array: Array) -> tuple[int, list[tuple[int, int]]]:
    """Split into the contiguous run in bytes, and (count, stride in bytes) around it, outermost first."""
    run = array.itemsize
    outer: list[tuple[int, int]] = []
    for count, stride in reversed(list(zip(array.shape, array.strides, strict=True))):
        if count == 1:
            continue
        if not outer and stride == run:
            run *= count
        elif outer and stride == outer[0][0] * outer[0][1]:
            outer[0] = (outer[0][0] * count, outer[0][1])
        else:
            outer.insert(0, (count, stride))
    return run, outer


def array_layout(array: Array, base: int, who: str) -> Any:
    """Make a ``tc_layout`` of the array, with offsets counted from address ``base``.

    Errors: RangeError for object arrays, negative or zero strides, or more than three nested strides.
    """
    if array.dtype.hasobject:
        raise errors.RangeError(f"{who}: an array of Python objects cannot be transferred; its dtype is {array.dtype}")
    layout = ffi.new("tc_layout *", {"count": [1, 1, 1], "stride": [0, 0, 0]})
    layout.offset = address(array) - base
    if array.size == 0:
        layout.offset = max(address(array) - base, 0)
        return layout
    if any(s <= 0 for n, s in zip(array.shape, array.strides, strict=True) if n > 1):
        raise errors.RangeError(f"{who}: strides {array.strides} are not all positive; pass a copy")
    run, outer = _merge(array)
    if len(outer) > OUTER:
        raise errors.RangeError(
            f"{who}: shape {array.shape} with strides {array.strides} has {len(outer)} nested strides, "
            f"at most {OUTER} can be transferred; pass a contiguous copy or split it"
        )
    layout.run = run
    for i, (count, stride) in enumerate(outer):
        layout.count[i] = count
        layout.stride[i] = stride
    return layout


def as_array(data: Any, who: str) -> Array:
    """Return the array itself: never a copy, since a transfer must reach the caller's memory. Errors: RangeError."""
    if not isinstance(data, np.ndarray):
        raise errors.RangeError(f"{who}: needs a NumPy array, got {type(data).__name__}")
    return data


def flat_bytes(array: Array, who: str) -> Array:
    """View the bytes of a contiguous array, in the order of memory. Errors: RangeError."""
    if array.dtype.hasobject:
        raise errors.RangeError(f"{who}: an array of Python objects cannot be transferred; its dtype is {array.dtype}")
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        raise errors.RangeError(f"{who}: the array must be contiguous; pass a copy")
    return (array if array.flags.c_contiguous else array.T).reshape(-1).view(np.uint8)
