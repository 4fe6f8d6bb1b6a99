"""The converters: MPI's repeated exchanges as :class:`Exchange`, each argument checked before any rank goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from topocomm.rma import errors
from topocomm.rma.context import Context
from topocomm.rma.exchange import Exchange, Part
from topocomm.rma.memory import Memory
from topocomm.rma.opening import whole
from topocomm.rma.strides import Array, as_array
from topocomm.rma.together import together

__all__ = ["alltoallv", "halo", "neighbour_alltoall", "sendrecv"]

Made = tuple[list[Array], list[Part], list[Memory], list[Part]]  # what Exchange takes


def _converted(context: Context, make: Callable[[], Made], owned: bool) -> Exchange:
    """Raise bad arguments of one rank on all, and free memory that the others have allocated by then."""
    undo = _free if owned else None
    return Exchange(context, *together(context, make, undo), owned=owned)


def _free(made: Made) -> None:
    for memory in made[2]:
        memory.free()


def _pair(context: Context, shape: int | Sequence[int], dtype: DTypeLike) -> list[Memory]:
    first = context.allocate(shape, dtype)
    try:
        return [first, context.allocate(shape, dtype)]
    except BaseException:
        first.free()
        raise


def _chunks(counts: Sequence[int], displacements: Sequence[int] | None, size: int, who: str) -> list[Part]:
    """List the parts of a one-dimensional array that its counts and displacements give to each rank."""
    if len(counts) != size or (displacements is not None and len(displacements) != size):
        starts = "" if displacements is None else f" and {len(displacements)} displacements"
        raise errors.RangeError(f"{who}: {len(counts)} counts{starts}, needs one for each of {size} ranks")
    lengths = [whole(count, f"count for rank {r}", 0, None, who) for r, count in enumerate(counts)]
    places = np.concatenate(([0], np.cumsum(lengths)[:-1])).tolist() if displacements is None else displacements
    firsts = [whole(place, f"displacement for rank {r}", 0, None, who) for r, place in enumerate(places)]
    return [Part(r, 0, slice(first, first + n)) for r, (n, first) in enumerate(zip(lengths, firsts, strict=True)) if n]


def alltoallv(
    context: Context,
    source: Array,
    send_counts: Sequence[int],
    receive_counts: Sequence[int],
    send_displacements: Sequence[int] | None = None,
    receive_displacements: Sequence[int] | None = None,
) -> Exchange:
    """Convert ``Alltoallv`` of a one-dimensional array; counts and displacements in elements, one for each rank.

    Errors, on every rank: ValueError or RangeError for counts that are negative, do not fit the source, overlap where
    they are received, or differ between sender and receiver.
    """
    who = f"alltoallv on rank {context.rank}"

    def make() -> Made:
        array = as_array(source, who)
        if array.ndim != 1:
            raise errors.RangeError(f"{who}: needs a one-dimensional source, got shape {array.shape}; pass its view")
        sends = _chunks(send_counts, send_displacements, context.size, f"{who}, sends")
        receives = _chunks(receive_counts, receive_displacements, context.size, f"{who}, receives")
        needed = max((p.index.stop for p in sends), default=0)
        if needed > array.size:
            raise errors.RangeError(f"{who}: counts and displacements need {needed} elements, source has {array.size}")
        for one, other in pairwise(sorted(receives, key=lambda p: p.index.start)):
            if one.index.stop > other.index.start:
                raise errors.RangeError(f"{who}: what it receives from ranks {one.rank} and {other.rank} overlaps")
        room = max((p.index.stop for p in receives), default=0)
        return [array, array], sends, _pair(context, room, array.dtype), receives

    return _converted(context, make, owned=True)


def neighbour_alltoall(
    context: Context, source: Array, sources: Sequence[int], destinations: Sequence[int]
) -> Exchange:
    """Convert ``Neighbor_alltoall``: row i of ``source`` goes to ``destinations[i]``, row i comes from ``sources[i]``.

    Ranks below zero (``PROC_NULL``) are left out; a rank listed twice gets its rows in order. Errors, on every rank:
    RangeError unless the source has one row for each destination; ValueError for a rank that there is not.
    """
    who = f"neighbour_alltoall on rank {context.rank}"

    def make() -> Made:
        array = as_array(source, who)
        if array.ndim == 0 or len(array) != len(destinations):
            raise errors.RangeError(
                f"{who}: source of shape {array.shape}, needs one row for each of {len(destinations)} destinations"
            )
        sends = [Part(r, list(destinations[:i]).count(r), i) for i, r in enumerate(destinations) if r >= 0]
        receives = [Part(r, list(sources[:i]).count(r), i) for i, r in enumerate(sources) if r >= 0]
        memories = _pair(context, (len(sources), *array.shape[1:]), array.dtype)
        return [array, array], sends, memories, receives

    return _converted(context, make, owned=True)


def sendrecv(
    context: Context, source: Array, dest: int, count: int, origin: int, dtype: DTypeLike | None = None
) -> Exchange:
    """Convert ``Sendrecv``: ``source`` to ``dest``, ``count`` elements from ``origin``; a rank below zero is nobody.

    Errors, on every rank: ValueError for a negative count or a rank that there is not; RangeError if the count or the
    dtype differs from what ``origin`` sends.
    """
    who = f"sendrecv on rank {context.rank}"

    def make() -> Made:
        array, n = as_array(source, who), whole(count, "count", 0, None, who)
        sends = [Part(dest, 0, slice(None))] if dest >= 0 else []
        receives = [Part(origin, 0, slice(0, n))] if origin >= 0 else []
        return [array, array], sends, _pair(context, max(n, 1), dtype or array.dtype), receives

    return _converted(context, make, owned=True)


def _neighbour(cart: Any, step: Sequence[int]) -> int:
    dims, periods, coords = cart.Get_topo()
    place = [c + s for c, s in zip(coords, step, strict=True)]
    inside = all(p or 0 <= c < d for c, d, p in zip(place, dims, periods, strict=True))
    return int(cart.Get_cart_rank([c % d for c, d in zip(place, dims, strict=True)])) if inside else -1


def _edge(step: Sequence[int], width: int, ghost: bool) -> tuple[slice, ...]:
    """Index the cells next to, or in, the ghost layer that ``step`` points to; a direction of 0 spans the inside."""
    low = slice(0, width) if ghost else slice(width, 2 * width)
    high = slice(-width, None) if ghost else slice(-2 * width, -width)
    return tuple(slice(width, -width) if s == 0 else high if s > 0 else low for s in step)


def _check_halo(context: Context, memories: Sequence[Memory], cart: Any, width: int, who: str) -> int:
    """Check arrays against the communicator; returns its number of dimensions. Errors: KindError, RangeError."""
    if not hasattr(cart, "Get_cart_rank"):
        raise errors.KindError(f"{who}: needs a Cartesian communicator (comm.Create_cart), got {type(cart).__name__}")
    if (cart.size, cart.rank) != (context.size, context.rank):
        raise errors.RangeError(
            f"{who}: is rank {cart.rank} of {cart.size} in the Cartesian communicator, but rank {context.rank} of "
            f"{context.size} in the context; open the context on the Cartesian communicator"
        )
    whole(width, "width", 1, None, who)
    dimensions = len(cart.Get_topo()[0])
    for memory in memories:
        if not isinstance(memory, Memory):
            raise errors.KindError(
                f"{who}: needs two memories made by Context.allocate or Context.register, got {type(memory).__name__}"
            )
        if memory.array.ndim < dimensions or min(memory.array.shape[:dimensions]) < 3 * width:
            raise errors.RangeError(
                f"{who}: shape {memory.array.shape} has no room for {width} ghost cells at both ends of {dimensions} "
                f"dimensions and {width} cells between them"
            )
    return dimensions


def halo(context: Context, memories: Sequence[Memory], cart: Any, width: int = 1, corners: bool = False) -> Exchange:
    """Exchange the halos of two alternating arrays over a Cartesian communicator with the same ranks as the context.

    The arrays' leading dimensions are the communicator's, each with ``width`` ghost cells at both ends; ``corners``
    exchanges with diagonal neighbours too. Round k fills the ghost cells of ``memories[k % 2]`` from the neighbours'
    cells of the same array: write to the ghost cells only before this call, later they belong to the neighbours.

    Errors, on every rank: TypeError for what is no memory or no Cartesian communicator; RangeError for arrays that are
    too small, differ between neighbours, or share bytes.
    """
    who = f"halo on rank {context.rank}"

    def make() -> Made:
        dimensions = _check_halo(context, memories, cart, width, who)
        sends, receives = [], []
        for number, step in enumerate(product((-1, 0, 1), repeat=dimensions)):
            if not any(step) or (not corners and sum(map(abs, step)) > 1):
                continue
            peer = _neighbour(cart, step)
            if peer < 0:
                continue
            opposite = 3**dimensions - 1 - number
            sends.append(Part(peer, opposite, _edge(step, width, ghost=False)))
            receives.append(Part(peer, number, _edge(step, width, ghost=True)))
        return [m.array for m in memories], sends, list(memories), receives

    return _converted(context, make, owned=False)
