"""The drop-in communicator: mpi4py's calls with mpi4py's arguments, on topocomm's schedules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from mpi4py import MPI

from topocomm import objects
from topocomm.choose.rule import NATIVE
from topocomm.collectives import COLLECTIVES
from topocomm.comm import given, neighbours, pickling, readers
from topocomm.comm import settings as config
from topocomm.comm.buffers import EMPTY, nbytes_of
from topocomm.comm.early import Early, blocks_of
from topocomm.comm.kinds import ALWAYS, NativeSizes
from topocomm.comm.naming import Named
from topocomm.comm.nonblocking import NonBlockingCalls
from topocomm.comm.operations import PLAIN, PREDEFINED, traits_of
from topocomm.comm.pickled import ObjectCalls
from topocomm.comm.places import Places
from topocomm.comm.recall import can_recognise
from topocomm.comm.state import Runtime
from topocomm.comm.uncovered import note_uncovered
from topocomm.comm.vectors import VectorCalls
from topocomm.errors import AlgorithmError, Error
from topocomm.topology import Topology

if TYPE_CHECKING:
    from topocomm.choose.rule import Decision
    from topocomm.comm.recall import Native, Program, Served
    from topocomm.engines import c

__all__ = ["Cartcomm", "Comm", "Distgraphcomm", "Graphcomm", "Intercomm"]


_MPI = MPI.Intracomm
_Array = np.ndarray
_ALL_NATIVE = dict.fromkeys(COLLECTIVES, ALWAYS)
"""Of a communicator that was freed."""


class Comm(NonBlockingCalls, ObjectCalls, VectorCalls, metaclass=Named):
    """An intracommunicator whose collectives follow the machine.

    Parameters
    ----------
    comm
        The communicator to wrap; the same communicator, not a copy. Its private traffic, and that of all communicators
        derived from it, goes over one duplicate, made here and freed with the last of them.
    algorithm
        Name for every collective that knows it, or mapping from collective to name; ``"native"`` is the MPI library's
        own. None: as the environment says, else automatic. A communicator derived from this one takes it over. It is a
        preference: a call that the algorithm cannot serve (a number of ranks, an operation that is not commutative or
        needs whole vectors) takes the automatic choice, and its decision says why. Only an algorithm that a call names
        itself is never replaced: it runs, or the call raises AlgorithmError on every rank.
    engine
        ``"c"``: programs walked in C (the default), or ``"python"``. None: as ``TOPOCOMM_ENGINE`` says. The same on
        all ranks.
    topology
        A :class:`~topocomm.topology.Topology` of these ranks, a placement, the path of a placement file, or
        ``"measured"``: probed with messages, in some seconds (:func:`topocomm.topology.live.probe.measure`). None: as
        ``TOPOCOMM_TOPOLOGY`` says, else discovered.
    machine
        A :class:`~topocomm.model.Machine`, or the path of a machine file: how fast the links of each level are. None:
        as ``TOPOCOMM_MACHINE`` says, else assumed (:func:`topocomm.model.default_machine`).
    tuning
        A :class:`~topocomm.choose.measured.Tuning`, or the path of a tuning file: what was measured here. None: as
        ``TOPOCOMM_TUNING`` says, else nothing.

    Collective over ``comm``. Everything that is not overridden here is mpi4py's own.

    Raises
    ------
    AlgorithmError, TopologyError, Error
        On every rank alike, for unknown names, a topology that does not fit.
    TypeError
        If ``comm`` is no intracommunicator.
    """

    # no annotations: they would be looked up in the module that the class is said to be of
    __module__, __qualname__ = MPI.__name__, "topocomm.Comm"
    _state = cast("Runtime | None", None)
    _unborn = cast("partial[Runtime] | None", None)
    """Makes the state of a derived communicator, when it is first needed."""
    _early = cast("Early | None", None)
    _native = cast("Mapping[str, NativeSizes]", MappingProxyType({}))
    """Whether a collective always goes to the MPI library, else the sizes that do; filled in as they are called."""

    def __new__(
        cls,
        comm: MPI.Comm | None = None,
        *,
        algorithm: config.Algorithms = None,
        engine: str | None = None,
        topology: given.TopologyLike = None,
        machine: given.MachineLike = None,
        tuning: given.TuningLike = None,
    ) -> Comm:
        """Wrap ``comm``; see the class."""
        if comm is None:
            return MPI.Intracomm.__new__(cls)
        if comm == MPI.COMM_NULL:
            raise Error("topocomm.Comm cannot wrap MPI.COMM_NULL")
        if not isinstance(comm, MPI.Intracomm):
            raise TypeError(f"topocomm.Comm wraps intracommunicators, found {type(comm).__name__}; use it as it is")
        plain = MPI.Intracomm(comm)
        settings = given.settings(plain, algorithm, engine)
        before = comm._runtime if isinstance(comm, Comm) else None
        found, origin = given.topology(plain, before.topology if before and topology is None else topology, settings)
        if before is not None:  # wrapped already: what was given of the machine stays
            origin = before.origin if topology is None else origin
            machine = before.places.machine if machine is None else machine
            tuning = before.places.tuning if tuning is None else tuning
        speeds, found, origin = given.machine(plain, machine, settings, found, origin)
        measured = given.tuning(plain, tuning, settings)
        memory = before.places.memory if before else None
        places = Places(found, speeds, measured, memory, settings.engine)
        runtime = Runtime(plain, places, settings, origin, before.private if before else None)
        runtime.private.open()
        return _of(_kind(cls, comm), comm)._begin(pickling.shared(runtime))

    def _begin(self, runtime: Runtime) -> Self:
        self._state = runtime
        settings = runtime.settings
        if settings.memo and not settings.check_always and can_recognise():
            self._open_memo(runtime.rank, runtime.size)
        if settings.trace and runtime.rank == 0:
            note_uncovered(self, runtime.note_uncovered)
        return self

    def _begin_early(self, derive: partial[Runtime], settings: config.Settings) -> Self:
        self._early = Early(self.Get_size(), settings)
        self._unborn = derive
        if settings.trace or settings.record_file:  # every decision is shown, every call counted when it is made
            _ = self._runtime
            self._early = None
        return self

    @property
    def _runtime(self) -> Runtime | None:
        """What stands behind this communicator; None if it was freed."""
        if self._unborn is not None and self._early is not None:
            derive, self._unborn = self._unborn, None
            self._begin(derive(MPI.Intracomm(self), self._early))
        return self._state

    # -- what it does and why ----------------------------------------------------------------------------------

    @property
    def machine_topology(self) -> Topology:
        """Where the ranks of this communicator sit in the machine."""
        return self._live.topology

    @property
    def machine_sources(self) -> tuple[str, ...]:
        """What says where the ranks sit: the source that placed the nodes, then a line for every one that did not.

        Empty where a single node was discovered, for which no source is asked.
        """
        return self._live.origin.lines

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What has been decided so far, in order: one entry for every new kind of call."""
        return self._live.decisions

    def explain(
        self,
        collective: str,
        nbytes: int,
        *,
        op: MPI.Op | None = None,
        root: int = 0,
        algorithm: str | None = None,
    ) -> Decision:
        """What a call would run and why. Not collective, moves no data.

        The answer's ``figures`` are what the model says of every candidate, its ``document()`` the same as JSON.

        ``nbytes`` counts the whole vector: of an allreduce, bcast or reduce the vector itself; of an allgather or
        gather the result; of a reduce_scatter, scatter or all-to-all what a rank (the root) sends.
        Raises AlgorithmError as the call itself would.
        """
        return self._live.explain(collective, nbytes, PLAIN if op is None else traits_of(op), root, algorithm)

    @property
    def _live(self) -> Runtime:
        runtime = self._runtime
        if runtime is None:
            raise Error("this communicator was freed, or not made by topocomm.Comm(comm)")
        return runtime

    def _is_native(self, collective: str, buf: Any, algorithm: str | None, op: MPI.Op = MPI.SUM) -> bool:
        """Whether a call is known to go to the MPI library: always, or by the bytes of ``buf``.

        False for a buffer whose bytes are not seen at once: it is read first.
        """
        if algorithm is not None:
            return algorithm == NATIVE and self._named_native(collective)
        early = self._early
        if early is not None and early.left.get(collective) and self._is_early(early, collective, buf, op):
            return True
        known = self._native.get(collective)
        if known is None:
            known = self._first_call(collective)
        if known is ALWAYS:
            return buf is not MPI.IN_PLACE  # which counts at the root only
        nbytes = buf.nbytes if type(buf) is _Array else nbytes_of(buf, known.blocks)
        return nbytes is not None and known[nbytes] and op in PREDEFINED

    @staticmethod
    def _is_early(early: Early, collective: str, buf: Any, op: MPI.Op) -> bool:
        """Whether a call is one of the first small ones, by the bytes of ``buf``; they count then."""
        nbytes = buf.nbytes if type(buf) is _Array else nbytes_of(buf, blocks_of(collective, early.size))
        return nbytes is not None and op in PREDEFINED and early.takes_buffer(collective, nbytes)

    def _named_native(self, collective: str) -> bool:
        runtime = self._runtime
        if runtime is not None:
            runtime.kinds.agree_on_native(collective)
        return True

    def _first_call(self, collective: str) -> NativeSizes:
        known, runtime = ALWAYS, self._runtime
        if runtime is not None and not runtime.native_always(collective):
            known = runtime.kinds.native_sizes(collective)
        self._native = {**self._native, collective: known}
        return known

    # -- known calls, which :class:`Recogniser` makes ------------------------------------------------------------

    def _learn(self, method: str, nbytes: int, served: Served | None) -> Native | Program | None:
        """Return what serves calls like one that was made, from now on; None if only the Python path can.

        ``served``: None if the MPI library did.
        """
        if served is not None:
            return served.bind()
        known = self._native.get(method.lower())
        return None if known is None else known.around(nbytes)

    def _resume(self, bound: c.Bound, status: int, send: int, recv: int) -> None:
        """Finish a call that did not end at once in C, with buffers at these addresses."""
        self._live.finish(bound, status, send, recv)

    # -- collectives: mpi4py's arguments, and ``algorithm`` for this call alone ---------------------------------
    # A name with an underscore is the Python path of a call; it returns what has served the call, None: MPI itself.

    def _Allgather(self, sendbuf: Any, recvbuf: Any, *, algorithm: str | None = None) -> Served | None:
        """MPI_Allgather."""
        if self._is_native("allgather", recvbuf, algorithm) or not (
            served := self._live.serve(readers.allgather, sendbuf, recvbuf, algorithm)
        ):
            _MPI.Allgather(self, sendbuf, recvbuf)
            return None
        return served

    def _Alltoall(self, sendbuf: Any, recvbuf: Any, *, algorithm: str | None = None) -> Served | None:
        """MPI_Alltoall."""
        if self._is_native("alltoall", recvbuf, algorithm) or not (
            served := self._live.serve(readers.alltoall, sendbuf, recvbuf, algorithm)
        ):
            _MPI.Alltoall(self, sendbuf, recvbuf)
            return None
        return served

    def _Allreduce(
        self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None
    ) -> Served | None:
        """MPI_Allreduce."""
        if self._is_native("allreduce", recvbuf, algorithm, op) or not (
            served := self._live.serve(readers.allreduce, sendbuf, recvbuf, op, algorithm)
        ):
            _MPI.Allreduce(self, sendbuf, recvbuf, op)
            return None
        return served

    def _Reduce_scatter(
        self, sendbuf: Any, recvbuf: Any, recvcounts: Any = None, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None
    ) -> Served | None:
        """MPI_Reduce_scatter."""
        buf = None if recvcounts is None else recvbuf if readers.in_place(sendbuf) else sendbuf
        if self._is_native("reduce_scatter", buf, algorithm, op) or not (
            served := self._live.serve(readers.reduce_scatter, sendbuf, recvbuf, recvcounts, op, algorithm)
        ):
            _MPI.Reduce_scatter(self, sendbuf, recvbuf, recvcounts, op)
            return None
        return served

    def _Reduce_scatter_block(
        self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None
    ) -> Served | None:
        """MPI_Reduce_scatter_block."""
        buf = recvbuf if readers.in_place(sendbuf) else sendbuf
        if self._is_native("reduce_scatter_block", buf, algorithm, op) or not (
            served := self._live.serve(readers.reduce_scatter_block, sendbuf, recvbuf, op, algorithm)
        ):
            _MPI.Reduce_scatter_block(self, sendbuf, recvbuf, op)
            return None
        return served

    def _Bcast(self, buf: Any, root: int = 0, *, algorithm: str | None = None) -> Served | None:
        """MPI_Bcast."""
        if self._is_native("bcast", buf, algorithm) or not (
            served := self._live.serve(readers.bcast, buf, root, algorithm)
        ):
            _MPI.Bcast(self, buf, root)
            return None
        return served

    def _Reduce(
        self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, root: int = 0, *, algorithm: str | None = None
    ) -> Served | None:
        """MPI_Reduce."""
        buf = sendbuf if sendbuf is not MPI.IN_PLACE or root != self.rank else recvbuf
        if self._is_native("reduce", buf, algorithm, op) or not (
            served := self._live.serve(readers.reduce, sendbuf, recvbuf, op, root, algorithm)
        ):
            _MPI.Reduce(self, sendbuf, recvbuf, op, root)
            return None
        return served

    def Scan(self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None) -> None:
        """MPI_Scan."""
        if self._is_native("scan", recvbuf, algorithm, op) or not self._live.serve(
            readers.scan, sendbuf, recvbuf, op, algorithm
        ):
            _MPI.Scan(self, sendbuf, recvbuf, op)

    def Exscan(self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, *, algorithm: str | None = None) -> None:
        """MPI_Exscan."""
        if self._is_native("exscan", recvbuf, algorithm, op) or not self._live.serve(
            readers.exscan, sendbuf, recvbuf, op, algorithm
        ):
            _MPI.Exscan(self, sendbuf, recvbuf, op)

    def _Gather(self, sendbuf: Any, recvbuf: Any, root: int = 0, *, algorithm: str | None = None) -> Served | None:
        """MPI_Gather."""
        if self._is_native("gather", sendbuf, algorithm) or not (
            served := self._live.serve(readers.gather, sendbuf, recvbuf, root, algorithm)
        ):
            _MPI.Gather(self, sendbuf, recvbuf, root)
            return None
        return served

    def _Scatter(self, sendbuf: Any, recvbuf: Any, root: int = 0, *, algorithm: str | None = None) -> Served | None:
        """MPI_Scatter."""
        if self._is_native("scatter", recvbuf, algorithm) or not (
            served := self._live.serve(readers.scatter, sendbuf, recvbuf, root, algorithm)
        ):
            _MPI.Scatter(self, sendbuf, recvbuf, root)
            return None
        return served

    def _Barrier(self, *, algorithm: str | None = None) -> Served | None:
        """MPI_Barrier."""
        if self._is_native("barrier", EMPTY, algorithm) or not (served := self._live.serve(readers.barrier, algorithm)):
            _MPI.Barrier(self)
            return None
        return served

    # -- the end ------------------------------------------------------------------------------------------------

    def Free(self) -> None:
        """MPI_Comm_free, of the private communicator too. Calls under way go on; no persistent one starts any more."""
        self._end_calls()
        _MPI.Free(self)
        self._forget()

    def Disconnect(self) -> None:
        """MPI_Comm_disconnect. Calls under way go on; no persistent one starts any more."""
        self._end_calls()
        _MPI.Disconnect(self)
        self._forget()

    def _end_calls(self) -> None:
        if self._state is not None:
            self._state.end()

    def _forget(self) -> None:
        """After the end every call is the MPI library's, which refuses it."""
        self._close_memo()
        if self._state is not None:
            self._state.shared.close()
        self._state = self._unborn = self._early = None
        self._native = _ALL_NATIVE

    def __reduce__(self) -> Any:
        """Pickle what mpi4py pickles: MPI.COMM_WORLD, MPI.COMM_SELF and MPI.COMM_NULL; local, with the settings."""
        if self == MPI.COMM_NULL:
            return type(self), ()
        name, runtime = pickling.name_of(self), self._runtime
        if runtime is None or name is None:
            return super().__reduce__()
        kind = type(self)
        ours = globals().get(kind.__name__) is kind  # by name: picklers that take classes by value must not
        return _restored, (kind.__name__ if ours else kind, name, pickling.content(runtime))

    # -- communicators made from this one stay wrapped, with their settings --------------------------------------

    def _adopt(self, made: Any, duplicate: bool = False, together: bool = True) -> Any:
        """Return ``made``, an mpi4py communicator derived from this one, wrapped with the same settings.

        ``duplicate``: it has the same ranks; ``together``: all ranks of this communicator took part in making it, and
        are here.
        """
        runtime = self._runtime
        if runtime is None:
            return made
        if together:
            runtime.private.settle()
        if made == MPI.COMM_NULL:
            return made
        if not isinstance(made, Comm):  # a duplicate has this one's class
            made = _of(_WRAPPED[type(made)], made)
        members = None if duplicate else runtime.members
        made._begin_early(partial(runtime.derive, members, together), runtime.settings)
        if together and runtime.settings.names_ours and made._runtime is not None:
            made._runtime.private.open()
        return made

    def Dup(self, info: MPI.Info | None = None) -> Self:
        """MPI_Comm_dup."""
        return self._adopt(super().Dup(info), duplicate=True)  # type: ignore[no-any-return]

    def Dup_with_info(self, info: MPI.Info) -> Self:
        """MPI_Comm_dup_with_info."""
        return self._adopt(super().Dup_with_info(info), duplicate=True)  # type: ignore[no-any-return]

    def Idup(self, info: MPI.Info | None = None) -> tuple[Self, MPI.Request]:
        """MPI_Comm_idup."""
        made, request = super().Idup(info)
        return self._adopt(made, duplicate=True, together=False), request

    def Idup_with_info(self, info: MPI.Info) -> tuple[Self, MPI.Request]:
        """MPI_Comm_idup_with_info."""
        made, request = super().Idup_with_info(info)
        return self._adopt(made, duplicate=True, together=False), request

    def Clone(self) -> Self:
        """mpi4py's name for a duplicate."""
        return self._adopt(super().Clone(), duplicate=True)  # type: ignore[no-any-return]

    def Split(self, color: int = 0, key: int = 0) -> Any:
        """MPI_Comm_split."""
        return self._adopt(super().Split(color, key))

    def Split_type(self, split_type: int, key: int = 0, info: MPI.Info = MPI.INFO_NULL) -> Any:
        """MPI_Comm_split_type."""
        return self._adopt(super().Split_type(split_type, key, info))

    def Create(self, group: MPI.Group) -> Any:
        """MPI_Comm_create."""
        return self._adopt(super().Create(group))

    def Create_group(self, group: MPI.Group, tag: int = 0) -> Any:
        """MPI_Comm_create_group."""
        return self._adopt(super().Create_group(group, tag), together=False)

    def Create_cart(self, dims: Any, periods: Any = None, reorder: bool = False) -> Any:
        """MPI_Cart_create. With ``reorder`` neighbours on the grid are put near each other on the machine."""
        order = neighbours.cart_of(self._runtime, dims, periods) if reorder and self._runtime is not None else None
        if order is None:
            return self._adopt(super().Create_cart(dims, periods, False))
        with neighbours.reordered(self, order) as ranks:
            return self._adopt(ranks.Create_cart(dims, periods, False))

    def Create_graph(self, *args: Any, **kwargs: Any) -> Any:
        """MPI_Graph_create."""
        return self._adopt(super().Create_graph(*args, **kwargs))

    def Create_dist_graph(
        self,
        sources: Any,
        degrees: Any,
        destinations: Any,
        weights: Any = None,
        info: MPI.Info = MPI.INFO_NULL,
        reorder: bool = False,
    ) -> Any:
        """MPI_Dist_graph_create. With ``reorder`` neighbours are put near each other on the machine."""
        args = sources, degrees, destinations, weights, info, False
        if not reorder or self._runtime is None:
            return self._adopt(super().Create_dist_graph(*args))
        order = neighbours.graph_of(self._runtime, neighbours.edges_of(*args[:4]))
        if order is None:
            return self._adopt(super().Create_dist_graph(*args))
        with neighbours.reordered(self, order) as ranks:
            return self._adopt(ranks.Create_dist_graph(*args))

    def Create_dist_graph_adjacent(
        self,
        sources: Any,
        destinations: Any,
        sourceweights: Any = None,
        destweights: Any = None,
        info: MPI.Info = MPI.INFO_NULL,
        reorder: bool = False,
    ) -> Any:
        """MPI_Dist_graph_create_adjacent. With ``reorder`` neighbours are put near each other on the machine."""
        args = sources, destinations, sourceweights, destweights
        if not reorder or self._runtime is None:
            return self._adopt(super().Create_dist_graph_adjacent(*args, info, False))
        mine = neighbours.adjacent_edges(self._runtime.rank, destinations, destweights)
        order = neighbours.graph_of(self._runtime, mine)
        if order is None:
            return self._adopt(super().Create_dist_graph_adjacent(*args, info, False))
        with neighbours.reordered(self, order) as ranks:
            lists = (np.atleast_1d(peers).tolist() for peers in args[:2])
            passed = neighbours.passed_on(ranks, order, (*lists, *map(neighbours.plain_weights, args[2:])))
            near, far, near_weights, far_weights = passed
            weights = neighbours.weights_of(near_weights), neighbours.weights_of(far_weights)
            return self._adopt(ranks.Create_dist_graph_adjacent(near, far, *weights, info, False))

    def Create_intercomm(self, *args: Any, **kwargs: Any) -> Any:
        """MPI_Intercomm_create. What is merged from it is wrapped again."""
        made = Intercomm(super().Create_intercomm(*args, **kwargs))
        made._side = self._runtime
        return made


class Cartcomm(MPI.Cartcomm, Comm):
    """A wrapped Cartesian communicator."""

    __module__, __qualname__ = MPI.__name__, "topocomm.Cartcomm"

    def __new__(cls, comm: Any = None) -> Self:
        """A handle; made by :meth:`Comm.Create_cart`."""
        return MPI.Intracomm.__new__(cls, MPI.Cartcomm(comm))

    def Sub(self, remain_dims: Any) -> Any:
        """MPI_Cart_sub."""
        return self._adopt(super().Sub(remain_dims))


class Graphcomm(MPI.Graphcomm, Comm):
    """A wrapped graph communicator."""

    __module__, __qualname__ = MPI.__name__, "topocomm.Graphcomm"

    def __new__(cls, comm: Any = None) -> Self:
        """A handle; made by :meth:`Comm.Create_graph`."""
        return MPI.Intracomm.__new__(cls, MPI.Graphcomm(comm))


class Distgraphcomm(MPI.Distgraphcomm, Comm):
    """A wrapped distributed graph communicator."""

    __module__, __qualname__ = MPI.__name__, "topocomm.Distgraphcomm"

    def __new__(cls, comm: Any = None) -> Self:
        """A handle; made by :meth:`Comm.Create_dist_graph`."""
        return MPI.Intracomm.__new__(cls, MPI.Distgraphcomm(comm))


class Intercomm(MPI.Intercomm):
    """An intercommunicator made from a wrapped communicator. All its calls are the MPI library's."""

    _side: Runtime | None = None
    """What stands behind the communicator that this rank came with."""

    def Merge(self, high: bool = False) -> Any:
        """MPI_Intercomm_merge: wrapped, with what both sides were told.

        The topology of two parts of one wrapped communicator is its own. Else both are placed by the description by
        node that they were given, and without one as ``TOPOCOMM_TOPOLOGY`` says or as is discovered.

        Both sides must have been wrapped. Raises AlgorithmError on every rank if their settings differ, TopologyError
        if their descriptions, machines or tunings do, or the machine lacks a level that is found.
        """
        merged, side = MPI.Intercomm(self).Merge(high), self._side
        if side is None:
            return merged
        try:
            everyone = objects.allgather(merged, side.settings)
            if any(settings != everyone[0] for settings in everyone):
                raise AlgorithmError("the two sides of the intercommunicator are wrapped with different settings")
            found, origin = given.joined(merged, side.origin, side.topology, side.rank, side.settings)
            machine, found, origin = given.machine(merged, side.places.machine, side.settings, found, origin)
            tuning = given.tuning(merged, side.places.tuning, side.settings)
        except Error:
            merged.Free()
            raise
        places = Places(found, machine, tuning, side.places.memory, side.settings.engine)
        return _of(_WRAPPED[MPI.Intracomm], merged)._begin(Runtime(merged, places, side.settings, origin))

    def Dup(self, info: MPI.Info | None = None) -> Any:
        """MPI_Comm_dup."""
        made = Intercomm(MPI.Intercomm(self).Dup(info))
        made._side = self._side
        return made


_SHAPED = (MPI.Cartcomm, MPI.Graphcomm, MPI.Distgraphcomm)
_WRAPPED: dict[type, type[Comm]] = {
    MPI.Intracomm: Comm,
    MPI.Cartcomm: Cartcomm,
    MPI.Graphcomm: Graphcomm,
    MPI.Distgraphcomm: Distgraphcomm,
}
"""Class of the communicators that wrap those of a class of mpi4py."""


def _kind(cls: type[Comm], comm: MPI.Intracomm) -> type[Comm]:
    """Return the class of the communicator that ``cls(comm)`` gives: a Cartesian communicator keeps its calls."""
    if cls is not Comm:
        return cls
    return _WRAPPED[next((base for base in _SHAPED if isinstance(comm, base)), MPI.Intracomm)]


def _of(kind: type[Comm], comm: Any) -> Comm:
    """Return a communicator of class ``kind`` with the handle of ``comm``.

    The handle is copied as bytes: mpi4py's constructor would ask for the virtual topology, about which Open MPI errs
    where a distributed graph is made of a Cartesian communicator.
    """
    made: Comm = MPI.Intracomm.__new__(kind)
    size = MPI._sizeof(comm)
    MPI.buffer.fromaddress(MPI._addressof(made), size)[:] = MPI.buffer.fromaddress(MPI._addressof(comm), size)
    return made


def _restored(kind: type[Comm] | str, name: str, content: pickling.Content) -> Comm:
    """Return what was pickled: the communicator ``name`` of MPI, with the settings it had. Local."""
    cls: type[Comm] = globals()[kind] if isinstance(kind, str) else kind
    runtime = pickling.restore(name, content)
    current = getattr(MPI, name)
    if type(current) is cls and current._runtime is runtime:  # as mpi4py, the one and only
        return current
    return _of(cls, runtime.comm)._begin(runtime)
