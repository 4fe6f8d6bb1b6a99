"""Which algorithm runs a collective, and why. The rule looks only at what all ranks know alike.

The automatic rule, in this order:

1. One rank, or a topology without structure (all ranks equally near, one node included): ``native``. The MPI library
   knows shared memory best, and there is no distance to save.
2. Vectors of at most 512 bytes, barriers included: ``native``. Their cost is latency, of which the interpreter adds
   more between two rounds than near peers save.
3. Vectors (bytes as in the table below) up to the limit: the algorithm with the fewest messages between places.
4. Larger ones: the algorithm with the fewest bytes between places.
5. Blocks (vector / ranks) of at least 32 KiB on at most 128 ranks: a ring or chain in topology order. The ring sends at
   most G / (G - 1) of the fewest bytes between G places, the chain the fewest, and both keep the links inside and
   between places busy at the same time, which the level-by-level algorithms do not.

   ============================  ===================  =====================  ====================  ================
   collective                    bytes of             up to the limit        above                 large blocks
   ============================  ===================  =====================  ====================  ================
   allreduce                     the vector           recursive_doubling     rabenseifner          ring
   allgather                     the result           bruck                  recursive_doubling    ring
   reduce_scatter(_block)        the whole vector     recursive_halving      recursive_halving     ring
   alltoall                      a rank's vector      bruck                  scattered             pairwise
   bcast                         the vector           binomial               scatter_allgather     pipeline
   reduce                        the vector           binomial               rabenseifner          pipeline
   gather, scatter               the root's vector    binomial               binomial
   barrier                       (none)               native
   ============================  ===================  =====================  ====================  ================

An operation that is not commutative takes an algorithm that keeps the order of operands; where ranks do not stand in
topology order, that is one in the order of ranks. Nothing else above 512 bytes takes a path that ignores the topology.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from topocomm.algorithms.table import find
from topocomm.topology import Topology

__all__ = ["ENGINES", "NATIVE", "Decision", "decide", "has_distance"]

NATIVE = "native"
ENGINES = ("p2p",)
TINY = 512
LARGE_BLOCK = 32768
RING_RANKS = 128


@dataclass(frozen=True)
class _Rule:
    small: str
    large: str
    limit: int
    large_blocks: str | None = None
    ordered: tuple[str, str] = ("", "")
    """Small and large for operations that are not commutative."""


RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "allreduce": _Rule(
            "recursive_doubling",
            "rabenseifner",
            16384,
            "ring",
            ("textbook_recursive_doubling", "textbook_rabenseifner"),
        ),
        "allgather": _Rule("bruck", "recursive_doubling", 16384, "ring"),
        "reduce_scatter": _Rule("recursive_halving", "recursive_halving", 0, "ring", ("binomial", "binomial")),
        "reduce_scatter_block": _Rule("recursive_halving", "recursive_halving", 0, "ring", ("binomial", "binomial")),
        "alltoall": _Rule("bruck", "scattered", 8192, "pairwise"),
        "bcast": _Rule("binomial", "scatter_allgather", 32768, "pipeline"),
        "reduce": _Rule("binomial", "rabenseifner", 16384, "pipeline", ("binomial", "binomial")),
        "gather": _Rule("binomial", "binomial", 0),
        "scatter": _Rule("binomial", "binomial", 0),
    }
)


@dataclass(frozen=True)
class Decision:
    """What runs a collective and why; ``reordering`` is filled in when the schedule is made."""

    collective: str
    nbytes: int | None
    """Bytes of the whole vector; None if the decision is for any."""
    algorithm: str
    engine: str
    why: str
    reordering: str = "none"

    def __str__(self) -> str:
        how = f"{self.algorithm} on engine {self.engine}, reordering {self.reordering}"
        what = "the MPI library's own" if self.algorithm == NATIVE else how
        size = "any size" if self.nbytes is None else f"{self.nbytes} bytes"
        return f"{self.collective}, {size}: {what}; {self.why}"


def has_distance(topology: Topology) -> bool:
    """Whether some ranks are nearer to each other than others, beyond the inside of one node."""
    one_node = "node" in topology.levels and len(topology.counts("node")) == 1
    return len(topology.nesting) > 2 and not one_node


def decide(
    collective: str,
    nbytes: int,
    topology: Topology,
    *,
    named: str | None = None,
    named_by: str = "",
    commutative: bool = True,
) -> Decision:
    """Choose the algorithm for ``nbytes`` bytes (as the table above counts them).

    ``named`` is the user's word and ``named_by`` where it was said; it is taken or refused, never replaced.
    Raises AlgorithmError if the named algorithm is unknown or cannot run here.
    """
    if named == NATIVE:
        return Decision(collective, nbytes, NATIVE, NATIVE, f"named by {named_by}")
    if named is not None:
        find(collective, named)[0].check(topology.size)
        return Decision(collective, nbytes, named, "p2p", f"named by {named_by}")
    if not has_distance(topology):
        what = "one rank" if topology.size == 1 else f"{topology.size} ranks that are equally near or on one node"
        return Decision(collective, nbytes, NATIVE, NATIVE, f"automatic: {what}, no distance to save")
    if nbytes <= TINY:
        return Decision(collective, nbytes, NATIVE, NATIVE, f"automatic: at most {TINY} bytes, latency decides")
    rule = RULES[collective]
    small, large, large_blocks = rule.small, rule.large, rule.large_blocks
    reason = "automatic: "
    if not commutative:
        (small, large), large_blocks = rule.ordered, None
        reason = "automatic, not commutative: "
        if small.endswith("recursive_doubling") and topology.is_sorted:
            small = "recursive_doubling"
    outer = int(topology.nesting[1][-1]) + 1
    if large_blocks and topology.size <= RING_RANKS and nbytes >= LARGE_BLOCK * topology.size:
        why = f"{reason}blocks of at least {LARGE_BLOCK} bytes, all links of {outer} places busy at once"
        return Decision(collective, nbytes, large_blocks, "p2p", why)
    if small == large:
        return Decision(collective, nbytes, small, "p2p", f"{reason}least traffic between {outer} places")
    if nbytes <= rule.limit:
        why = f"{reason}at most {rule.limit} bytes, fewest messages between {outer} places"
        return Decision(collective, nbytes, small, "p2p", why)
    why = f"{reason}more than {rule.limit} bytes, fewest bytes between {outer} places"
    return Decision(collective, nbytes, large, "p2p", why)
