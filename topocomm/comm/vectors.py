"""Vector forms: ``Allgatherv``, ``Alltoallv`` and ``Alltoallw``.

In an allgatherv all ranks know all counts: the schedules of an allgather carry it, with slots of unequal size, where an
algorithm is named for ``allgather``. Equal counts are an allgather.

In an all-to-all of unequal blocks no rank knows the counts of others. So only what does not depend on them decides: an
algorithm named for ``alltoall``, in the call or for the communicator, sends each pair's message directly, in
the order of the topology; else the MPI library makes the call, and no rank asks another. A pair that has nothing to
send, which both know, sends no message. Datatypes are followed by the MPI library; blocks may have gaps, and those sent
may overlap.

``Gatherv`` and ``Scatterv`` are the MPI library's: only the root knows the counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes
from topocomm.choose.rule import NATIVE
from topocomm.choose.shared import SHARED
from topocomm.comm._recogniser import Recogniser
from topocomm.comm.buffers import Buffer, bytes_of, datatype_of, parse, size_of
from topocomm.comm.call import Call, Read
from topocomm.comm.exchanging import Block, exchange
from topocomm.comm.staging import Caller, fill, take
from topocomm.errors import BufferError

if TYPE_CHECKING:
    from topocomm.comm.state import Runtime

__all__ = ["VectorCalls", "allgatherv"]

_MPI = MPI.Comm


class VectorCalls(Recogniser):
    """The vector forms of a wrapped communicator."""

    __slots__ = ()
    if TYPE_CHECKING:

        @property
        def _runtime(self) -> Runtime | None: ...

    def Allgatherv(self, sendbuf: Any, recvbuf: Any, *, algorithm: str | None = None) -> None:
        """MPI_Allgatherv."""
        runtime = self._runtime
        if (
            runtime is None
            or runtime.leaves_vectors("allgather", algorithm)
            or not runtime.serve(allgatherv, sendbuf, recvbuf, algorithm)
        ):
            _MPI.Allgatherv(self, sendbuf, recvbuf)

    def Alltoallv(self, sendbuf: Any, recvbuf: Any, *, algorithm: str | None = None) -> None:
        """MPI_Alltoallv."""
        runtime = self._runtime
        if runtime is None or not _sends_directly(runtime, algorithm):
            _MPI.Alltoallv(self, sendbuf, recvbuf)
            return
        recvs = _blocks(_vector(runtime, recvbuf, "recvbuf"))
        sends = None if sendbuf is MPI.IN_PLACE else _blocks(_vector(runtime, sendbuf, "sendbuf"))
        exchange(runtime.carrier, runtime.topology, runtime.rank, sends, recvs)

    def Alltoallw(self, sendbuf: Any, recvbuf: Any, *, algorithm: str | None = None) -> None:
        """MPI_Alltoallw."""
        runtime = self._runtime
        if runtime is None or not _sends_directly(runtime, algorithm):
            _MPI.Alltoallw(self, sendbuf, recvbuf)
            return
        recvs = _typed_blocks(recvbuf, runtime.size, "recvbuf")
        sends = None if sendbuf is MPI.IN_PLACE else _typed_blocks(sendbuf, runtime.size, "sendbuf")
        exchange(runtime.carrier, runtime.topology, runtime.rank, sends, recvs)


# -- allgatherv ----------------------------------------------------------------------------------------------------


class _Vector(NamedTuple):
    """A buffer argument of one block a rank; displacements in elements."""

    memory: Any
    counts: list[int]
    displs: list[int]
    datatype: MPI.Datatype


@cache
def _bytes_type(nbytes: int) -> MPI.Datatype:
    return MPI.BYTE.Create_contiguous(nbytes).Commit()


def _unnamed_type(caller: Caller, memory: Any, name: str) -> MPI.Datatype:
    """Return a datatype as long as the elements of memory whose type only mpi4py knows, such as ``long double``."""
    try:
        return _bytes_type(len(take(caller, [memory, 1])))
    except MPI.Exception:  # there is no element
        return MPI.BYTE
    except (TypeError, ValueError) as e:
        raise BufferError(
            f"{name} does not say the type of its elements ({e}); give it as [buffer, counts, MPI datatype]"
        ) from None


def _vector(caller: Caller, spec: Any, name: str) -> _Vector:
    """Read a buffer argument as mpi4py does. Raises BufferError if it is none."""
    size = caller.size
    memory, counts, displs, code = _parts(spec, name)
    datatype = datatype_of(memory, code) or _unnamed_type(caller, memory, name)
    if counts is None:
        extent, found = datatype.Get_extent()[1], bytes_of(memory, False)
        nbytes = len(take(caller, memory) if found is None else found)
        elements = nbytes // extent if extent > 0 else 0
        counts = [elements // size + (elements % size > rank) for rank in range(size)]
    else:
        counts = _numbers(counts, size, f"the counts of {name}")
    if displs is None:
        displs = [0, *np.cumsum(counts).tolist()[:-1]]
    elif hasattr(displs, "__index__"):
        displs = [displs.__index__() * rank for rank in range(size)]
    else:
        displs = _numbers(displs, size, f"the displacements of {name}")
    return _Vector(memory, counts, displs, datatype)


def _parts(spec: Any, name: str) -> tuple[Any, Any, Any, Any]:
    """Return memory, counts, displacements and datatype of an argument in one of mpi4py's forms."""
    if not isinstance(spec, (list, tuple)):
        return spec, None, None, None
    if len(spec) == 4:
        return spec[0], spec[1], spec[2], spec[3]
    if len(spec) not in (2, 3):
        raise BufferError(f"{name}: expecting 2 to 4 items, found {len(spec)}")
    memory, counts, code = (*spec, None) if len(spec) == 2 else spec
    if isinstance(counts, (MPI.Datatype, str)):
        return memory, None, None, counts
    if isinstance(counts, tuple) and len(counts) == 2:
        return memory, counts[0], counts[1], code
    return memory, counts, None, code


def _numbers(values: Any, size: int, name: str) -> list[int]:
    """Return whole numbers, one a rank. Raises BufferError if they are not."""
    if hasattr(values, "__index__"):
        return [values.__index__()] * size
    try:
        found = [value.__index__() for value in values]
    except (TypeError, AttributeError):
        found = []
    if len(found) != size:
        raise BufferError(f"{name} are {values!r:.80}, need {size} whole numbers")
    return found


def allgatherv(caller: Caller, sendbuf: Any, recvbuf: Any, algorithm: str | None) -> Read:
    """Read the arguments of MPI_Allgatherv."""
    vector = _vector(caller, recvbuf, "recvbuf")
    item = int(vector.datatype.Get_size())
    sizes = [count * item for count in vector.counts]
    if min(sizes) < 0:
        raise BufferError(f"the counts of recvbuf are {vector.counts}; none may be below zero")
    result = _result(caller, vector, sizes)
    own = result.data[sum(sizes[: caller.rank]) :][: sizes[caller.rank]]
    call = Call("allgather", sizes[0] if len(set(sizes)) == 1 else tuple(sizes), 1, 0, algorithm)
    if sendbuf is None or sendbuf is MPI.IN_PLACE:
        if result.put_back is not None:
            own[:] = _taken(caller, vector, sizes, caller.rank)
        return Read(call, True, own, result.data, result)
    send = parse(caller, sendbuf, 1, False, "sendbuf")
    if send.nbytes != sizes[caller.rank]:
        raise BufferError(
            f"sendbuf has {send.nbytes} bytes, needs {sizes[caller.rank]}: recvbuf expects {vector.counts[caller.rank]}"
            f" elements of {item} bytes from rank {caller.rank}"
        )
    here = bool(len(own)) and send.data.ctypes.data == own.ctypes.data
    return Read(call, here, send.data, result.data, result)


def _result(caller: Caller, vector: _Vector, sizes: Sequence[int]) -> Buffer:
    """Return where blocks are received, one after the other: the caller's memory if they lie so, else a copy."""
    total, width = sum(sizes), size_of(vector.datatype)
    plain = isinstance(vector.memory, np.ndarray) and vector.memory.flags.c_contiguous and width > 0
    if not plain:
        data = np.empty(total, np.uint8)
        return Buffer(data, total, MPI.BYTE, 1, lambda data: _fill(caller, vector, sizes, data))
    if not vector.memory.flags.writeable:
        raise BufferError("recvbuf is read-only")
    memory: Bytes = vector.memory.reshape(-1).view(np.uint8)
    starts = [displ * width for displ in vector.displs]
    _check_room(vector, starts, sizes, len(memory))
    given = [(start, size) for start, size in zip(starts, sizes, strict=True) if size]
    ends = [start + size for start, size in given]
    if all(end == start for end, (start, _) in zip(ends, given[1:], strict=False)):
        first = given[0][0] if given else 0
        return Buffer(memory[first : first + total], total, MPI.BYTE, 1)

    def scatter(data: Bytes) -> None:
        at = 0
        for start, size in given:
            memory[start : start + size] = data[at : at + size]
            at += size

    return Buffer(np.empty(total, np.uint8), total, MPI.BYTE, 1, scatter)


def _check_room(vector: _Vector, starts: Sequence[int], sizes: Sequence[int], room: int) -> None:
    for rank, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if size and not 0 <= start <= start + size <= room:
            raise BufferError(
                f"recvbuf has {room} bytes; the block of rank {rank}, {vector.counts[rank]} elements at "
                f"{vector.displs[rank]}, ends at byte {start + size}"
            )


def _block(vector: _Vector, rank: int) -> list[Any]:
    return [vector.memory, vector.counts[rank], vector.displs[rank], vector.datatype]


def _fill(caller: Caller, vector: _Vector, sizes: Sequence[int], data: Bytes) -> None:
    """Bring blocks into memory that the MPI library follows."""
    at = 0
    for rank, size in enumerate(sizes):
        if size:
            fill(caller, _block(vector, rank), data[at : at + size])
        at += size


def _taken(caller: Caller, vector: _Vector, sizes: Sequence[int], rank: int) -> Bytes:
    return take(caller, _block(vector, rank)) if sizes[rank] else np.empty(0, np.uint8)


# -- all to all ----------------------------------------------------------------------------------------------------


def _sends_directly(runtime: Runtime, algorithm: str | None) -> bool:
    """Tell whether an algorithm is named. Raises AlgorithmError if it is unknown."""
    named = algorithm if algorithm is not None else runtime.settings.named.get("alltoall")
    if named in (None, NATIVE, SHARED) or runtime.size == 1:
        return False
    from topocomm.algorithms.table import find

    find("alltoall", str(named))
    return True


def _address(memory: Any) -> int:
    return 0 if memory is None or memory is MPI.BOTTOM else int(MPI.Get_address(memory))


def _check_writable(memory: Any, name: str) -> None:
    if isinstance(memory, np.ndarray) and name == "recvbuf" and not memory.flags.writeable:
        raise BufferError("recvbuf is read-only")


def _blocks(vector: _Vector) -> list[Block]:
    """Return the blocks of a buffer argument of Alltoallv."""
    base, extent = _address(vector.memory), int(vector.datatype.Get_extent()[1])
    pairs = zip(vector.counts, vector.displs, strict=True)
    return [Block(base + displ * extent, count, vector.datatype) for count, displ in pairs]


def _typed_blocks(spec: Any, size: int, name: str) -> list[Block]:
    """Return the blocks of a buffer argument of Alltoallw; displacements are in bytes."""
    if not isinstance(spec, (list, tuple)) or len(spec) not in (2, 3, 4):
        raise BufferError(f"{name}: expecting a list of 2 to 4 items, found {spec!r:.80}")
    memory, types = spec[0], list(spec[-1])
    counts, displs = [1] * size, [0] * size
    if len(spec) > 2:
        given = spec[1] if len(spec) == 3 else spec[1:3]
        counts = _numbers(given[0], size, f"the counts of {name}")
        displs = _numbers(given[1], size, f"the displacements of {name}")
    if len(types) != size:
        raise BufferError(f"{name} has {len(types)} datatypes, needs {size}")
    _check_writable(memory, name)
    base = _address(memory)
    found = [datatype_of(memory, code) for code in types]
    return [Block(base + d, c, t or MPI.DATATYPE_NULL) for d, c, t in zip(displs, counts, found, strict=True)]
