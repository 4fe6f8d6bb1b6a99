"""What an export needs of a tuning: which algorithm is best from which size to which.

Rules of MPI libraries know the number of ranks and of bytes, but not the placement; so an export is of one placement
for every number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

from topocomm.choose.measured.entries import NATIVE, Entry, Tuning, winner
from topocomm.errors import Error

__all__ = ["Equivalents", "Span", "Spans", "entries_of", "spans_of"]

Equivalents = Mapping[str, Mapping[str, str]]
"""Collective → our algorithm → what the library calls the same."""


@dataclass(frozen=True)
class Span:
    """Sizes from ``first`` to ``last`` bytes of the whole vector, both included, and the library's algorithm there."""

    first: int
    last: int
    algorithm: str


Spans = Mapping[str, Mapping[int, Sequence[Span]]]
"""Collective → ranks → spans, ascending; sizes between them are left to the library."""


def entries_of(tuning: Tuning, library: str, signature: str | None = None) -> list[Entry]:
    """The entries measured under ``library`` (a name, or name and version), on one topology for every number of ranks.

    Raises Error if there are none, or if they were measured under several versions or on several topologies.
    """
    names = {entry.library for entry in tuning.entries}
    mine = [e for e in tuning.entries if e.library == library or e.library.startswith(f"{library} ")]
    if not mine:
        raise Error(
            f"{tuning.source}: nothing was measured under {library}; found {', '.join(sorted(names)) or 'none'}"
        )
    versions = sorted({entry.library for entry in mine})
    if len(versions) > 1:
        raise Error(f"{tuning.source}: measured under {', '.join(versions)}; say which with --mpi-library")
    if signature is not None:
        mine = [entry for entry in mine if entry.signature == signature]
        if not mine:
            raise Error(f"{tuning.source}: nothing was measured on topology {signature} under {library}")
    topologies: dict[int, dict[str, str]] = {}
    for entry in mine:
        topologies.setdefault(entry.ranks, {})[entry.signature] = entry.placement
    for ranks, found in topologies.items():
        if len(found) > 1:
            shown = "; ".join(f"{name} ({placement})" for name, placement in sorted(found.items()))
            raise Error(
                f"{tuning.source}: {ranks} ranks were measured on several topologies, which {library}'s rules cannot "
                f"tell apart: {shown}; say which with --signature"
            )
    return mine


def spans_of(entries: Iterable[Entry], equivalents: Equivalents) -> tuple[Spans, list[str]]:
    """The spans in which one of the library's other algorithms was best, and a remark for every size without one.

    At every size the choice is among native and the measured algorithms that have an equivalent, native unless it is
    beaten by more than the noise. A size holds up to half way, on a log scale, to the next, and at most a factor 2.
    """
    groups: dict[tuple[str, int], list[Entry]] = {}
    remarks = []
    for entry in entries:
        if entry.type_class == "ordered":
            remarks.append(f"{_name(entry)}: left out: the operation is not commutative")
        else:
            groups.setdefault((entry.collective, entry.ranks), []).append(entry)
    spans: dict[str, dict[int, Sequence[Span]]] = {}
    for (collective, ranks), group in sorted(groups.items()):
        group.sort(key=lambda e: e.nbytes)
        same = equivalents.get(collective, {})
        found = []
        for entry, (first, last) in zip(group, _reach([e.nbytes for e in group]), strict=True):
            chosen, remark = _choice(entry, same)
            remarks += [remark] if remark else []
            if chosen:
                found.append(Span(first, last, same[chosen]))
        if found:
            spans.setdefault(collective, {})[ranks] = _joined(found)
    return spans, remarks


def _name(entry: Entry) -> str:
    return f"{entry.collective} of {entry.nbytes} bytes on {entry.ranks} ranks"


def _choice(entry: Entry, same: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Our name of the library's algorithm for an entry, None for its own rule; and what is to be remarked."""
    able = {name: timing for name, timing in entry.algorithms.items() if name == NATIVE or name in same}
    best, chosen = winner(entry.algorithms), winner(able)
    remark = None
    if len(able) == 1:
        known = ", ".join(same)
        remark = f"{_name(entry)}: no equivalent was measured ({f'there are {known}' if known else 'there is none'})"
    elif best != chosen:
        gain = entry.algorithms[chosen].median / entry.algorithms[best].median
        remark = f"{_name(entry)}: {best} is {gain:.2f} times as fast as {chosen}, but has no equivalent"
    return (None if chosen == NATIVE else chosen), remark


def _reach(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """First and last size for which each of the ascending ``sizes`` stands."""
    reach = []
    for i, size in enumerate(sizes):
        first, last = -(-size // 2), 2 * size
        if i > 0:
            first = max(first, isqrt(sizes[i - 1] * size) + 1)
        if i + 1 < len(sizes):
            last = min(last, isqrt(size * sizes[i + 1]))
        reach.append((first, last))
    return reach


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Neighbours with the same algorithm as one."""
    out: list[Span] = []
    for span in spans:
        if out and out[-1].last + 1 == span.first and out[-1].algorithm == span.algorithm:
            out[-1] = Span(out[-1].first, span.last, span.algorithm)
        else:
            out.append(span)
    return out
