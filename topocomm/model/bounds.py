"""Lower bounds on traffic: what every schedule of a collective must send, whatever it does.

All in units of the vector n (see :class:`topocomm.model.traffic.Messages` for what a collective's vector is).
Reductions combine on the way; otherwise bytes are only copied.

Between G places (all pairs together) an allreduce needs 2 (G − 1) n: for each piece of the vector the G partial
results must meet (G − 1 transfers) and the sum must be spread again (G − 1). An allgather and a reduce-scatter need
half of that, as do broadcast and reduce; in an all-to-all, gather and scatter every block travels by itself. In a scan
or exscan n bytes enter every place with a rank that comes after one outside, and leave every one that has one before.
Across one cut, a set S of ranks against all others, it is what one side has and the other needs.

Source: the usual counting arguments, e.g. E. Chan, M. Heimlich, A. Purkayastha, R. van de Geijn: Collective
communication: theory, practice, and experience, CCPE 19 (2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from topocomm.arrays import IntArray
from topocomm.collectives import PREFIXES
from topocomm.errors import AlgorithmError
from topocomm.topology import Topology

__all__ = ["bytes_across", "bytes_between"]

Counts = Sequence[int] | IntArray | None


def _held(inside: npt.NDArray[np.bool_], counts: Counts) -> Fraction:
    """The part of the vector whose blocks belong to the ranks ``inside``; ``counts`` None: equal blocks."""
    weights = np.ones(len(inside), np.int64) if counts is None else np.asarray(counts, np.int64)
    total = int(weights.sum())
    return Fraction(int(weights[inside].sum()), total) if total else Fraction(0)


def _needs_before(inside: npt.NDArray[np.bool_]) -> bool:
    """Tell whether a rank inside comes after one outside, and so needs something of it in a scan."""
    return bool(inside.any() and not inside.all() and np.flatnonzero(inside)[-1] > np.flatnonzero(~inside)[0])


def bytes_between(collective: str, topology: Topology, level: str, root: int = 0, counts: Counts = None) -> Fraction:
    """The least bytes between the places of ``level``, all pairs together.

    ``counts`` are the sizes of the ranks' blocks, where they differ. Raises AlgorithmError for an unknown collective,
    TopologyError for an unknown level.
    """
    column = topology.places[:, topology.level_index(level)]
    members = np.bincount(column)
    others = Fraction(len(members) - 1)
    if collective == "allreduce":
        return 2 * others
    if collective in ("allgather", "reduce_scatter", "reduce_scatter_block", "bcast", "reduce"):
        return others
    if collective in PREFIXES:
        masks = [column == place for place in range(len(members))]
        return Fraction(max(sum(map(_needs_before, masks)), sum(_needs_before(~mask) for mask in masks)))
    if collective == "alltoall":
        return Fraction(topology.size**2 - int((members**2).sum()), topology.size)
    if collective in ("gather", "scatter"):
        return _held(column != column[root], counts)
    if collective == "barrier":
        return Fraction(0)
    raise AlgorithmError(f"no bound is known for collective {collective!r}")


def bytes_across(
    collective: str, inside: npt.NDArray[np.bool_], root: int = 0, counts: Counts = None
) -> tuple[Fraction, Fraction]:
    """The least bytes that must leave, and that must enter, the set of ranks ``inside`` (a mask over all ranks).

    Raises AlgorithmError for an unknown collective.
    """
    mask = np.asarray(inside, bool)
    size, members = len(mask), int(mask.sum())
    nothing = Fraction(0), Fraction(0)
    if members in (0, size) or collective == "barrier":
        return nothing
    held, wanted, whole = _held(mask, counts), _held(~mask, counts), Fraction(1)
    pairs = Fraction(members * (size - members), size)
    out_if_root = {"bcast": (whole, Fraction(0)), "reduce": (Fraction(0), whole)}
    out_if_root |= {"scatter": (wanted, Fraction(0)), "gather": (Fraction(0), wanted)}
    out_if_not = {"bcast": (Fraction(0), whole), "reduce": (whole, Fraction(0))}
    out_if_not |= {"scatter": (Fraction(0), held), "gather": (held, Fraction(0))}
    if collective in out_if_root:
        return (out_if_root if mask[root] else out_if_not)[collective]
    known = {
        "allgather": (held, wanted),
        "reduce_scatter": (wanted, held),
        "reduce_scatter_block": (wanted, held),
        "allreduce": (whole, whole),
        "alltoall": (pairs, pairs),
        **dict.fromkeys(PREFIXES, (Fraction(_needs_before(~mask)), Fraction(_needs_before(mask)))),
    }
    if collective not in known:
        raise AlgorithmError(f"no bound is known for collective {collective!r}")
    return known[collective]
