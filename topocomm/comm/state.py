"""What stands behind a wrapped communicator: its topology, private communicator, kinds of calls and programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from topocomm.choose.rule import NATIVE, Decision, native_always
from topocomm.choose.shared import SHARED
from topocomm.collectives import find_collective
from topocomm.comm.agreement import Agreement
from topocomm.comm.call import Call, Read
from topocomm.comm.early import Early
from topocomm.comm.exchanging import exchange
from topocomm.comm.given import Origin
from topocomm.comm.kinds import Kinds
from topocomm.comm.operations import Traits
from topocomm.comm.places import Members, Places, Ranks
from topocomm.comm.private import Private
from topocomm.comm.programs import OPENING_TAG, Programs
from topocomm.comm.readers import ForLibraryError, KnownToAllError
from topocomm.comm.recall import Served
from topocomm.comm.record import record_of
from topocomm.comm.settings import Settings
from topocomm.comm.shared import Shared
from topocomm.errors import AlgorithmError, BufferError
from topocomm.topology import Topology

if TYPE_CHECKING:
    from topocomm.choose.modelled import Chooser
    from topocomm.comm.started import Started
    from topocomm.engines import c
    from topocomm.engines.carrier import Carrier
    from topocomm.engines.node import LargeCall, NodeCall
    from topocomm.engines.walk import Sized

__all__ = ["Runtime"]


class Runtime:
    """The state of one wrapped communicator."""

    def __init__(
        self,
        comm: MPI.Intracomm,
        places: Places,
        settings: Settings,
        origin: Origin,
        private: Private | None = None,
        ranks: Ranks = None,
        early: Early | None = None,
    ) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.places = places
        self.settings = settings
        self.origin = origin
        self.private = private or Private(comm)
        self._ranks = ranks
        self._members: Members | None = None
        self._chooser: Chooser | None = None
        self.programs = Programs(self.rank, lambda: self.topology, settings.engine, settings.transports, self._share)
        self.shared = Shared(comm, settings.engine, lambda: self._on_one_node, lambda: self.carrier)
        asked = (lambda: self.chooser), (lambda: self.agreement)
        self.kinds = Kinds(self.size, settings, *asked, self.programs, self.shared, self._name, early)
        self._always: set[str] = set()
        self._record = record_of(settings.record_file, comm)
        self._agreement: Agreement | None = None
        self._started: Started | None = None

    def _share(self, engine: c.Engine, waits: bool) -> None:
        """Let the messages of an engine go through what the settings allow: the nearest first. Collective with shm.

        Without ``waits`` not through shm: ranks would wait for each other.
        """
        if "shm" in self.settings.transports and waits:
            engine.share(self.comm)
        if "ofi" in self.settings.transports:
            from topocomm.engines import puts

            engine.put(puts.endpoint(), self.carrier.tag + OPENING_TAG)

    @property
    def topology(self) -> Topology:
        """The topology of the communicator."""
        return self.places.topology if self._ranks is None else self.chooser.topology

    @property
    def chooser(self) -> Chooser:
        """The chooser of algorithms for this communicator."""
        if self._chooser is None:
            self._chooser = self.places.chooser(self._ranks)
        return self._chooser

    @property
    def has_distance(self) -> bool:
        """True if some ranks are nearer to each other than others are."""
        whole = self.places.topology
        return whole.has_distance and (self._ranks is None or whole.has_distance_among(self._ranks))

    @property
    def _on_one_node(self) -> bool:
        """True if the topology says that all ranks are on one node."""
        return self.places.topology.is_one_node_among(range(self.size) if self._ranks is None else self._ranks)

    @property
    def carrier(self) -> Carrier:
        """What carries private messages. Collective when first asked for."""
        return self.private.open()

    @property
    def started(self) -> Started:
        """The calls that are waited for later."""
        if self._started is None:
            from topocomm.comm.started import Started

            self._started = Started(self)
        return self._started

    def end(self) -> None:
        """Before the communicator is freed: its calls under way go on."""
        if self._started is not None:
            self._started.end()

    @property
    def agreement(self) -> Agreement:
        """Comparisons with the other ranks. Collective when first asked for.

        No cached_property: before Python 3.12 it holds one lock for all instances, and other threads of other ranks
        would wait for it in another order.
        """
        if self._agreement is None:
            self._agreement = Agreement(self.comm, self.carrier)
        return self._agreement

    @property
    def members(self) -> Members:
        """The ranks of this communicator, which must not have been freed when this is first asked for."""
        if self._members is None:
            self._members = Members(self.comm)
        return self._members

    def derive(self, members: Members | None, together: bool, comm: MPI.Intracomm, early: Early) -> Runtime:
        """Return the state of a communicator whose ranks are ranks of this one: same settings, their places. Local.

        ``members``: of this communicator, None if ``comm`` is a duplicate; ``together``: all members of this
        communicator took part in making it.
        """
        ranks = self._ranks if members is None else members.ranks_of(comm, self._ranks)
        private = self.private.derive(comm, together)
        return Runtime(comm, self.places, self.settings, self.origin, private, ranks, early)

    def native_always(self, collective: str) -> bool:
        """Return True, and note it, if every call of ``collective`` that names no algorithm is the MPI library's."""
        if self.settings.record_file:  # calls are counted where they are read
            return False
        named, by = self.settings.named.get(collective), self.settings.named_by.get(collective, "")
        found = self.kinds.always_library(collective) or native_always(
            collective, self.size, self.has_distance, self.places.tuning, named, by, self.shared.why_not is None
        )
        if found is not None:
            self._always.add(collective)
            self.kinds.note(found)
        return found is not None

    def leaves_vectors(self, collective: str, algorithm: str | None) -> bool:
        """Return True if calls with blocks of unequal size are the MPI library's: no algorithm of ours is named."""
        named = algorithm if algorithm is not None else self.settings.named.get(collective)
        return self.size == 1 or named in (None, NATIVE, SHARED)

    def _name(self) -> str:
        """Return the name of the communicator in traces."""
        return f"{self.comm.Get_name() or 'communicator'} of {self.size} rank{'s' if self.size > 1 else ''}"

    @property
    def shares_objects(self) -> bool | None:
        """Whether calls on Python objects go through shared memory; None before it is opened for them.

        Where ranks outnumber cores they do not, unless ``shared`` is named for ``allgather``: a rank that only gives
        an object would wait until all others have had a core.
        """
        if not self.kinds.remembers or self.shared.why_not is not None:
            return False
        if not self.shared.is_open:
            return None
        return not self.shared.host.crowded or self.settings.named.get("allgather") == SHARED

    def open_for_objects(self) -> bool:
        """Open shared memory for calls on objects; False if they do not go that way. Collective."""
        self.shared.open()
        return bool(self.shares_objects)

    # -- calls ---------------------------------------------------------------------------------------------------

    def serve(self, reader: Callable[..., Read], *args: Any) -> Served | None:
        """Make a call; None if it is left to the MPI library. ``reader`` reads ``args``.

        Raises what the reader raises, after letting the other ranks know if they make a new call, too.
        """
        if args[-1] is None and reader.__name__ in self._always:  # no algorithm is named
            self._serve_fault(reader, *args)
            return None
        try:
            read = reader(self, *args)
        except KnownToAllError:
            raise
        except Exception as e:
            trouble = e
        else:
            return self._make(read)
        self._refuse(trouble, reader.__name__.capitalize())
        return None

    def _refuse(self, trouble: Exception, name: str) -> None:
        """Let the other ranks know of a bad argument, and raise, unless the MPI library is to raise."""
        message = ": ".join([f"{name} on rank {self.rank}", *getattr(trouble, "__notes__", ()), str(trouble)])
        if isinstance(trouble, BufferError):
            self.agreement.refuse(message)
        self.agreement.tell(message)
        if not isinstance(trouble, ForLibraryError):
            raise trouble

    def _make(self, read: Read) -> Served | None:
        served = self._serve(read)
        if self._record is not None:
            known = self.kinds.known(read.call)
            name = known.algorithm if known is not None else NATIVE
            self._record.add(read.call, self.topology, self.size, name)
        return served

    def _serve(self, read: Read) -> Served | None:
        if not self.settings.check_always and self.shared.is_open:
            known = self.shared.known(read)
            if known is not None:
                return self._through_memory(known, read)
        sized = None if self.settings.check_always else self.programs.known(read)
        if sized is None:
            decision = self.kinds.decision(read)
            if decision.algorithm == NATIVE:
                self._leave(read)
                return None
            if decision.algorithm == SHARED:
                return self._through_memory(self.shared.make(read), read)
            from topocomm.comm import balancing

            if balancing.is_skewed(read.call):
                return self._balanced(read, decision.algorithm)
            sized = self.programs.make(read, decision.algorithm, lambda: self.carrier)
        self._run(sized, read)
        return self._done(sized, read)

    def _balanced(self, read: Read, algorithm: str) -> Served:
        """Make a call with skewed blocks through equal parts."""
        from topocomm.comm import balancing

        call, own = read.call, balancing.parts(read.call)
        assert isinstance(call.counts, tuple)
        gathers = call.collective == "allgather"
        part = np.empty(0 if gathers else own[self.rank] * call.itemsize, np.uint8)
        even = balancing.even(read, self.rank, read.recv if gathers else part)
        sized = self.programs.known(even) or self.programs.make(even, algorithm, lambda: self.carrier)
        if gathers:
            blocks = balancing.moves(call.counts, own, self.rank, read.send, even.send, call.itemsize)
            exchange(self.carrier, self.topology, self.rank, *blocks)
            self._run(sized, even)
            return self._done(sized, read)
        self._run(sized, even)
        kept = read.recv[: call.counts[self.rank] * call.itemsize]
        blocks = balancing.moves(own, call.counts, self.rank, part, kept, call.itemsize)
        exchange(self.carrier, self.topology, self.rank, *blocks)
        return self._done(sized, read)

    def _through_memory(self, call: NodeCall | LargeCall, read: Read) -> Served | None:
        """Make a call through the memory of the common host; None if all ranks leave it to the MPI library."""
        try:
            made = call.run(read.send, read.recv)
        except MPI.Exception as error:
            self._call_handler(error)
            raise
        if made is False:
            self._leave(read)
            return None
        return self._done(call, read)

    def _done(self, sized: Sized | c.Sized | NodeCall | LargeCall, read: Read) -> Served:
        """End a call: deliver what is in a copy, and say what was wrong on this rank alone."""
        if read.result is not None:
            read.result.deliver()
        if read.fault:
            raise BufferError(read.fault)
        return Served(sized, read)

    def _run(self, sized: Sized | c.Sized, read: Read) -> None:
        try:
            self.programs.run(self.carrier, sized, read)
        except MPI.Exception as error:
            self._call_handler(error)
            raise

    def finish(self, bound: c.Bound | NodeCall, status: int, send: int, recv: int) -> None:
        """Finish a call that C started with buffers at these addresses and that ended with ``status``."""
        try:
            bound.finish(status, send, recv)
        except MPI.Exception as error:
            self._call_handler(error)
            raise

    def _call_handler(self, error: MPI.Exception) -> None:
        """Give an error of the carrier or of an operation to the handler of this communicator."""
        self.comm.Call_errhandler(error.Get_error_code())

    def _leave(self, read: Read) -> None:
        """Leave a call to the MPI library; one with a fault is made here, before the fault is said."""
        if not read.fault:
            return
        call = read.call
        if call.collective == "reduce":
            self.comm.Reduce([read.send, call.counts, read.datatype], None, read.op, call.root)
        elif call.collective == "gather":
            self.comm.Gather([read.send, MPI.BYTE], None, call.root)
        else:
            self.comm.Scatter(None, [read.recv, MPI.BYTE], call.root)
        raise BufferError(read.fault)

    def _serve_fault(self, reader: Callable[..., Read], *args: Any) -> None:
        """Look for a fault in a call that the MPI library makes whatever its arguments."""
        *_, root, _ = args
        if root == self.rank:
            return
        try:
            read = reader(self, *args)
        except Exception:  # the MPI library says so itself
            return
        self._leave(read)

    # -- decisions -----------------------------------------------------------------------------------------------

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions so far, in order: one a kind of call."""
        return self.kinds.decisions

    def explain(self, collective: str, nbytes: int, traits: Traits, root: int, algorithm: str | None) -> Decision:
        """The decision for ``nbytes`` bytes of the whole vector, with the reordering that its schedule has."""
        blocks = self.size if find_collective(collective).counts_block else 1
        if nbytes < 0 or not 0 <= root < self.size:
            raise AlgorithmError(f"{nbytes} bytes, root {root}: needs bytes ≥ 0 and a root of 0..{self.size - 1}")
        call = Call(collective, -(-nbytes // blocks), 1, root, algorithm, traits)
        decision = self.kinds.explain(call)
        runs = decision.algorithm not in (NATIVE, SHARED) and self.size > 1
        arrivals = self.programs.arrivals(call, decision.algorithm) if runs else ""
        return replace(decision, sources=self.origin.lines, carried=self.programs.carried, arrivals=arrivals)

    def note_uncovered(self, call: str) -> None:
        """Note, once, a call that is mpi4py's own."""
        if call not in self._always:
            self._always.add(call)
            self.kinds.note(Decision(call, None, NATIVE, NATIVE, "not covered by topocomm"))
