"""One reader a collective: from mpi4py's arguments to a :class:`~topocomm.comm.call.Read`.

A reader looks at this rank's arguments only (but for the counts of a reduce_scatter that nobody gives, which mpi4py
gathers, too). It serves blocking, non-blocking and persistent forms; a form that starts a call again reads again, as
buffers may be packed copies.

Every reader raises BufferError, or what mpi4py raises, for a bad argument, and :class:`ForLibraryError` where the MPI
library is to raise its own error. The caller adds the name of the call and the rank.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm import objects
from topocomm.arrays import Bytes
from topocomm.comm.buffers import EMPTY, Buffer, parse
from topocomm.comm.call import Call, Read
from topocomm.comm.operations import PLAIN, Traits, known_plain, reducible, traits_of
from topocomm.comm.staging import Caller
from topocomm.errors import BufferError

__all__ = [
    "ForLibraryError",
    "KnownToAllError",
    "allgather",
    "allreduce",
    "alltoall",
    "barrier",
    "bcast",
    "exscan",
    "gather",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_block",
    "scan",
    "scatter",
]


class ForLibraryError(Exception):
    """A bad argument that the MPI library is to refuse; the message is for the other ranks."""


class KnownToAllError(BufferError):
    """A bad argument that all ranks know of already."""


def in_place(spec: Any) -> bool:
    """Whether an argument says MPI.IN_PLACE, which mpi4py also takes None for."""
    return spec is None or spec is MPI.IN_PLACE


def _root(caller: Caller, root: Any) -> int:
    """The root as a whole number. Raises ForLibraryError if it is no rank."""
    try:
        number = operator.index(root)
    except TypeError:
        number = -1
    if not 0 <= number < caller.size:
        raise ForLibraryError(f"root {root!r} is not a rank; the communicator has {caller.size}")
    return number


def _same_memory(a: Bytes, b: Bytes) -> bool:
    return np.may_share_memory(a, b) and a.ctypes.data == b.ctypes.data


def _check_bytes(send: Buffer, recv: Buffer) -> None:
    """What one rank sends to another must be what that one receives."""
    if send.nbytes != recv.nbytes:
        raise BufferError(
            f"recvbuf has {recv.count} elements of {recv.itemsize} bytes a block, "
            f"needs {send.nbytes} bytes, as many as sendbuf has"
        )


def _only_at_root(collective: str, caller: Caller, root: int, which: str, other: str) -> str:
    return (
        f"{collective} on rank {caller.rank}: {which} is MPI.IN_PLACE, which only the root may give, rank {root}; "
        f"{other}, so that the other ranks need not wait"
    )


# -- blocks --------------------------------------------------------------------------------------------------------


def allgather(caller: Caller, sendbuf: Any, recvbuf: Any, algorithm: str | None) -> Read:
    """MPI_Allgather."""
    recv = parse(caller, recvbuf, caller.size, True, "recvbuf")
    nbytes = recv.nbytes
    own = recv.data[caller.rank * nbytes : (caller.rank + 1) * nbytes]
    call = Call("allgather", nbytes, 1, 0, algorithm)
    if in_place(sendbuf):
        return Read(call, True, own, recv.data, recv)
    send = parse(caller, sendbuf, 1, False, "sendbuf")
    _check_bytes(send, recv)
    return Read(call, _same_memory(send.data, own), send.data, recv.data, recv)


def alltoall(caller: Caller, sendbuf: Any, recvbuf: Any, algorithm: str | None) -> Read:
    """MPI_Alltoall."""
    recv = parse(caller, recvbuf, caller.size, True, "recvbuf")
    call = Call("alltoall", recv.nbytes, 1, 0, algorithm)
    if in_place(sendbuf):
        return Read(call, True, recv.data, recv.data, recv)
    send = parse(caller, sendbuf, caller.size, False, "sendbuf")
    _check_bytes(send, recv)
    return Read(call, _same_memory(send.data, recv.data), send.data, recv.data, recv)


def gather(caller: Caller, sendbuf: Any, recvbuf: Any, root: Any, algorithm: str | None) -> Read:
    """MPI_Gather."""
    root = _root(caller, root)
    if caller.rank != root:
        return _gather_elsewhere(caller, sendbuf, recvbuf, root, algorithm)
    recv = parse(caller, recvbuf, caller.size, True, "recvbuf")
    call = Call("gather", recv.nbytes, 1, root, algorithm)
    if in_place(sendbuf):
        return Read(call, True, recv.data[root * recv.nbytes : (root + 1) * recv.nbytes], recv.data, recv)
    send = parse(caller, sendbuf, 1, False, "sendbuf")
    _check_bytes(send, recv)
    return Read(call, False, send.data, recv.data, recv)


def _gather_elsewhere(caller: Caller, sendbuf: Any, recvbuf: Any, root: int, algorithm: str | None) -> Read:
    if sendbuf is MPI.IN_PLACE and recvbuf is not None:
        recv, fault = parse(caller, recvbuf, caller.size, False, "recvbuf"), True
        data = recv.data[caller.rank * recv.nbytes : (caller.rank + 1) * recv.nbytes]
    else:
        send, fault = parse(caller, sendbuf, 1, False, "sendbuf"), False
        data = send.data
    said = _only_at_root("Gather", caller, root, "sendbuf", "its block of recvbuf was sent") if fault else ""
    return Read(Call("gather", len(data), 1, root, algorithm), False, data, fault=said)


def scatter(caller: Caller, sendbuf: Any, recvbuf: Any, root: Any, algorithm: str | None) -> Read:
    """MPI_Scatter."""
    root = _root(caller, root)
    if caller.rank != root:
        return _scatter_elsewhere(caller, sendbuf, recvbuf, root, algorithm)
    send = parse(caller, sendbuf, caller.size, False, "sendbuf")
    call = Call("scatter", send.nbytes, 1, root, algorithm)
    if in_place(recvbuf):  # the root's block stays where it is
        return Read(call, False, send.data, np.empty(send.nbytes, np.uint8))
    recv = parse(caller, recvbuf, 1, True, "recvbuf")
    _check_bytes(send, recv)
    return Read(call, False, send.data, recv.data, recv)


def _scatter_elsewhere(caller: Caller, sendbuf: Any, recvbuf: Any, root: int, algorithm: str | None) -> Read:
    if recvbuf is MPI.IN_PLACE and sendbuf is not None:
        send = parse(caller, sendbuf, caller.size, False, "sendbuf")
        said = _only_at_root("Scatter", caller, root, "recvbuf", "its block was received and dropped")
        call = Call("scatter", send.nbytes, 1, root, algorithm)
        return Read(call, False, EMPTY, np.empty(send.nbytes, np.uint8), fault=said)
    recv = parse(caller, recvbuf, 1, True, "recvbuf")
    return Read(Call("scatter", recv.nbytes, 1, root, algorithm), False, EMPTY, recv.data, recv)


def bcast(caller: Caller, buf: Any, root: Any, algorithm: str | None) -> Read:
    """MPI_Bcast."""
    root = _root(caller, root)
    elsewhere = caller.rank != root
    data = parse(caller, buf, 1, elsewhere, "buf")
    call = Call("bcast", data.nbytes, 1, root, algorithm)
    return Read(call, True, data.data, data.data, data if elsewhere else None)


def barrier(caller: Caller, algorithm: str | None) -> Read:
    """MPI_Barrier."""
    return Read(Call("barrier", 0, 1, 0, algorithm), False)


# -- reductions ----------------------------------------------------------------------------------------------------


def _traits(op: MPI.Op, buffer: Buffer) -> Traits:
    """The traits of a reduction. Raises ForLibraryError if there is no such reduction."""
    if known_plain(op, buffer.datatype):
        return PLAIN
    if not reducible(op, buffer.datatype):
        raise ForLibraryError("the operation does not work on this type")
    traits = traits_of(op)
    return traits._replace(foreign=True) if buffer.foreign else traits


def _check_elements(send: Buffer, recv: Buffer) -> None:
    """Both operands must be of one type, and as many."""
    _check_types(send, recv)
    if send.count != recv.count:
        raise BufferError(f"recvbuf holds {recv.count} elements, needs {send.count} as sendbuf has")


def _check_types(send: Buffer, recv: Buffer) -> None:
    if send.datatype is not recv.datatype and send.datatype != recv.datatype:
        raise BufferError(f"sendbuf is of {send.datatype.name}, recvbuf of {recv.datatype.name}; both must agree")


def allreduce(caller: Caller, sendbuf: Any, recvbuf: Any, op: MPI.Op, algorithm: str | None) -> Read:
    """MPI_Allreduce."""
    return _whole("allreduce", caller, sendbuf, recvbuf, op, algorithm)


def scan(caller: Caller, sendbuf: Any, recvbuf: Any, op: MPI.Op, algorithm: str | None) -> Read:
    """MPI_Scan."""
    return _whole("scan", caller, sendbuf, recvbuf, op, algorithm)


def exscan(caller: Caller, sendbuf: Any, recvbuf: Any, op: MPI.Op, algorithm: str | None) -> Read:
    """MPI_Exscan. The first rank has no result."""
    read = _whole("exscan", caller, sendbuf, recvbuf, op, algorithm)
    return read if caller.rank else read._replace(result=None)


def _whole(collective: str, caller: Caller, sendbuf: Any, recvbuf: Any, op: MPI.Op, algorithm: str | None) -> Read:
    """Read a reduction of which every rank gives and gets a whole vector."""
    recv = parse(caller, recvbuf, 1, True, "recvbuf", operand=True)
    send = recv if in_place(sendbuf) else parse(caller, sendbuf, 1, False, "sendbuf", operand=True)
    traits = _traits(op, recv)
    _check_elements(send, recv)
    call = Call(collective, recv.count, recv.itemsize, 0, algorithm, traits)
    here = send is recv or _same_memory(send.data, recv.data)
    return Read(call, here, send.data, recv.data, recv, op, recv.datatype)


def reduce(caller: Caller, sendbuf: Any, recvbuf: Any, op: MPI.Op, root: Any, algorithm: str | None) -> Read:
    """MPI_Reduce."""
    root = _root(caller, root)
    if caller.rank != root:
        return _reduce_elsewhere(caller, sendbuf, recvbuf, op, root, algorithm)
    recv = parse(caller, recvbuf, 1, True, "recvbuf", operand=True)
    send = recv if in_place(sendbuf) else parse(caller, sendbuf, 1, False, "sendbuf", operand=True)
    traits = _traits(op, recv)
    _check_elements(send, recv)
    call = Call("reduce", recv.count, recv.itemsize, root, algorithm, traits)
    here = send is recv or _same_memory(send.data, recv.data)
    return Read(call, here, send.data, recv.data, recv, op, recv.datatype)


def _reduce_elsewhere(caller: Caller, sendbuf: Any, recvbuf: Any, op: MPI.Op, root: int, algorithm: str | None) -> Read:
    said = ""
    if sendbuf is MPI.IN_PLACE and recvbuf is not None:
        send = parse(caller, recvbuf, 1, False, "recvbuf", operand=True)
        said = _only_at_root("Reduce", caller, root, "sendbuf", "recvbuf was sent")
    else:
        send = parse(caller, sendbuf, 1, False, "sendbuf", operand=True)
    call = Call("reduce", send.count, send.itemsize, root, algorithm, _traits(op, send))
    return Read(call, False, send.data, EMPTY, None, op, send.datatype, said)


def reduce_scatter_block(caller: Caller, sendbuf: Any, recvbuf: Any, op: MPI.Op, algorithm: str | None) -> Read:
    """MPI_Reduce_scatter_block."""
    here = in_place(sendbuf)
    recv = parse(caller, recvbuf, caller.size if here else 1, True, "recvbuf", operand=True)
    send = recv if here else parse(caller, sendbuf, caller.size, False, "sendbuf", operand=True)
    traits = _traits(op, recv)
    _check_elements(send, recv)
    call = Call("reduce_scatter_block", send.count, send.itemsize, 0, algorithm, traits)
    here = here or _same_memory(send.data, recv.data)
    return Read(call, here, send.data, recv.data, recv, op, recv.datatype)


def _receive_counts(caller: Caller, recvcounts: Any) -> tuple[int, ...]:
    """The counts of every rank, as given."""
    try:
        counts = tuple(int(c) for c in recvcounts)
    except (TypeError, ValueError):
        counts = ()
    if len(counts) != caller.size or min(counts) < 0:
        raise ForLibraryError(f"recvcounts are {recvcounts!r}, need {caller.size} whole numbers")
    return counts


def _gather_counts(caller: Caller, recvbuf: Any) -> tuple[int, ...]:
    """The counts of every rank, gathered as mpi4py does if the caller gives none. A bad buffer is known to all."""
    found: int | str
    try:
        found = parse(caller, recvbuf, 1, True, "recvbuf", operand=True).count
    except Exception as e:
        found = str(e)
    counts: list[int] = []
    for rank, count in enumerate(objects.allgather(caller.comm, found)):
        if isinstance(count, str):
            raise KnownToAllError(f"Reduce_scatter on rank {rank}: {count}")
        counts.append(count)
    return tuple(counts)


def reduce_scatter(
    caller: Caller, sendbuf: Any, recvbuf: Any, recvcounts: Any, op: MPI.Op, algorithm: str | None
) -> Read:
    """MPI_Reduce_scatter."""
    here = in_place(sendbuf)
    gathered = None if here or recvcounts is not None else _gather_counts(caller, recvbuf)
    recv = parse(caller, recvbuf, 1, True, "recvbuf", operand=True)
    send = recv if here else parse(caller, sendbuf, 1, False, "sendbuf", operand=True)
    traits = _traits(op, recv)
    counts = gathered if gathered is not None else _receive_counts(caller, recvcounts)
    _check_counts(caller, counts, send, recv)
    call = Call("reduce_scatter", counts, send.itemsize, 0, algorithm, traits)
    here = here or _same_memory(send.data, recv.data)
    return Read(call, here, send.data, recv.data, recv, op, recv.datatype)


def _check_counts(caller: Caller, counts: tuple[int, ...], send: Buffer, recv: Buffer) -> None:
    """The buffers must hold as many elements as the counts say."""
    here, rank = send is recv, caller.rank
    if send.count != sum(counts):
        which = "recvbuf" if here else "sendbuf"
        raise BufferError(f"{which} holds {send.count} elements, needs {sum(counts)}, the sum of recvcounts")
    if here:
        return
    if recv.count != counts[rank]:
        raise BufferError(f"recvbuf holds {recv.count} elements, needs recvcounts[{rank}] = {counts[rank]}")
    _check_types(send, recv)
