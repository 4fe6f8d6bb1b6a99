"""MPI datatypes as NumPy views, so that they can be put, got, and issued as blocks."""

from __future__ import annotations

from typing import Any

from numpy.lib.stride_tricks import as_strided

from topocomm.rma import errors
from topocomm.rma.strides import Array, as_array, flat_bytes

__all__ = ["buffer_bytes", "datatype_views"]

Runs = list[tuple[int, int]]  # (first byte, bytes)


def _repeat(runs: Runs, count: int, stride: int) -> Runs:
    return [(first + i * stride, size) for i in range(count) for first, size in runs]


def _subarray(p: dict[str, Any], runs: Runs, extent: int) -> Runs:
    from mpi4py import MPI

    fortran = p["order"] == MPI.ORDER_F
    sizes, subsizes, starts = (list(reversed(p[k])) if fortran else list(p[k]) for k in ("sizes", "subsizes", "starts"))
    stride = extent
    for size, subsize, start in zip(reversed(sizes), reversed(subsizes), reversed(starts), strict=True):
        runs = [(first + start * stride, n) for first, n in _repeat(runs, subsize, stride)]
        stride *= size
    return runs


def _named(datatype: Any) -> Runs:
    """Of the types MPI names, only the pair of a short and an int has a gap inside, before the int."""
    from mpi4py import MPI

    size, (first, extent) = datatype.Get_size(), datatype.Get_true_extent()
    if size == extent:
        return [(first, size)]
    if datatype != MPI.SHORT_INT:
        raise errors.RangeError(
            f"datatype_views: {datatype.Get_name()} has {size} bytes over {extent}, and MPI does not say which; "
            "describe it by MPI.Datatype.Create_struct"
        )
    integer = MPI.INT.Get_size()
    return [(0, size - integer), (extent - integer, integer)]


def _runs(datatype: Any) -> Runs:
    """List the bytes of one element of the datatype, in its order."""
    base, combiner, p = datatype.decode()
    if combiner == "NAMED":
        return _named(datatype)
    if combiner == "STRUCT":
        return [
            run
            for n, at, kind in zip(p["blocklengths"], p["displacements"], p["datatypes"], strict=True)
            for run in _repeat([(first + at, size) for first, size in _runs(kind)], n, kind.Get_extent()[1])
        ]
    inner, extent = _runs(base), base.Get_extent()[1]
    if combiner in ("DUP", "RESIZED"):
        return inner
    if combiner == "CONTIGUOUS":
        return _repeat(inner, p["count"], extent)
    if combiner in ("VECTOR", "HVECTOR"):
        stride = p["stride"] * (extent if combiner == "VECTOR" else 1)
        return _repeat(_repeat(inner, p["blocklength"], extent), p["count"], stride)
    if combiner in ("INDEXED", "HINDEXED", "INDEXED_BLOCK", "HINDEXED_BLOCK"):
        unit = 1 if combiner.startswith("H") else extent
        lengths = p["blocklengths"] if "blocklengths" in p else [p["blocklength"]] * len(p["displacements"])
        return [
            run
            for n, at in zip(lengths, p["displacements"], strict=True)
            for run in _repeat([(first + at * unit, size) for first, size in inner], n, extent)
        ]
    if combiner == "SUBARRAY":
        return _subarray(p, inner, extent)
    raise errors.RangeError(f"datatype_views: the combiner {combiner} is not supported; pass a NumPy view instead")


def _join(runs: Runs) -> Runs:
    joined: Runs = []
    for first, size in runs:
        if joined and joined[-1][0] + joined[-1][1] == first:
            joined[-1] = (joined[-1][0], joined[-1][1] + size)
        elif size:
            joined.append((first, size))
    return joined


def datatype_views(array: Array, datatype: Any, count: int = 1) -> list[Array]:
    """View ``array``'s bytes (dtype uint8) as pieces that are ``count`` elements of the committed ``datatype``.

    Runs of equal length and distance become one view with two dimensions; each view is one block or transfer.
    Errors: RangeError if the datatype reaches outside the array, which must be contiguous, or the count is negative.
    """
    array = as_array(array, "datatype_views")
    if count < 0:
        raise errors.RangeError(f"datatype_views: count {count}, must not be negative")
    if not array.flags.c_contiguous and not array.flags.f_contiguous:
        raise errors.RangeError("datatype_views: the array must be contiguous; the datatype describes the gaps")
    runs = _join(_repeat(_runs(datatype), count, datatype.Get_extent()[1]))
    if any(first < 0 or first + size > array.nbytes for first, size in runs):
        raise errors.RangeError(f"datatype_views: {datatype.Get_name() or 'the datatype'} × {count} reaches outside "
                                f"the {array.nbytes} bytes of the array")  # fmt: skip
    data = flat_bytes(array, "datatype_views")
    views: list[Array] = []
    while runs:
        (first, size), n = runs[0], 1
        step = runs[1][0] - first if len(runs) > 1 else size
        while n < len(runs) and runs[n] == (first + n * step, size) and step > 0:
            n += 1
        views.append(as_strided(data[first:], (n, size), (step, 1)) if n > 1 else data[first : first + size])
        runs = runs[n:]
    return views


def buffer_bytes(buffer: Any, who: str) -> Array:
    """Return the bytes that ``array``, ``[array, datatype]`` or ``[array, count, datatype]`` names, without gaps.

    Errors: RangeError for other forms, for arrays and datatypes with gaps, and for counts the array has no room for.
    """
    if not isinstance(buffer, (list, tuple)):
        return flat_bytes(as_array(buffer, who), who)
    if len(buffer) not in (2, 3) or not hasattr(buffer[-1], "Get_true_extent"):
        raise errors.RangeError(f"{who}: understands an array, [array, datatype] and [array, count, datatype]")
    array, datatype = as_array(buffer[0], who), buffer[-1]
    extent = datatype.Get_extent()[1]
    if len(buffer) == 2 and (extent <= 0 or array.nbytes % extent):
        raise errors.RangeError(
            f"{who}: the array has {array.nbytes} bytes, no multiple of the {extent} of {datatype.Get_name()}"
        )
    views = datatype_views(array, datatype, array.nbytes // extent if len(buffer) == 2 else buffer[1])
    if len(views) > 1 or any(view.ndim > 1 for view in views):
        raise errors.RangeError(
            f"{who}: {datatype.Get_name() or 'the datatype'} leaves gaps, and a window moves contiguous bytes; "
            "use datatype_views with blocks and a plan"
        )
    return views[0] if views else flat_bytes(array, who)[:0]
