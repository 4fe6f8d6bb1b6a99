"""Calls on Python objects: ``allreduce``, ``allgather``, ``bcast``, ``gather`` and ``reduce`` of wrapped communicators.

mpi4py pickles an object, sends the number of bytes, then the bytes, and reduces along a tree in Python. Here every rank
has a *frame* of fixed size that holds the number and the first bytes, so that small objects need one phase. Where ranks
share a host and have a core each, csrc/python brings the frames through their memory, with numbers, texts and bytes as
they are; elsewhere :class:`ObjectCalls` brings them by one collective of the MPI library. All ranks see the same
frames, and so agree on what must go another way: objects too large follow as bytes, and what mpi4py alone can reduce is
left to it.

Values are combined in the order of mpi4py's tree, by the same operators, on the ranks that want the result.
"""

from __future__ import annotations

import pickle
from functools import cache
from struct import pack_into, unpack_from
from typing import TYPE_CHECKING, Any

import mpi4py
import numpy as np
from mpi4py import MPI

from topocomm.comm._recogniser import Recogniser, know_objects
from topocomm.comm.operations import PREDEFINED
from topocomm.comm.recall import can_recognise

if TYPE_CHECKING:
    from topocomm.comm.early import Early
    from topocomm.comm.state import Runtime

__all__ = ["ObjectCalls"]

FRAME, ROOT_FRAME = 128, 1024
"""Bytes of a frame in a message: of every rank, and of a root that sends to all."""
MOST_RANKS = 512
"""Ranks whose frames are gathered on all for an allreduce; more of them reduce along mpi4py's tree."""
_HEADER = "qq"
"""Number of pickled bytes, and of the operation from 1; 0: one of the program's own."""
_HEADER_BYTES = 16
_MPI = MPI.Comm
_KINDS = {"f": 0, "i": 1, "u": 1, "b": 2, "c": 3}
"""How csrc/python writes NumPy's numbers: as a double, a whole number, a truth value, two doubles."""
_SCALARS = "dfqlihbQLIHB?D"
"""Of these, ``long long`` comes out of a pickle as ``long``, and so is pickled."""


@cache
def can_know_objects() -> bool:
    """Return True if calls on objects can be made in C here, after giving the recogniser its facts."""
    if not can_recognise():
        return False
    types = {np.dtype(code).type: _KINDS[np.dtype(code).kind] for code in _SCALARS}
    types = {kind: way for kind, way in types.items() if type(pickle.loads(pickle.dumps(kind(1)))) is kind}
    places = _place_of(pickle.dumps), _place_of(pickle.loads)
    known = places if 0 not in places else (0, 0)
    know_objects(
        MPI.pickle, MPI.pickle.dumps, MPI.pickle.loads, pickle.dumps, pickle.loads, *known, tuple(types.items())
    )
    return True


def _place_of(function: Any) -> int:
    """Return the bytes from the beginning of mpi4py's pickler to the function that it uses; 0 if it uses another."""
    word = np.dtype(np.uintp).itemsize
    memory = MPI.buffer.fromaddress(id(MPI.pickle), type(MPI.pickle).__basicsize__)
    words = np.frombuffer(memory, np.uintp)
    found = np.flatnonzero(words == id(function))
    return int(found[0]) * word if len(found) == 1 else 0


class ObjectCalls(Recogniser):
    """The calls that csrc/python does not make: all until shared memory is open, and where there is none."""

    __slots__ = ()
    if TYPE_CHECKING:
        _early: Early | None
        _state: Runtime | None
        _unborn: Any

        @property
        def _runtime(self) -> Runtime | None: ...

    # -- the calls ---------------------------------------------------------------------------------------------------

    def _allreduce(self, sendobj: Any, op: Any = MPI.SUM) -> Any:
        if self._opens(sendobj):
            return Recogniser.allreduce(self, sendobj, op)
        if not self._by_messages or self.size > MOST_RANKS:
            return _MPI.allreduce(self, sendobj, op)
        number = PREDEFINED.index(op) + 1 if type(op) is MPI.Op and op in PREDEFINED else 0
        frames = self._exchange(MPI.pickle.dumps(sendobj), number)
        headers = [unpack_from(_HEADER, frames, rank * FRAME) for rank in range(self.size)]
        if any(n > FRAME - _HEADER_BYTES or other != number or not other for n, other in headers):
            return _MPI.allreduce(self, sendobj, op)
        return _reduced(self._unpickled(frames, []), op)

    def _allgather(self, sendobj: Any) -> Any:
        if self._opens(sendobj):
            return Recogniser.allgather(self, sendobj)
        if not self._by_messages:
            return _MPI.allgather(self, sendobj)
        data = MPI.pickle.dumps(sendobj)
        frames = self._exchange(data, 0)
        sizes = [_large(unpack_from(_HEADER, frames, rank * FRAME)[0], FRAME) for rank in range(self.size)]
        large = self._bring_large("allgather", data if sizes[self.rank] else None, sizes, 0) if any(sizes) else []
        return self._unpickled(frames, large)

    def _bcast(self, obj: Any, root: int = 0) -> Any:
        if self._opens(obj, root):
            return Recogniser.bcast(self, obj, root)
        if not self._by_messages or not self._is_rank(root):
            return _MPI.bcast(self, obj, root)
        frame, data = bytearray(ROOT_FRAME), b""
        if self.rank == root:
            data = MPI.pickle.dumps(obj)
            _fill(frame, data, 0)
        _MPI.Bcast(self, [frame, MPI.BYTE], root)
        size, _ = unpack_from(_HEADER, frame)
        if _large(size, ROOT_FRAME):
            return MPI.pickle.loads(self._bring_large("bcast", data, [size], root))
        return MPI.pickle.loads(memoryview(frame)[_HEADER_BYTES : _HEADER_BYTES + size])

    def _gather(self, sendobj: Any, root: int = 0) -> Any:
        if self._opens(sendobj):
            return Recogniser.gather(self, sendobj, root)
        return _MPI.gather(self, sendobj, root)

    def _reduce(self, sendobj: Any, op: Any = MPI.SUM, root: int = 0) -> Any:
        if self._opens(sendobj):
            return Recogniser.reduce(self, sendobj, op, root)
        return _MPI.reduce(self, sendobj, op, root)

    # -- which way -----------------------------------------------------------------------------------------------

    def _opens(self, obj: Any, root: Any = None) -> bool:
        """Return True if calls go through shared memory from now on. Collective in the first call on objects.

        An object that cannot be pickled is found before others are asked, so that a program may try again.
        """
        if not self._by_messages or not can_know_objects():
            return False
        if self._early is not None and self._early.takes_object():
            return False
        runtime = self._runtime
        if runtime is None:
            return False
        shares = runtime.shares_objects
        if shares is None:
            if root is None or root == runtime.rank:
                MPI.pickle.dumps(obj)
            shares = runtime.open_for_objects()
        return shares and self._open_objects()

    @property
    def _by_messages(self) -> bool:
        """True if frames may be used at all; the same on all ranks."""
        wrapped = self._state is not None or self._unborn is not None  # else it was freed
        return wrapped and self.Get_size() > 1 and bool(mpi4py.rc.fast_reduce)

    def _is_rank(self, root: Any) -> bool:
        return hasattr(root, "__index__") and 0 <= root.__index__() < self.size

    # -- for csrc/python -----------------------------------------------------------------------------------------

    def _object_carrier(self, name: str, root: int) -> tuple[int, int, object]:
        """Return what brings the frames of a call: addresses of a function and of its first argument, and their owner.

        Raises Error if the memory is gone.
        """
        assert self._runtime is not None
        made = self._runtime.shared.frames(name, root)
        return made.address, made.state, made

    def _by_mpi4py(self, name: str, obj: Any, op: Any, root: int) -> Any:
        """Make a reduction as mpi4py does; ``op`` is None for a sum."""
        op = MPI.SUM if op is None else op
        return _MPI.allreduce(self, obj, op) if name == "allreduce" else _MPI.reduce(self, obj, op, root)

    def _bring_large(self, name: str, data: bytes | None, sizes: list[int], root: int) -> Any:
        """Bring pickled bytes of which all know the numbers, 0 of a rank that has none to give.

        Returns those of the root for a bcast; else a list with those of every rank, on ranks that want them.
        """
        if name == "bcast":
            found = np.frombuffer(data, np.uint8) if self.rank == root and data else np.empty(sizes[0], np.uint8)
            far = self._runtime is not None and self._runtime.has_distance
            (Recogniser if far else _MPI).Bcast(self, found, root)
            return found
        wanted = name == "allgather" or self.rank == root
        everything = np.empty(sum(sizes) if wanted else 0, np.uint8)
        ends = np.cumsum(sizes).tolist()
        starts = [end - size for end, size in zip(ends, sizes, strict=True)]
        mine, all_of_them = [data or b"", MPI.BYTE], [everything, (sizes, starts), MPI.BYTE]
        if name == "allgather":
            _MPI.Allgatherv(self, mine, all_of_them)
        else:
            _MPI.Gatherv(self, mine, all_of_them if wanted else None, root)
        return [everything[start:end] for start, end in zip(starts, ends, strict=True)] if wanted else None

    # -- frames in messages ----------------------------------------------------------------------------------------

    def _exchange(self, data: bytes, number: int) -> bytearray:
        """Return the frames of all ranks."""
        mine, everything = bytearray(FRAME), bytearray(FRAME * self.size)
        _fill(mine, data, number)
        _MPI.Allgather(self, [mine, MPI.BYTE], [everything, MPI.BYTE])
        return everything

    def _unpickled(self, frames: bytearray, large: list[Any]) -> list[Any]:
        view, found = memoryview(frames), []
        for rank in range(self.size):
            size, _ = unpack_from(_HEADER, view, rank * FRAME)
            start = rank * FRAME + _HEADER_BYTES
            found.append(MPI.pickle.loads(large[rank] if _large(size, FRAME) else view[start : start + size]))
        return found


def _fill(frame: bytearray, data: bytes, number: int) -> None:
    """Write as much of pickled bytes as a frame has room for, after their number."""
    pack_into(_HEADER, frame, 0, len(data), number)
    part = data[: len(frame) - _HEADER_BYTES]
    frame[_HEADER_BYTES : _HEADER_BYTES + len(part)] = part


def _large(size: int, frame: int) -> int:
    """Return the number of bytes that must follow a frame: none, or all."""
    return size if size > frame - _HEADER_BYTES else 0


def _reduced(values: list[Any], op: Any) -> Any:
    """Combine values in the order of mpi4py's tree."""
    step = 1
    while step < len(values):
        for at in range(0, len(values) - step, 2 * step):
            values[at] = op(values[at], values[at + step])
        step *= 2
    return values[0]
