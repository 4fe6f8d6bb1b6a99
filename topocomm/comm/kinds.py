"""Kinds of calls: what serves each, agreed on by all ranks when the first call of a kind is made.

A kind is a collective, a class of sizes (:func:`~topocomm.choose.rule.size_classes`), the traits of the operation and
the algorithm that the call names: all that the choice of an algorithm depends on. The first call of a kind is compared
over all ranks and, where the model decides, rank 0's choice is taken; all later calls of the kind, of whatever size,
root, type or buffer, need no message. So that every rank knows the same kinds, none is ever forgotten: at most 10
collectives × (some 120 classes + 3 a measured size) × 4 traits, and one for every name that calls give.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from topocomm.choose.rule import NATIVE, Decision, asks_model, decide, size_classes
from topocomm.choose.shared import ARRAYS, SHARED, fits
from topocomm.collectives import COLLECTIVES, PREFIXES, REDUCING
from topocomm.comm.call import Call, Read
from topocomm.comm.early import Early, blocks_of, factor_of
from topocomm.comm.operations import PLAIN, Traits, combines
from topocomm.comm.settings import Settings
from topocomm.comm.shared import Shared
from topocomm.errors import AlgorithmError

if TYPE_CHECKING:
    from topocomm.choose.modelled import Choice, Chooser
    from topocomm.comm.agreement import Agreement
    from topocomm.comm.programs import Programs

__all__ = ["ALWAYS", "MOST_SIZES", "Kind", "Kinds", "NativeSizes"]

Kind = tuple[str, int | None, Traits, str | None]
"""Collective, class of sizes (None: any size), traits of the operation, algorithm that the call names."""

MOST_SIZES = 256
"""Sizes of a collective that are remembered to be the MPI library's."""
_NO_END = 1 << 62
"""Bytes that no vector has."""


class NativeSizes(dict[int, bool]):
    """Whether a collective with an operation of MPI's own is left to the MPI library, by the bytes of one buffer.

    ``factor`` such buffers are the whole vector, and each has ``blocks`` blocks, of which an argument may give the
    count. Knows nothing but what the ranks have agreed on.
    """

    def __init__(self, cuts: tuple[int, ...], factor: int = 1, blocks: int = 1) -> None:
        super().__init__()
        self.cuts, self.factor, self.blocks = cuts, factor, blocks
        self.classes: dict[int, bool] = {}

    def __missing__(self, nbytes: int) -> bool:
        native = self.classes.get(bisect_right(self.cuts, nbytes * self.factor))
        if native is None:
            return False
        while len(self) >= MOST_SIZES:
            del self[next(iter(self))]
        self[nbytes] = native
        return native

    def around(self, nbytes: int) -> tuple[int, int] | None:
        """Return the range of sizes (first, end) that are the MPI library's alike; None if this one is not known so."""
        at = bisect_right(self.cuts, nbytes * self.factor)
        if not self.classes.get(at):
            return None
        bounds = (0, *self.cuts, _NO_END * self.factor)
        return -(-bounds[at] // self.factor), -(-bounds[at + 1] // self.factor)


ALWAYS = NativeSizes(())
ALWAYS.classes[0] = True
"""Of a collective that always goes to the MPI library, also where a buffer's bytes are not known."""


class Kinds:
    """The kinds of calls that a communicator has seen, with the decision for each."""

    def __init__(
        self,
        size: int,
        settings: Settings,
        chooser: Callable[[], Chooser],
        agreement: Callable[[], Agreement],
        programs: Programs,
        shared: Shared,
        name: Callable[[], str],
        early: Early | None = None,
    ) -> None:
        self.size = size
        self._early = early
        self._name = name
        self.settings = settings
        self._chooser, self._agreement, self._programs = chooser, agreement, programs
        self.shared = shared
        self._combines = combines()
        self._known: dict[Kind, Decision] = {}
        self._noted: list[Decision] = []
        self._shown: set[str] = set()
        self._cuts: dict[tuple[str, bool], tuple[int, ...]] = {}
        self._any_size: dict[tuple[str, Traits], bool] = {}
        self._shared: set[tuple[str, int, bool, bool]] = set()
        self._native_sizes: dict[str, NativeSizes] = {}
        self._unfits: dict[tuple[str, int, str | None, Traits], str | None] = {}
        """Why the named algorithm cannot serve calls of which ranks compare nothing; None: it can."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions so far, in order: one a kind; before them those on the first small calls."""
        return (*(self._early.decisions if self._early is not None else ()), *self._noted)

    def decision(self, read: Read, lasting: bool = False) -> Decision:
        """The decision for a call. Collective if the call is the first of its kind, or if every call is compared.

        ``lasting``: it is made again and again, so that memory is opened for it at once.
        Raises Error on every rank if the ranks call differently, AlgorithmError if the named algorithm cannot serve.
        """
        early = None if lasting else self._take_small(read.call)
        if early is not None:
            return early
        kind = self.kind(read.call)
        known = self._known.get(kind)
        if known is None and not lasting:
            early = self._take_any(read.call)
            if early is not None:
                return early
        if known is None and not self.settings.check_always and self._surely_native(read.call):
            known = self._known[kind] = self.decide(read.call)
            self._note(kind, known)
        if known is None or self.settings.check_always:
            self._agreement().compare(f"{read.describe()}, topology {self._chooser().topology.signature}")
        if known is None:
            if self._unshared(read.call) is None:
                self.shared.open()
            self._share_choice(read.call)
            known = self._known[kind] = self._complete(read.call, self.decide(read.call))
            self._note(kind, known)
        return known

    @property
    def remembers(self) -> bool:
        """True if known calls are made in C; the same on all ranks."""
        return self.settings.memo and not self.settings.check_always

    def known(self, call: Call) -> Decision | None:
        """Return the decision for a call, if one of its kind was made. Local."""
        return self._known.get(self.kind(call))

    def local(self, call: Call) -> str | None:
        """Return the named algorithm that serves a call of which ranks compare nothing.

        Not collective, and alike on all ranks. None: the MPI library. Raises AlgorithmError if the algorithm that the
        call names cannot serve.
        """
        named = call.named or self.settings.named.get(call.collective)
        if named == SHARED:
            reason = self.why_not_started(call)
        elif named not in (None, NATIVE):
            reason = self._why_unfit(call, named)
        else:
            return None
        if reason is not None and call.named is not None:
            raise AlgorithmError(f"{reason} (named by the call)")
        return named if reason is None else None

    def why_not_started(self, call: Call) -> str | None:
        """Return why a call that is waited for later cannot go through memory of the host; None if it can. Local."""
        reason = self._unshared(call)
        if reason is None and not fits(call.collective, call.nbytes(self.size), self.size):
            reason = f"{call.nbytes(self.size)} bytes are too many for a call that is waited for later"
        if reason is None and not self.shared.is_open:
            reason = "memory of the host is not open before a blocking or persistent call has used it"
        return None if reason is None else f"shared cannot serve this call: {reason}"

    def _why_unfit(self, call: Call, named: str) -> str | None:
        key = call.collective, call.root, call.named, call.traits
        if key not in self._unfits:
            self._unfits[key] = self._unfit(call, named)
        return self._unfits[key]

    def agree_on_native(self, collective: str) -> None:
        """Agree, once, that calls that name the MPI library's own do so on every rank. Raises Error if not."""
        self.decision(Read(Call(collective, 0, 0, named=NATIVE), False))

    def kind(self, call: Call) -> Kind:
        """The kind of a call: depends on the call, the settings and the topology only."""
        collective, traits = call.collective, call.traits
        if collective == "allgather" and isinstance(call.counts, tuple):
            return self._kind_of_vectors(call)
        if not self._may_share(collective):
            traits = traits._replace(own=False)
        by_size = SHARED in (call.named, self.settings.named.get(collective))
        any_size = not by_size and (call.named is not None or self._any_size.get((collective, traits)))
        if any_size is None:
            any_size = self._any_size[collective, traits] = self._preference(call)[0] is not None
        if any_size:
            return collective, None, traits, call.named
        at = bisect_right(self._classes(collective, traits.commutative), call.nbytes(self.size))
        return collective, at, traits, call.named

    def _kind_of_vectors(self, call: Call) -> Kind:
        """The kind of an allgather of unequal blocks: that of one of equal blocks, but not through shared memory."""
        any_size = call.named is not None or self._any_size.get(("allgatherv", PLAIN))
        if any_size is None:
            any_size = self._any_size["allgatherv", PLAIN] = self._preference(call)[0] is not None
        if any_size:
            return "allgatherv", None, PLAIN, call.named
        at = bisect_right(self._classes("allgather", True), call.nbytes(self.size))
        return "allgatherv", at, PLAIN, None

    def _may_share(self, collective: str) -> bool:
        """Tell whether vectors up to some size may go through memory of a common host."""
        return self.shared.why_not is None and self.settings.named.get(collective) in (None, SHARED)

    def native_sizes(self, collective: str) -> NativeSizes:
        """The sizes known to be the MPI library's, by bytes of a gather's or scatter's block and of other vectors.

        Grows as kinds are agreed on.
        """
        if collective not in self._native_sizes:
            factor, blocks = factor_of(collective, self.size), blocks_of(collective, self.size)
            any_size = self.kind(Call(collective, 0, 1))[1] is None  # and not native, or nobody would ask
            cuts = () if any_size else self._classes(collective, True)
            self._native_sizes[collective] = NativeSizes(cuts, factor, blocks)
            self._native_sizes[collective].classes.update({0: False} if any_size else {})
        return self._native_sizes[collective]

    def _classes(self, collective: str, commutative: bool) -> tuple[int, ...]:
        cuts = self._cuts.get((collective, commutative))
        if cuts is None:
            cuts = self._cuts[collective, commutative] = size_classes(
                collective, self._chooser(), commutative, self.shared.why_not is None
            )
        return cuts

    # -- agreement ---------------------------------------------------------------------------------------------

    def _share_choice(self, call: Call) -> None:
        """Let all ranks have rank 0's choice by the model. Collective, as the agreement on a new kind is.

        Each could compute it, but the last bits of a sum, and so the order of two equal times, may differ between
        processors of different kinds.
        """
        from topocomm.choose.modelled import rounded

        chooser, nbytes, traits = self._chooser(), call.nbytes(self.size), call.traits
        named = call.named or self._preference(call)[0]
        ordered = not traits.commutative
        question = call.collective, rounded(nbytes), ordered, traits.whole
        if traits.foreign or question in self._shared:
            return
        if self._is_shared(call):
            return
        if asks_model(call.collective, nbytes, chooser, named, traits.commutative, traits.whole):
            answer = self._agreement().share(
                lambda: self._choose(chooser, question), f"choose an algorithm for {call.describe()}"
            )
            chooser.adopt(*question[:3], answer, traits.whole)
            self._shared.add(question)

    def _choose(self, chooser: Chooser, question: tuple[str, int, bool, bool]) -> Choice:
        """Return the choice by the model, or the one that is kept of an earlier run."""
        if self.settings.cache is None:
            return chooser.choose(*question)
        from topocomm.choose.kept import kept_in

        return kept_in(self.settings.cache).choose(chooser, question)

    def _note(self, kind: Kind, decision: Decision) -> None:
        self.note(decision)
        collective, at, traits, _ = kind
        unsure = self.settings.check_always or self.settings.record_file
        if collective in COLLECTIVES and traits == PLAIN and at is not None and not unsure:
            self.native_sizes(collective).classes[at] = decision.algorithm == NATIVE

    def note(self, decision: Decision) -> None:
        """Remember a decision, and show it if decisions are shown."""
        self._noted.append(decision)
        self._show(decision)

    def _show(self, decision: Decision) -> None:
        if self.settings.trace and self._programs.rank == 0:
            print(f"topocomm: {self._name()}: {decision}", file=sys.stderr, flush=True)

    # -- the choice --------------------------------------------------------------------------------------------

    def decide(self, call: Call) -> Decision:
        """The decision for a call, without its reordering. Not collective.

        The algorithm that the call names runs or AlgorithmError is raised; one named for a communicator or a program
        is a preference: where it cannot serve the call, the automatic choice does, and the decision says why.
        """
        if call.named is not None:
            reason = self._unfit(call, call.named)
            if reason is not None:
                raise AlgorithmError(f"{reason} (named by the call)")
            return self._decide(call, call.named, "the call")
        named, reason = self._preference(call)
        decision = self._decide(call, named, self.settings.named_by.get(call.collective, ""))
        return decision if reason is None else replace(decision, why=f"{decision.why}; {reason}")

    def _decide(self, call: Call, named: str | None, named_by: str) -> Decision:
        chooser, nbytes, traits = self._chooser(), call.nbytes(self.size), call.traits
        alone = self._only_library(call)
        if alone is not None and named is None:
            why = f"automatic: {alone}"
            return Decision(call.collective, nbytes, NATIVE, NATIVE, why, root=call.root, chooser=chooser)
        return decide(
            call.collective,
            nbytes,
            chooser,
            named=named,
            named_by=named_by,
            commutative=traits.commutative,
            whole=traits.whole,
            root=call.root,
            engine=self.settings.engine,
            host=self.shared.host if self._unshared(call) is None else None,
        )

    def _unshared(self, call: Call) -> str | None:
        """Return why a call cannot go through memory of a common host; None if it can."""
        nbytes = call.nbytes(self.size)
        if self.shared.why_not is not None:
            return self.shared.why_not
        if call.collective == "allgather" and isinstance(call.counts, tuple):
            return "blocks of unequal size"
        if call.traits.own or call.traits.foreign:
            return "an operation of the program's own, or elements that overlap"
        named = SHARED in (call.named, self.settings.named.get(call.collective))
        if not fits(call.collective, nbytes, self.size) and not (named and call.collective in ARRAYS):
            return "it combines prefixes" if call.collective in PREFIXES else f"{nbytes} bytes are too many"
        return None

    def _is_weighed(self, call: Call) -> bool:
        """Tell whether more than the memory of a common host comes into question beside the MPI library."""
        chooser, named = self._chooser(), call.named or self.settings.named.get(call.collective)
        return named is not None or chooser.tuning is not None or chooser.topology.has_distance

    def _surely_native(self, call: Call) -> bool:
        """Tell whether a call is the MPI library's whatever ranks could compare: nothing else comes into question."""
        return not self._is_weighed(call) and self._unshared(call) is not None

    def _take_small(self, call: Call) -> Decision | None:
        """Return the decision for a call that comes before anything is prepared for small ones; None for others."""
        if self._early is None or call.named is not None or call.traits != PLAIN:
            return None
        return self._note_early(self._early.takes(call.collective, call.nbytes(self.size)), call)

    def _take_any(self, call: Call) -> Decision | None:
        """Return the decision for a new kind of call before its communicator is worth memory; None for others."""
        if self._early is None or self.shared.is_open or self._unshared(call) is not None or self._is_weighed(call):
            return None
        nbytes = call.nbytes(self.size)
        return self._note_early(self._early.takes(call.collective, nbytes, nbytes + 1), call)

    def _note_early(self, taken: bool, call: Call) -> Decision | None:
        if not taken:
            return None
        decision = Early.decision(call.collective, call.nbytes(self.size), call.root)
        if call.collective not in self._shown:
            self._shown.add(call.collective)
            self._show(decision)
        return decision

    def _is_shared(self, call: Call) -> bool:
        return self.decide(call).algorithm == SHARED

    def _preference(self, call: Call) -> tuple[str | None, str | None]:
        """The algorithm named for the communicator or the program, if it can serve; and why not, if it cannot."""
        named = self.settings.named.get(call.collective)
        reason = self._unfit(call, named) if named is not None else None
        if reason is None:
            return named, None
        by = self.settings.named_by.get(call.collective, "")
        return None, f"{named}, named by {by}, cannot serve this call: {reason}"

    def _unfit(self, call: Call, named: str) -> str | None:
        """Why an algorithm cannot serve a call; None if it can."""
        if named == NATIVE:
            return None
        if named == SHARED:
            reason = self._unshared(call)
            return None if reason is None else f"shared cannot serve this call: {reason}"
        alone = self._only_library(call)
        if alone is not None:
            return f"{call.collective} needs native: {alone}"
        try:
            decide(call.collective, 0, self._chooser(), named=named, whole=call.traits.whole)
            self._programs.schedule(call, named)
        except AlgorithmError as e:
            return str(e)
        return None

    def _only_library(self, call: Call) -> str | None:
        """Return the reason why only the MPI library can reduce here; None if others can."""
        if call.traits.foreign:
            return "elements that overlap or begin before their address, only the MPI library reduces them"
        if call.collective in REDUCING and not self._combines:
            return "Open MPI combines nothing outside of its own collectives before MPI_Init"
        return None

    def always_library(self, collective: str) -> Decision | None:
        """Return the decision for any call of a collective that only the MPI library can serve; None if others can."""
        call = Call(collective, 0, 1, traits=PLAIN)
        return None if self._only_library(call) is None else replace(self.decide(call), nbytes=None)

    def _complete(self, call: Call, decision: Decision) -> Decision:
        """The decision with the reordering that its schedule has."""
        if decision.algorithm in (NATIVE, SHARED):
            return decision
        return replace(decision, reordering=self._programs.schedule(call, decision.algorithm).reordering)

    def explain(self, call: Call) -> Decision:
        """The decision for a call, with its reordering. Not collective. Raises AlgorithmError as the call would."""
        return self._complete(call, self.decide(call))
