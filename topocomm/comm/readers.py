"""One function a collective: from mpi4py's arguments to a plan that runs.

Every function returns True if it has done the call, False if the call is for the MPI library: because the decision says
so, or because its arguments are (see :mod:`topocomm.comm.buffers`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes
from topocomm.comm.buffers import EMPTY, Buffer, parse
from topocomm.comm.state import NO_PLAN, Bound, Call, Runtime
from topocomm.errors import BufferError

__all__ = [
    "allgather",
    "allreduce",
    "alltoall",
    "barrier",
    "bcast",
    "gather",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_block",
    "scatter",
]


def in_place(spec: Any) -> bool:
    """Whether an argument says MPI.IN_PLACE, which mpi4py also takes None for."""
    return spec is None or spec is MPI.IN_PLACE


def _refuse(rt: Runtime, collective: str, message: str) -> NoReturn:
    rt.refuse(f"{collective} on rank {rt.rank}: {message}")
    raise AssertionError("unreachable")


def _read(
    rt: Runtime, collective: str, spec: Any, blocks: int, writable: bool, name: str, operand: bool = False
) -> Buffer | None:
    try:
        buffer = parse(spec, blocks, writable, name, operand)
    except BufferError as e:
        _refuse(rt, collective, str(e))
    if buffer is None:
        error = _library_error(spec, writable)
        if error is not None:
            rt.tell(f"{collective} on rank {rt.rank}: {name}: {error}")
            raise error
        rt.forward(collective.lower())
    return buffer


def _library_error(spec: Any, writable: bool) -> Exception | None:
    """What mpi4py itself has to say against a buffer argument."""
    try:
        start = MPI.COMM_SELF.Recv_init if writable else MPI.COMM_SELF.Send_init
        start(spec, 0).Free()
    except Exception as e:
        return e
    return None


def _bad_root(rt: Runtime, collective: str, root: int) -> bool:
    """Whether there is no such root; the other ranks learn of it, and the MPI library is to raise its error."""
    if isinstance(root, int) and 0 <= root < rt.size:
        return False
    rt.tell(f"{collective} on rank {rt.rank}: root {root} is not a rank; the communicator has {rt.size}")
    return True


def _same_memory(a: Bytes, b: Bytes) -> bool:
    return np.may_share_memory(a, b) and a.ctypes.data == b.ctypes.data


def _agree_on_bytes(rt: Runtime, collective: str, send: Buffer, recv: Buffer) -> None:
    """What one rank sends to another must be what that one receives."""
    if send.count * send.itemsize != recv.count * recv.itemsize:
        _refuse(
            rt,
            collective,
            f"recvbuf has {recv.count} elements of {recv.itemsize} bytes a block, "
            f"needs {send.count * send.itemsize} bytes, as many as sendbuf has",
        )


def _bound(rt: Runtime, key: tuple[Hashable, ...], call: Any, in_place: bool = False) -> Bound:
    """The plan for ``key``; ``call()`` says what it is when it is new."""
    bound = rt.plans.get(key)
    if bound is None or rt.settings.check_always:
        bound = rt.bind(call(), in_place)
        if bound is None:
            return NO_PLAN
        rt.plans[key] = bound
    return bound


# -- blocks --------------------------------------------------------------------------------------------------------


def allgather(rt: Runtime, sendbuf: Any, recvbuf: Any, algorithm: str | None) -> bool:
    """MPI_Allgather."""
    recv = _read(rt, "Allgather", recvbuf, rt.size, True, "recvbuf")
    if recv is None:
        return False
    nbytes = recv.count * recv.itemsize
    own = recv.data[rt.rank * nbytes : (rt.rank + 1) * nbytes]
    data, here = own, in_place(sendbuf)
    if not here:
        send = _read(rt, "Allgather", sendbuf, 1, False, "sendbuf")
        if send is None:
            return False
        _agree_on_bytes(rt, "Allgather", send, recv)
        data, here = send.data, _same_memory(send.data, own)
    bound = _bound(
        rt, ("allgather", nbytes, here, algorithm), lambda: Call("allgather", nbytes, 1, named=algorithm), here
    )
    if bound.plan is None:
        return False
    rt.run(bound, data, recv.data)
    recv.unpack()
    return True


def alltoall(rt: Runtime, sendbuf: Any, recvbuf: Any, algorithm: str | None) -> bool:
    """MPI_Alltoall."""
    recv = _read(rt, "Alltoall", recvbuf, rt.size, True, "recvbuf")
    if recv is None:
        return False
    nbytes = recv.count * recv.itemsize
    here = in_place(sendbuf)
    send = recv if here else _read(rt, "Alltoall", sendbuf, rt.size, False, "sendbuf")
    if send is None:
        return False
    _agree_on_bytes(rt, "Alltoall", send, recv)
    here = here or _same_memory(send.data, recv.data)
    bound = _bound(
        rt, ("alltoall", nbytes, here, algorithm), lambda: Call("alltoall", nbytes, 1, named=algorithm), here
    )
    if bound.plan is None:
        return False
    rt.run(bound, send.data, recv.data)
    recv.unpack()
    return True


def gather(rt: Runtime, sendbuf: Any, recvbuf: Any, root: int, algorithm: str | None) -> bool:
    """MPI_Gather."""
    if _bad_root(rt, "Gather", root):
        return False
    at_root = rt.rank == root
    recv = _read(rt, "Gather", recvbuf, rt.size, True, "recvbuf") if at_root else None
    here = at_root and in_place(sendbuf)
    if at_root and recv is None:
        return False
    send = None if here else _read(rt, "Gather", sendbuf, 1, False, "sendbuf")
    if send is None and not here:
        return False
    nbytes = recv.count * recv.itemsize if recv is not None else send.count * send.itemsize  # type: ignore[union-attr]
    if recv is not None and send is not None:
        _agree_on_bytes(rt, "Gather", send, recv)
    bound = _bound(
        rt, ("gather", nbytes, root, here, algorithm), lambda: Call("gather", nbytes, 1, root, named=algorithm), here
    )
    if bound.plan is None:
        return False
    target = recv.data if recv is not None else EMPTY
    rt.run(bound, target[root * nbytes : (root + 1) * nbytes] if send is None else send.data, target)
    if recv is not None:
        recv.unpack()
    return True


def scatter(rt: Runtime, sendbuf: Any, recvbuf: Any, root: int, algorithm: str | None) -> bool:
    """MPI_Scatter."""
    if _bad_root(rt, "Scatter", root):
        return False
    at_root = rt.rank == root
    send = _read(rt, "Scatter", sendbuf, rt.size, False, "sendbuf") if at_root else None
    here = at_root and in_place(recvbuf)
    if at_root and send is None:
        return False
    recv = None if here else _read(rt, "Scatter", recvbuf, 1, True, "recvbuf")
    if recv is None and not here:
        return False
    nbytes = send.count * send.itemsize if send is not None else recv.count * recv.itemsize  # type: ignore[union-attr]
    if recv is not None and send is not None:
        _agree_on_bytes(rt, "Scatter", send, recv)
    bound = _bound(rt, ("scatter", nbytes, root, algorithm), lambda: Call("scatter", nbytes, 1, root, named=algorithm))
    if bound.plan is None:
        return False
    # in place the root's block stays where it is
    target = recv.data if recv is not None else np.empty(nbytes, np.uint8)
    rt.run(bound, send.data if send is not None else EMPTY, target)
    if recv is not None:
        recv.unpack()
    return True


def bcast(rt: Runtime, buf: Any, root: int, algorithm: str | None) -> bool:
    """MPI_Bcast."""
    if _bad_root(rt, "Bcast", root):
        return False
    data = _read(rt, "Bcast", buf, 1, rt.rank != root, "buf")
    if data is None:
        return False
    nbytes = data.count * data.itemsize
    bound = _bound(
        rt, ("bcast", nbytes, root, algorithm), lambda: Call("bcast", nbytes, 1, root, named=algorithm), True
    )
    if bound.plan is None:
        return False
    # a schedule may write the root's own blocks once more: never into memory that is only to be read
    memory = data.data if data.data.flags.writeable else data.data.copy()
    rt.run(bound, memory, memory)
    if rt.rank != root:
        data.unpack()
    return True


def barrier(rt: Runtime, algorithm: str | None) -> bool:
    """MPI_Barrier."""
    bound = _bound(rt, ("barrier", algorithm), lambda: Call("barrier", 0, 1, named=algorithm))
    if bound.plan is None:
        return False
    rt.run(bound, EMPTY, EMPTY)
    return True


# -- reductions ----------------------------------------------------------------------------------------------------

_works: dict[tuple[int, int], bool] = {}


def _reducible(op: MPI.Op, datatype: MPI.Datatype) -> bool:
    """Whether the MPI library reduces this type with this operation. If not, it shall say so itself."""
    if not isinstance(op, MPI.Op) or op in (MPI.OP_NULL, MPI.REPLACE, MPI.NO_OP):
        return False
    if not op.is_predefined:
        return True
    found = _works.get((op.handle, datatype.handle))
    if found is None:
        one, two = np.zeros((2, datatype.Get_extent()[1]), np.uint8)
        try:
            op.Reduce_local([one, 1, datatype], [two, 1, datatype])
            found = True
        except MPI.Exception:
            found = False
        if datatype.is_predefined:
            _works[op.handle, datatype.handle] = found
    return found


def _kind(buffer: Buffer, op: MPI.Op) -> tuple[int, ...]:
    """What a plan knows of type and operation. Handles are used again when a type or an operation is freed."""
    commutes = op.is_predefined or op.Is_commutative()
    return buffer.datatype.handle, buffer.itemsize, op.handle, commutes


def _operand(rt: Runtime, collective: str, spec: Any, blocks: int, writable: bool, name: str) -> Buffer | None:
    """A buffer whose elements can be reduced where they are."""
    return _read(rt, collective, spec, blocks, writable, name, operand=True)


def _agree_on_elements(rt: Runtime, collective: str, send: Buffer, recv: Buffer, blocks: int = 1) -> None:
    if send.datatype != recv.datatype:
        _refuse(rt, collective, f"sendbuf is of {send.datatype.name}, recvbuf of {recv.datatype.name}; both must agree")
    if send.count != blocks * recv.count:
        _refuse(rt, collective, f"recvbuf holds {recv.count * blocks} elements, needs {send.count} as sendbuf has")


def _call(
    collective: str, counts: int | tuple[int, ...], buffer: Buffer, op: MPI.Op, root: int, algorithm: str | None
) -> Call:
    kind = f"{_type_name(buffer)}, {_op_name(op)}"
    return Call(collective, counts, buffer.itemsize, root, op.Is_commutative(), kind, algorithm)


def _type_name(buffer: Buffer) -> str:
    """The type as all ranks must have it: ``long`` and ``long long`` of equal size are alike."""
    if not buffer.datatype.is_predefined:
        return f"derived type of {buffer.itemsize} bytes"
    code = buffer.datatype.typestr
    return buffer.datatype.name if code.startswith("V") else code


def _op_name(op: MPI.Op) -> str:
    if not op.is_predefined:
        return "user operation" + ("" if op.Is_commutative() else ", not commutative")
    return next((name for name in _OPERATIONS if getattr(MPI, name) == op), "operation")


_OPERATIONS = ("SUM", "PROD", "MAX", "MIN", "LAND", "LOR", "LXOR", "BAND", "BOR", "BXOR", "MAXLOC", "MINLOC")


def allreduce(rt: Runtime, sendbuf: Any, recvbuf: Any, op: MPI.Op, algorithm: str | None) -> bool:
    """MPI_Allreduce."""
    recv = _operand(rt, "Allreduce", recvbuf, 1, True, "recvbuf")
    here = in_place(sendbuf)
    send = recv if here or recv is None else _operand(rt, "Allreduce", sendbuf, 1, False, "sendbuf")
    if recv is None or send is None or not _reducible(op, recv.datatype):
        return False
    if not here:
        _agree_on_elements(rt, "Allreduce", send, recv)
        here = _same_memory(send.data, recv.data)
    key = ("allreduce", recv.count, *_kind(recv, op), here, algorithm)
    bound = _bound(rt, key, lambda: _call("allreduce", recv.count, recv, op, 0, algorithm), here)
    if bound.plan is None:
        return False
    rt.run(bound, send.data, recv.data, op, recv.datatype)
    recv.unpack()
    return True


def reduce(rt: Runtime, sendbuf: Any, recvbuf: Any, op: MPI.Op, root: int, algorithm: str | None) -> bool:
    """MPI_Reduce."""
    if _bad_root(rt, "Reduce", root):
        return False
    at_root = rt.rank == root
    recv = _operand(rt, "Reduce", recvbuf, 1, True, "recvbuf") if at_root else None
    here = at_root and in_place(sendbuf)
    if at_root and recv is None:
        return False
    send = recv if here else _operand(rt, "Reduce", sendbuf, 1, False, "sendbuf")
    if send is None or (at_root and recv is None) or not _reducible(op, send.datatype):
        return False
    if recv is not None and not here:
        _agree_on_elements(rt, "Reduce", send, recv)
        here = _same_memory(send.data, recv.data)
    key = ("reduce", send.count, *_kind(send, op), root, here, algorithm)
    bound = _bound(rt, key, lambda: _call("reduce", send.count, send, op, root, algorithm), here)
    if bound.plan is None:
        return False
    rt.run(bound, send.data, recv.data if recv is not None else EMPTY, op, send.datatype)
    if recv is not None:
        recv.unpack()
    return True


def reduce_scatter_block(rt: Runtime, sendbuf: Any, recvbuf: Any, op: MPI.Op, algorithm: str | None) -> bool:
    """MPI_Reduce_scatter_block."""
    here = in_place(sendbuf)
    recv = _operand(rt, "Reduce_scatter_block", recvbuf, rt.size if here else 1, True, "recvbuf")
    send = recv if here or recv is None else _operand(rt, "Reduce_scatter_block", sendbuf, rt.size, False, "sendbuf")
    if recv is None or send is None or not _reducible(op, recv.datatype):
        return False
    if not here:
        _agree_on_elements(rt, "Reduce_scatter_block", send, recv)
        here = _same_memory(send.data, recv.data)
    key = ("reduce_scatter_block", send.count, *_kind(send, op), here, algorithm)
    bound = _bound(rt, key, lambda: _call("reduce_scatter_block", send.count, send, op, 0, algorithm), here)
    if bound.plan is None:
        return False
    rt.run(bound, send.data, recv.data, op, recv.datatype)
    recv.unpack()
    return True


def _receive_counts(rt: Runtime, recvcounts: Any) -> tuple[int, ...] | None:
    """The counts of every rank, as given. None if they are for mpi4py to refuse."""
    try:
        counts = tuple(int(c) for c in recvcounts)
    except (TypeError, ValueError):
        counts = ()
    if len(counts) == rt.size and min(counts) >= 0:
        return counts
    rt.tell(f"Reduce_scatter on rank {rt.rank}: recvcounts are {recvcounts!r}, need {rt.size} whole numbers")
    return None


def _gather_counts(rt: Runtime, recvbuf: Any) -> tuple[int, ...]:
    """The counts of every rank, gathered as mpi4py does if the caller gives none. A bad buffer is known to all."""
    found: int | str
    try:
        recv = parse(recvbuf, 1, True, "recvbuf", operand=True)
        found = recv.count if recv is not None else f"recvbuf cannot be read: {_library_error(recvbuf, True)}"
    except BufferError as e:
        found = str(e)
    counts = rt.private.allgather(found)
    for rank, count in enumerate(counts):
        if isinstance(count, str):
            raise BufferError(f"Reduce_scatter on rank {rank}: {count}")
    return tuple(counts)


def reduce_scatter(rt: Runtime, sendbuf: Any, recvbuf: Any, recvcounts: Any, op: MPI.Op, algorithm: str | None) -> bool:
    """MPI_Reduce_scatter."""
    here = in_place(sendbuf)
    gathered = None if here or recvcounts is not None else _gather_counts(rt, recvbuf)
    recv = _operand(rt, "Reduce_scatter", recvbuf, 1, True, "recvbuf")
    send = recv if here or recv is None else _operand(rt, "Reduce_scatter", sendbuf, 1, False, "sendbuf")
    if recv is None or send is None or not _reducible(op, recv.datatype):
        return False
    counts = gathered if gathered is not None else _receive_counts(rt, recvcounts)
    if counts is None:
        return False
    if send.count != sum(counts):
        which = "recvbuf" if here else "sendbuf"
        _refuse(
            rt, "Reduce_scatter", f"{which} holds {send.count} elements, needs {sum(counts)}, the sum of recvcounts"
        )
    if not here:
        if recv.count != counts[rt.rank]:
            need = f"recvcounts[{rt.rank}] = {counts[rt.rank]}"
            _refuse(rt, "Reduce_scatter", f"recvbuf holds {recv.count} elements, needs {need}")
        if send.datatype != recv.datatype:
            _agree_on_elements(rt, "Reduce_scatter", send, recv)
        here = _same_memory(send.data, recv.data)
    key = ("reduce_scatter", counts, *_kind(send, op), here, algorithm)
    bound = _bound(rt, key, lambda: _call("reduce_scatter", counts, send, op, 0, algorithm), here)
    if bound.plan is None:
        return False
    rt.run(bound, send.data, recv.data, op, recv.datatype)
    recv.unpack()
    return True
