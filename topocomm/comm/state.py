"""What stands behind a wrapped communicator: its topology, private communicator, decisions and plans."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm.algorithms import make_schedule
from topocomm.arrays import Bytes, IntArray
from topocomm.choose.measured import Tuning
from topocomm.choose.modelled import Choice, Chooser, Memory, rounded
from topocomm.choose.rule import NATIVE, Decision, asks_model, decide, has_distance
from topocomm.collectives import COLLECTIVES, find_collective
from topocomm.comm.agreement import Agreement
from topocomm.comm.given import Origin
from topocomm.comm.settings import Settings
from topocomm.engines import p2p
from topocomm.errors import AlgorithmError, BufferError, Error
from topocomm.model.machine import Machine
from topocomm.plan import Plan, block_cuts, make_plan
from topocomm.schedule import Schedule
from topocomm.topology import Topology
from topocomm.topology.live.meeting import quiet_barrier

__all__ = ["NO_PLAN", "Bound", "Call", "Runtime", "private_communicator"]

_GRACE_SECONDS = 5.0
"""How long a rank with a bad argument waits for the others, so that they learn of it."""

_MOST_PLANS = 256

_FINE, _FORWARD, _WRONG = 0, 1, 2
_LOWEST = int(np.iinfo(np.int64).min)

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


@dataclass(frozen=True)
class Call:
    """One kind of call, as far as plans can tell: what all ranks must agree on."""

    collective: str
    counts: int | tuple[int, ...]
    """Elements of a block of a gather-like call, or of the whole vector, or of every block of a reduce_scatter."""
    itemsize: int
    root: int = 0
    commutative: bool = True
    kind: str = ""
    """Datatype and operation of a reduction."""
    named: str | None = None
    """The algorithm that this call asks for."""

    def nbytes(self, size: int) -> int:
        """Bytes by which the choice is made: of the whole vector."""
        if isinstance(self.counts, tuple):
            return sum(self.counts) * self.itemsize
        blocks = size if COLLECTIVES[self.collective].counts_block else 1
        return self.counts * blocks * self.itemsize

    def describe(self) -> str:
        """What a rank called, for the error that shows a disagreement."""
        counts = self.counts if isinstance(self.counts, int) else f"counts {list(self.counts)[:8]}"
        root = f", root {self.root}" if COLLECTIVES[self.collective].rooted else ""
        named = f", algorithm {self.named}" if self.named else ""
        return f"{self.collective} of {counts} × {self.itemsize} bytes{self.kind and ', ' + self.kind}{root}{named}"


@dataclass(frozen=True)
class Bound:
    decision: Decision
    plan: Plan | None


NO_PLAN = Bound(Decision("", None, NATIVE, NATIVE, ""), None)
"""What a call is bound to that the MPI library does this once."""


def _block_counts(call: Call, schedule: Schedule) -> int | Sequence[int] | IntArray:
    """Elements of the blocks into which the schedule cuts the call's vector."""
    if isinstance(call.counts, tuple) or COLLECTIVES[call.collective].counts_block:
        return call.counts
    return np.diff(block_cuts(call.counts, schedule.nslots))


def _shorten(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")


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
        memory: Memory | None = None,
    ) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.settings = settings
        self.origin = origin
        self.machine = machine
        self.tuning = tuning
        self.memory = memory or Memory()
        self._make_topology = topology
        self._chooser: Chooser | None = None
        self._topology: Topology | None = None
        self.plans: dict[tuple[Hashable, ...], Bound] = {}
        self._made: dict[tuple[Call, bool], Bound] = {}
        self._agreed: set[Call] = set()
        self._shared: set[tuple[str, int, bool]] = set()
        self._natives: set[str] = set()
        self.decisions: list[Decision] = []
        self._private: MPI.Intracomm | None = None
        self._agreement: Agreement | None = None
        self._scratch: Bytes = np.empty(0, np.uint8)

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

    # -- agreement ---------------------------------------------------------------------------------------------

    def agree(self, call: Call) -> bool:
        """See to it that all ranks make the same call, when it is new. Raises Error on every rank if they do not.

        False if some rank's arguments are for the MPI library; then the call is, on all ranks.
        """
        if call in self._agreed and not self.settings.check_always:
            return True
        named = call.named or self.settings.named.get(call.collective)
        text = f"{call.describe()}, topology {self.topology.signature}"
        digest = int.from_bytes(hashlib.sha256(repr((call, named, text)).encode()).digest()[:7], "big")
        out = self.agreement.largest([digest, -digest, _FINE])
        if out[2] == _FORWARD:
            return False
        self._raise_disagreement(out, text)
        if call not in self._agreed:
            self._share_choice(call)
            self._agreed.add(call)
        return True

    def _share_choice(self, call: Call) -> None:
        """Let all ranks have rank 0's choice by the model. Collective, as the agreement on a new call is.

        Each could compute it, but the last bits of a sum, and so the order of two equal times, may differ between
        processors of different kinds.
        """
        nbytes, named = call.nbytes(self.size), call.named or self.settings.named.get(call.collective)
        if not asks_model(call.collective, nbytes, self.chooser, named, call.commutative):
            return
        what = call.collective, rounded(nbytes), not call.commutative
        if what in self._shared:
            return
        answer: Choice | Exception | None = None
        if self.rank == 0:
            try:
                answer = self.chooser.choose(*what)
            except Exception as e:  # the others wait for an answer, whatever it is
                answer = e
        quiet_barrier(self.private)  # who waits takes no core from rank 0
        answer = self.private.bcast(answer)
        if isinstance(answer, Exception):
            raise Error(f"rank 0 cannot choose an algorithm for {call.describe()}: {answer}") from answer
        assert answer is not None
        self.chooser.adopt(*what, answer)
        self._shared.add(what)

    def agree_on_native(self, collective: str) -> None:
        """See to it, once, that all ranks name the MPI library for a call. Raises Error on every rank if not."""
        if collective not in self._natives:
            self.agree(Call(collective, 0, 0, named=NATIVE))
            self._natives.add(collective)

    def forward(self, collective: str) -> None:
        """Tell the other ranks, if the call is new to them, that this one's arguments are for the MPI library."""
        out = self.agreement.largest([_LOWEST, _LOWEST, _FORWARD])
        if out[2] == _WRONG:
            self._raise_disagreement(out, f"{collective} by the MPI library")
        self._note_once(Decision(collective, None, NATIVE, NATIVE, "an argument that only the MPI library can read"))

    def refuse(self, message: str) -> None:
        """Tell the other ranks that this one has a bad argument, if they come to agree; then raise BufferError."""
        if self.size > 1 and not self.agreement.others_come(_GRACE_SECONDS):
            raise BufferError(f"{message} (the other ranks did not make a new call; they may wait for this one)")
        self._raise_disagreement(self.agreement.largest([0, 0, _WRONG]), message, wrong=True)

    def tell(self, message: str) -> None:
        """As :meth:`refuse`, but leave it to the caller to raise."""
        try:
            self.refuse(message)
        except BufferError:
            return

    def _raise_disagreement(self, out: Any, text: str, wrong: bool = False) -> None:
        if out[2] == _FINE and out[0] == -out[1]:
            return
        texts = self.private.allgather((wrong, text))
        bad = [(r, t) for r, (w, t) in enumerate(texts) if w]
        if bad:
            rank, message = bad[0]
            raise BufferError(message if rank == self.rank else f"stopped on rank {self.rank}, because {message}")
        groups: dict[str, list[int]] = {}
        for r, (_, t) in enumerate(texts):
            groups.setdefault(t, []).append(r)
        shown = "; ".join(f"ranks {_shorten(ranks)}: {t}" for t, ranks in list(groups.items())[:4])
        raise Error(f"rank {self.rank}: the ranks call differently: {shown}; all must give the same")

    # -- decisions and plans -----------------------------------------------------------------------------------

    def explain(self, collective: str, nbytes: int, commutative: bool, root: int, algorithm: str | None) -> Decision:
        """The decision for ``nbytes`` bytes of the whole vector, with the reordering that its schedule has."""
        blocks = self.size if find_collective(collective).counts_block else 1
        call = Call(collective, -(-nbytes // blocks), 1, root, commutative, named=algorithm)
        if nbytes < 0 or not 0 <= root < self.size:
            raise AlgorithmError(f"{nbytes} bytes, root {root}: needs bytes ≥ 0 and a root of 0..{self.size - 1}")
        decision = self.decide(call)
        if decision.algorithm != NATIVE:
            schedule = make_schedule(collective, decision.algorithm, self.topology, root, ordered=not commutative)
            decision = replace(decision, reordering=schedule.reordering)
        return decision

    def decide(self, call: Call) -> Decision:
        """The decision for a call, without its schedule."""
        named, by = call.named, "the call"
        if named is None:
            named, by = self.settings.named.get(call.collective), self.settings.named_by.get(call.collective, "")
        return decide(
            call.collective,
            call.nbytes(self.size),
            self.chooser,
            named=named,
            named_by=by,
            commutative=call.commutative,
            root=call.root,
        )

    def bind(self, call: Call, in_place: bool = False) -> Bound | None:
        """The plan for a call; made when the call is new. None if this once it is for the MPI library."""
        if not self.agree(call):
            return None
        bound = self._made.get((call, in_place))
        if bound is None:
            if len(self._made) >= _MOST_PLANS:  # what was agreed stays so; plans are made again
                self._made.clear()
                self.plans.clear()
            bound = self._made[call, in_place] = self._make(call, in_place)
            self._note(bound.decision)
        return bound

    def _make(self, call: Call, in_place: bool) -> Bound:
        decision = self.decide(call)
        if decision.algorithm == NATIVE:
            return Bound(decision, None)
        try:
            schedule = make_schedule(
                call.collective, decision.algorithm, self.topology, call.root, ordered=not call.commutative
            )
        except AlgorithmError as e:
            raise AlgorithmError(f"{e} ({decision.why})") from None
        plan = make_plan(schedule, self.rank, _block_counts(call, schedule), call.itemsize, in_place)
        return Bound(replace(decision, reordering=schedule.reordering), plan)

    def note_native(self, collective: str) -> None:
        """Note that every call of ``collective`` goes to the MPI library."""
        self._note_once(replace(self.decide(Call(collective, 0, 1)), nbytes=None))

    def _note_once(self, decision: Decision) -> None:
        if decision not in self.decisions:
            self._note(decision)

    def _note(self, decision: Decision) -> None:
        self.decisions.append(decision)
        if self.settings.trace and self.rank == 0:
            print(f"topocomm: {decision}", file=sys.stderr, flush=True)

    def run(self, bound: Bound, send: Bytes, recv: Bytes, op: MPI.Op = MPI.OP_NULL, kind: Any = MPI.BYTE) -> None:
        """Run a plan on the caller's memory."""
        assert bound.plan is not None
        if len(self._scratch) < bound.plan.scratch_bytes:  # one for all plans: calls on a communicator do not overlap
            self._scratch = np.empty(bound.plan.scratch_bytes, np.uint8)
        p2p.run(self.private, bound.plan, (send, recv, self._scratch), op, kind)
