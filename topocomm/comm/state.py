"""What stands behind a wrapped communicator: its topology, private communicator, kinds of calls and programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from mpi4py import MPI

from topocomm.choose.measured import Tuning
from topocomm.choose.modelled import Chooser, ModelCache
from topocomm.choose.rule import NATIVE, Decision, has_distance
from topocomm.collectives import find_collective
from topocomm.comm.agreement import Agreement
from topocomm.comm.call import Call, Read
from topocomm.comm.given import Origin
from topocomm.comm.kinds import Kinds
from topocomm.comm.operations import PLAIN, Traits
from topocomm.comm.programs import Programs
from topocomm.comm.readers import ForLibraryError, KnownToAllError
from topocomm.comm.settings import Settings
from topocomm.errors import AlgorithmError, BufferError
from topocomm.model.machine import Machine
from topocomm.topology import Topology

__all__ = ["Runtime", "private_communicator"]

_keyval: list[int] = []


class _Private:
    """The duplicate that carries topocomm's own traffic; kept as an attribute of the communicator and freed with it."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.comm: MPI.Intracomm | None = comm.Dup()

    def free(self) -> None:
        if self.comm is not None and not MPI.Is_finalized():
            self.comm.Free()
        self.comm = None


def private_communicator(comm: MPI.Intracomm) -> MPI.Intracomm:
    """The private duplicate of ``comm``: made once, collectively, however often ``comm`` is wrapped."""
    if not _keyval:
        _keyval.append(MPI.Comm.Create_keyval(delete_fn=lambda _comm, _key, private: private.free()))
    private: Any = comm.Get_attr(_keyval[0])
    if private is None:
        private = _Private(comm)
        comm.Set_attr(_keyval[0], private)
    duplicate: MPI.Intracomm = private.comm
    return duplicate


class Runtime:
    """The state of one wrapped communicator."""

    def __init__(
        self,
        comm: MPI.Intracomm,
        topology: Callable[[], Topology],
        settings: Settings,
        origin: Origin,
        machine: Machine | None = None,
        tuning: Tuning | None = None,
        memory: ModelCache | None = None,
    ) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.settings = settings
        self.origin = origin
        self.machine = machine
        self.tuning = tuning
        self.memory = memory or ModelCache()
        self._make_topology = topology
        self._chooser: Chooser | None = None
        self._topology: Topology | None = None
        self.programs = Programs(self.rank, lambda: self.topology)
        self.kinds = Kinds(self.size, settings, lambda: self.chooser, lambda: self.agreement, self.programs)
        self._always: set[str] = set()
        self._private: MPI.Intracomm | None = None
        self._agreement: Agreement | None = None

    @property
    def topology(self) -> Topology:
        """The topology of the communicator."""
        if self._topology is None:
            self._topology = self._make_topology()
        return self._topology

    @property
    def chooser(self) -> Chooser:
        """What chooses algorithms for this communicator."""
        if self._chooser is None:
            name, numbers = MPI.get_vendor()
            library = f"{name} {'.'.join(map(str, numbers))}"  # as tuning files have it
            self._chooser = Chooser(self.topology, self.machine, self.tuning, library, self.memory)
        return self._chooser

    @property
    def private(self) -> MPI.Intracomm:
        """The private communicator. Collective when first asked for."""
        if self._private is None:
            self._private = private_communicator(self.comm)
        return self._private

    @property
    def agreement(self) -> Agreement:
        """Comparisons with the other ranks. Collective when first asked for.

        No cached_property: before Python 3.12 it holds one lock for all instances, and other threads of other ranks
        would wait for it in another order.
        """
        if self._agreement is None:
            self._agreement = Agreement(self.private)
        return self._agreement

    def set_errhandler(self, errhandler: MPI.Errhandler) -> None:
        """Errors of the private communicator go the way of the communicator's; one made later inherits it."""
        if self._private is not None:
            self._private.Set_errhandler(errhandler)

    def derive(self, comm: MPI.Intracomm) -> Runtime:
        """The state of a communicator whose ranks are ranks of this one: same settings, their part of the topology."""
        group, mine = comm.Get_group(), self.comm.Get_group()
        ranks = list(group.Translate_ranks(list(range(comm.Get_size())), mine))
        group.Free()
        mine.Free()
        places = lambda: self.topology.restrict(ranks)  # noqa: E731
        return Runtime(comm, places, self.settings, self.origin, self.machine, self.tuning, self.memory)

    def always_native(self, collective: str) -> bool:
        """Whether every call of ``collective`` without a word of its own goes to the MPI library, whatever its size."""
        named = self.settings.named.get(collective)
        return named == NATIVE if named is not None else self.tuning is None and not has_distance(self.topology)

    # -- calls ---------------------------------------------------------------------------------------------------

    def serve(self, reader: Callable[..., Read], *args: Any) -> bool:
        """Make a call; False if it is left to the MPI library. ``reader`` reads ``args``.

        Raises what the reader raises, after letting the other ranks know if they make a new call, too.
        """
        if args[-1] is None and reader.__name__ in self._always:  # no algorithm is named
            return self._serve_fault(reader, *args)
        try:
            read = reader(self, *args)
        except KnownToAllError:
            raise
        except Exception as e:
            trouble = e
        else:
            return self._make(read)
        return self._refuse(trouble, reader.__name__.capitalize())

    def _refuse(self, trouble: Exception, name: str) -> Literal[False]:
        """Let the other ranks know of a bad argument, and raise; False if the MPI library is to raise."""
        if isinstance(trouble, BufferError):
            self.agreement.refuse(str(trouble))
        if isinstance(trouble, ForLibraryError):
            self.agreement.tell(f"{name} on rank {self.rank}: {trouble}")
            return False
        self.agreement.tell(": ".join([*getattr(trouble, "__notes__", ()), str(trouble)]))
        raise trouble

    def _make(self, read: Read) -> bool:
        plan = None if self.settings.check_always else self.programs.known(read)
        if plan is None:
            decision = self.kinds.decision(read)
            if decision.algorithm == NATIVE:
                return self._leave(read)
            plan = self.programs.plan(read, decision.algorithm)
        self.programs.run(self.private, plan, read)
        if read.result is not None:
            read.result.deliver()
        if read.fault:
            raise BufferError(read.fault)
        return True

    def _leave(self, read: Read) -> Literal[False]:
        """Leave a call to the MPI library; one with a fault is made here, before the fault is said."""
        if not read.fault:
            return False
        call = read.call
        if call.collective == "reduce":
            self.comm.Reduce([read.send, call.counts, read.datatype], None, read.op, call.root)
        elif call.collective == "gather":
            self.comm.Gather([read.send, MPI.BYTE], None, call.root)
        else:
            self.comm.Scatter(None, [read.recv, MPI.BYTE], call.root)
        raise BufferError(read.fault)

    def _serve_fault(self, reader: Callable[..., Read], *args: Any) -> Literal[False]:
        """Look for a fault in a call that the MPI library makes whatever its arguments."""
        *_, root, _ = args
        if root == self.rank:
            return False
        try:
            read = reader(self, *args)
        except Exception:  # the MPI library says so itself
            return False
        return self._leave(read)

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
        return self.kinds.explain(Call(collective, -(-nbytes // blocks), 1, root, algorithm, traits))

    def note_native(self, collective: str) -> None:
        """Note that every call of ``collective`` goes to the MPI library."""
        self._always.add(collective)
        self.kinds.note(replace(self.kinds.decide(Call(collective, 0, 1, traits=PLAIN)), nbytes=None))
