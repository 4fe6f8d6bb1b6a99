"""The closed forms of a topology on a network: seconds of every algorithm at any size, without a simulation."""

from __future__ import annotations

from collections.abc import Sequence

from topocomm.algorithms.options import parse_name
from topocomm.algorithms.shuffled import circle
from topocomm.collectives import REDUCING
from topocomm.model.instant.forms import FORMS, can_exchange
from topocomm.model.instant.nests import Nest
from topocomm.model.instant.rounds import Rounds
from topocomm.model.instant.shape import CIRCLE, LABELS, RANKS, Shape, Terms
from topocomm.model.instant.terms import At
from topocomm.model.network import Network
from topocomm.topology import Topology, in_label_order

__all__ = ["Instant"]


_Pieces = tuple[dict[int, str], dict[tuple[int, str], Terms], dict[int, Terms]]


class _Nests(dict[str, Nest]):
    """The nests of a topology, made when first asked for."""

    def __init__(self, topology: Topology) -> None:
        super().__init__()
        self.topology = topology

    def __missing__(self, name: str) -> Nest:
        topology = self.topology
        if name == RANKS:
            made = Nest.flat(topology.size)
        elif name == CIRCLE:
            size = topology.size
            made = Nest(topology.order[circle(size)], Nest.flat(size).nesting)
        else:
            made = Nest.of(in_label_order(topology) if name == LABELS else topology)
        self[name] = made
        return made


class Instant:
    """Closed forms on one topology and network; each round is priced once, whatever the size."""

    def __init__(self, network: Network) -> None:
        topology, machine = network.topology, network.machine
        self.size, self.eager = topology.size, machine.eager
        nests = _Nests(topology)
        self.shape = Shape(topology, nests, machine.kind not in ("levels", "fat_tree"))
        self.rounds = Rounds(network, nests)
        self._terms: dict[tuple[str, str], Terms] = {}
        self._pieces_of: dict[str, _Pieces] = {}

    def prepare(self, collective: str, names: Sequence[str], patterns: bool = False) -> None:
        """Price the rounds of several algorithms together, which takes less time than one after the other.

        ``patterns``: those of ``leveled``, too.
        """
        parts = [self._of(collective, name) for name in names]
        if patterns:
            _, stages, doubled = self._pieces(collective)
            parts += [*stages.values(), *doubled.values()]
        self.rounds.price(key for terms in parts for term in terms for key in term.keys)

    def seconds(self, collective: str, name: str, nbytes: float, overhead: float, receiving: float) -> float:
        """Return the time of an algorithm, with what its engine adds. Raises KeyError if it has no closed form."""
        at = At(nbytes, overhead, receiving, self.eager)
        terms = self._of(collective, name)
        self.rounds.price(key for term in terms for key in term.keys)
        return sum(term.seconds(self.rounds, at) for term in terms)

    def patterns(self, collective: str, nbytes: float, overhead: float, receiving: float, most: int = 2) -> list[str]:
        """Return the options of ``leveled`` (``levels=…``) that take least time, the best first."""
        self.prepare(collective, [], patterns=True)
        twice, depth = collective == "allreduce", self.shape.nests[self.shape.labels].depth
        letters, stages, doubled = self._pieces(collective)
        at = At(nbytes, overhead, receiving, self.eager)
        price = {key: sum(t.seconds(self.rounds, at) for t in terms) for key, terms in stages.items()}
        found = []
        for x in range(depth + 1 if twice else 1):
            ranked = [sorted(letters[d], key=lambda letter, d=d: price[d, letter]) for d in range(x, depth)]  # type: ignore[misc]
            best = [order[0] for order in ranked]
            middle = sum(t.seconds(self.rounds, at) for t in doubled[x]) if x else 0.0
            for other in range(-1, len(best)):
                if other >= 0 and len(ranked[other]) < 2:
                    continue
                chosen = [order[1] if i == other else order[0] for i, order in enumerate(ranked)]
                took = sum(price[x + i, letter] for i, letter in enumerate(chosen))
                found.append(((2 * took + middle) if twice else took, f"levels={'x' * x}{''.join(chosen)}"))
        return [name for _, name in sorted(found)[:most]]

    def _pieces(self, collective: str) -> _Pieces:
        """Return the letters that each level may have, its rounds by each, and the doubling over outer levels."""
        if collective not in self._pieces_of:
            shape, combines = self.shape, collective in REDUCING
            nest, levels = shape.labels, range(shape.nests[shape.labels].depth)
            letters = {d: "hdr" if can_exchange(shape, d, nest) else "h" for d in levels}
            stages = {(d, x): shape.stage(x, d, d + 1, combines, nest) for d in levels for x in letters[d]}
            doubled = {d + 1: shape.doubling(d + 1, nest) for d in levels} if collective == "allreduce" else {}
            self._pieces_of[collective] = letters, stages, doubled
        return self._pieces_of[collective]

    def _of(self, collective: str, name: str) -> Terms:
        known = self._terms.get((collective, name))
        if known is None:
            base, options = parse_name(name)
            known = self._terms[collective, name] = FORMS[collective, base](self.shape, options)
        return known
