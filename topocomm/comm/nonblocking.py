"""Non-blocking and persistent forms of the collectives, with mpi4py's arguments and ``algorithm`` for one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from topocomm.comm import readers
from topocomm.comm.call import Read

if TYPE_CHECKING:
    from topocomm.comm.state import Runtime

__all__ = ["NonBlockingCalls"]

_MPI = MPI.Intracomm


class NonBlockingCalls(MPI.Intracomm):
    """Calls of a wrapped communicator that are waited for later."""

    __slots__ = ()
    if TYPE_CHECKING:

        @property
        def _runtime(self) -> Runtime | None: ...
        def _leave_started(self, collective: str, /) -> None: ...

    def _begun(self, reader: Callable[..., Read], *args: Any) -> MPI.Request | None:
        """Start a non-blocking call; None if the MPI library serves it."""
        runtime = self._runtime
        if runtime is None:
            return None
        if args[-1] is None and runtime.started.leaves(reader.__name__):
            self._leave_started(reader.__name__)
            return None
        work = runtime.started.nonblocking(reader, args)
        if work is None:
            return None
        from topocomm.comm.requests import Request

        return Request.of(work)

    def _prepared(self, reader: Callable[..., Read], *args: Any) -> MPI.Prequest | None:
        """Prepare a persistent call; None if the MPI library serves it."""
        works = None if self._runtime is None else self._runtime.started.persistent(reader, args)
        if works is None:
            return None
        from topocomm.comm.requests import Prequest

        return Prequest.of(works)

    def _Iallgather(self, sendbuf: Any, recvbuf: Any, *, algorithm: str | None = None) -> MPI.Request:
        """MPI_Iallgather."""
        ours = self._begun(readers.allgather, sendbuf, recvbuf, algorithm)
        return ours if ours is not None else _MPI.Iallgather(self, sendbuf, recvbuf)

    def _Ialltoall(self, sendbuf: Any, recvbuf: Any, *, algorithm: str | None = None) -> MPI.Request:
        """MPI_Ialltoall."""
        ours = self._begun(readers.alltoall, sendbuf, recvbuf, algorithm)
        return ours if ours is not None else _MPI.Ialltoall(self, sendbuf, recvbuf)

    def _Iallreduce(
        self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None
    ) -> MPI.Request:
        """MPI_Iallreduce."""
        ours = self._begun(readers.allreduce, sendbuf, recvbuf, op, algorithm)
        return ours if ours is not None else _MPI.Iallreduce(self, sendbuf, recvbuf, op)

    def _Ireduce_scatter(
        self, sendbuf: Any, recvbuf: Any, recvcounts: Any = None, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None
    ) -> MPI.Request:
        """MPI_Ireduce_scatter."""
        ours = self._begun(readers.reduce_scatter, sendbuf, recvbuf, recvcounts, op, algorithm)
        return ours if ours is not None else _MPI.Ireduce_scatter(self, sendbuf, recvbuf, recvcounts, op)

    def _Ireduce_scatter_block(
        self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None
    ) -> MPI.Request:
        """MPI_Ireduce_scatter_block."""
        ours = self._begun(readers.reduce_scatter_block, sendbuf, recvbuf, op, algorithm)
        return ours if ours is not None else _MPI.Ireduce_scatter_block(self, sendbuf, recvbuf, op)

    def _Ibcast(self, buf: Any, root: int = 0, *, algorithm: str | None = None) -> MPI.Request:
        """MPI_Ibcast."""
        ours = self._begun(readers.bcast, buf, root, algorithm)
        return ours if ours is not None else _MPI.Ibcast(self, buf, root)

    def _Ireduce(
        self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, root: int = 0, *, algorithm: str | None = None
    ) -> MPI.Request:
        """MPI_Ireduce."""
        ours = self._begun(readers.reduce, sendbuf, recvbuf, op, root, algorithm)
        return ours if ours is not None else _MPI.Ireduce(self, sendbuf, recvbuf, op, root)

    def _Igather(self, sendbuf: Any, recvbuf: Any, root: int = 0, *, algorithm: str | None = None) -> MPI.Request:
        """MPI_Igather."""
        ours = self._begun(readers.gather, sendbuf, recvbuf, root, algorithm)
        return ours if ours is not None else _MPI.Igather(self, sendbuf, recvbuf, root)

    def _Iscatter(self, sendbuf: Any, recvbuf: Any, root: int = 0, *, algorithm: str | None = None) -> MPI.Request:
        """MPI_Iscatter."""
        ours = self._begun(readers.scatter, sendbuf, recvbuf, root, algorithm)
        return ours if ours is not None else _MPI.Iscatter(self, sendbuf, recvbuf, root)

    def _Ibarrier(self, *, algorithm: str | None = None) -> MPI.Request:
        """MPI_Ibarrier."""
        ours = self._begun(readers.barrier, algorithm)
        return ours if ours is not None else _MPI.Ibarrier(self)

    def _Iscan(self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None) -> MPI.Request:
        """MPI_Iscan."""
        ours = self._begun(readers.scan, sendbuf, recvbuf, op, algorithm)
        return ours if ours is not None else _MPI.Iscan(self, sendbuf, recvbuf, op)

    def _Iexscan(
        self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None
    ) -> MPI.Request:
        """MPI_Iexscan."""
        ours = self._begun(readers.exscan, sendbuf, recvbuf, op, algorithm)
        return ours if ours is not None else _MPI.Iexscan(self, sendbuf, recvbuf, op)

    def Allgather_init(
        self, sendbuf: Any, recvbuf: Any, info: MPI.Info = MPI.INFO_NULL, *, algorithm: str | None = None
    ) -> MPI.Prequest:
        """MPI_Allgather_init."""
        ours = self._prepared(readers.allgather, sendbuf, recvbuf, algorithm)
        return ours if ours is not None else _MPI.Allgather_init(self, sendbuf, recvbuf, info)

    def Alltoall_init(
        self, sendbuf: Any, recvbuf: Any, info: MPI.Info = MPI.INFO_NULL, *, algorithm: str | None = None
    ) -> MPI.Prequest:
        """MPI_Alltoall_init."""
        ours = self._prepared(readers.alltoall, sendbuf, recvbuf, algorithm)
        return ours if ours is not None else _MPI.Alltoall_init(self, sendbuf, recvbuf, info)

    def Allreduce_init(
        self,
        sendbuf: Any,
        recvbuf: Any,
        op: MPI.Op = MPI.SUM,
        info: MPI.Info = MPI.INFO_NULL,
        *,
        algorithm: str | None = None,
    ) -> MPI.Prequest:
        """MPI_Allreduce_init."""
        ours = self._prepared(readers.allreduce, sendbuf, recvbuf, op, algorithm)
        return ours if ours is not None else _MPI.Allreduce_init(self, sendbuf, recvbuf, op, info)

    def Reduce_scatter_init(
        self,
        sendbuf: Any,
        recvbuf: Any,
        recvcounts: Any = None,
        op: MPI.Op = MPI.SUM,
        info: MPI.Info = MPI.INFO_NULL,
        *,
        algorithm: str | None = None,
    ) -> MPI.Prequest:
        """MPI_Reduce_scatter_init."""
        ours = self._prepared(readers.reduce_scatter, sendbuf, recvbuf, recvcounts, op, algorithm)
        return ours if ours is not None else _MPI.Reduce_scatter_init(self, sendbuf, recvbuf, recvcounts, op, info)

    def Reduce_scatter_block_init(
        self,
        sendbuf: Any,
        recvbuf: Any,
        op: MPI.Op = MPI.SUM,
        info: MPI.Info = MPI.INFO_NULL,
        *,
        algorithm: str | None = None,
    ) -> MPI.Prequest:
        """MPI_Reduce_scatter_block_init."""
        ours = self._prepared(readers.reduce_scatter_block, sendbuf, recvbuf, op, algorithm)
        return ours if ours is not None else _MPI.Reduce_scatter_block_init(self, sendbuf, recvbuf, op, info)

    def Bcast_init(
        self, buf: Any, root: int = 0, info: MPI.Info = MPI.INFO_NULL, *, algorithm: str | None = None
    ) -> MPI.Prequest:
        """MPI_Bcast_init."""
        ours = self._prepared(readers.bcast, buf, root, algorithm)
        return ours if ours is not None else _MPI.Bcast_init(self, buf, root, info)

    def Reduce_init(
        self,
        sendbuf: Any,
        recvbuf: Any,
        op: MPI.Op = MPI.SUM,
        root: int = 0,
        info: MPI.Info = MPI.INFO_NULL,
        *,
        algorithm: str | None = None,
    ) -> MPI.Prequest:
        """MPI_Reduce_init."""
        ours = self._prepared(readers.reduce, sendbuf, recvbuf, op, root, algorithm)
        return ours if ours is not None else _MPI.Reduce_init(self, sendbuf, recvbuf, op, root, info)

    def Gather_init(
        self, sendbuf: Any, recvbuf: Any, root: int = 0, info: MPI.Info = MPI.INFO_NULL, *, algorithm: str | None = None
    ) -> MPI.Prequest:
        """MPI_Gather_init."""
        ours = self._prepared(readers.gather, sendbuf, recvbuf, root, algorithm)
        return ours if ours is not None else _MPI.Gather_init(self, sendbuf, recvbuf, root, info)

    def Scatter_init(
        self, sendbuf: Any, recvbuf: Any, root: int = 0, info: MPI.Info = MPI.INFO_NULL, *, algorithm: str | None = None
    ) -> MPI.Prequest:
        """MPI_Scatter_init."""
        ours = self._prepared(readers.scatter, sendbuf, recvbuf, root, algorithm)
        return ours if ours is not None else _MPI.Scatter_init(self, sendbuf, recvbuf, root, info)

    def Barrier_init(self, info: MPI.Info = MPI.INFO_NULL, *, algorithm: str | None = None) -> MPI.Prequest:
        """MPI_Barrier_init."""
        ours = self._prepared(readers.barrier, algorithm)
        return ours if ours is not None else _MPI.Barrier_init(self, info)

    def Scan_init(
        self,
        sendbuf: Any,
        recvbuf: Any,
        op: MPI.Op = MPI.SUM,
        info: MPI.Info = MPI.INFO_NULL,
        *,
        algorithm: str | None = None,
    ) -> MPI.Prequest:
        """MPI_Scan_init."""
        ours = self._prepared(readers.scan, sendbuf, recvbuf, op, algorithm)
        return ours if ours is not None else _MPI.Scan_init(self, sendbuf, recvbuf, op, info)

    def Exscan_init(
        self,
        sendbuf: Any,
        recvbuf: Any,
        op: MPI.Op = MPI.SUM,
        info: MPI.Info = MPI.INFO_NULL,
        *,
        algorithm: str | None = None,
    ) -> MPI.Prequest:
        """MPI_Exscan_init."""
        ours = self._prepared(readers.exscan, sendbuf, recvbuf, op, algorithm)
        return ours if ours is not None else _MPI.Exscan_init(self, sendbuf, recvbuf, op, info)
