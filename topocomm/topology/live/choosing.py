"""The choice of the source that places the nodes of a job, and why not another. No MPI.

The best source that places all nodes wins; one that has all of them in one place yields to one that tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from topocomm.arrays import IntArray
from topocomm.errors import TopologyError
from topocomm.topology.live.sources import SOURCES, Host, Node, Placed
from topocomm.topology.live.sources.host import MOST, quoted
from topocomm.topology.topology import Topology

__all__ = ["Answers", "Choice", "Who", "ask", "choose"]

Answers = Mapping[str, str]
"""The answer of a process by source; one that begins with a NUL says why the process has none."""
Who = tuple[str, int]
"""The node of a rank: its host's name, and the lowest rank with which it shares memory."""
_REFUSED = "\0"


@dataclass(frozen=True)
class Choice:
    """The places of all nodes, None if no source has them, and a line for every source that was asked."""

    placed: Placed | None
    lines: tuple[str, ...]


def ask(host: Host, names: Sequence[str], first: bool) -> Answers:
    """Ask this process; ``first``: it is the one that answers for its node. Raises nothing."""
    answers = {}
    for name in names:
        source = SOURCES[name]
        if first or source.by_process:
            answers[name] = _answer(name, host)
    return {name: answer for name, answer in answers.items() if answer}


def _answer(name: str, host: Host) -> str:
    try:
        answer = SOURCES[name].ask(host)
    except TopologyError as e:
        return _REFUSED + str(e)[:MOST]
    except Exception as e:  # the other ranks wait for an answer
        return f"{_REFUSED}failed: {type(e).__name__}: {quoted(str(e))}"
    return answer if len(answer) <= MOST else f"{_REFUSED}the answer has more than {MOST} characters"


def choose(names: Sequence[str], who: Sequence[Who], answers: Sequence[Answers], at: Host) -> Choice:
    """Choose among the sources ``names``, the best first.

    ``who`` and ``answers`` (those of :func:`ask`) have an entry a rank; ``at`` is rank 0's host.
    """
    found: dict[str, Placed] = {}
    reasons: dict[str, str] = {}
    for name in names:
        try:
            found[name] = SOURCES[name].place(_nodes(name, who, answers), at)
        except TopologyError as e:
            reasons[name] = str(e)
    partitions = {name: _partitions(placed) for name, placed in found.items()}
    telling = [name for name in found if any(places.any() for places in partitions[name])]
    best = next(iter((*telling, *found)), None)
    if best is None:
        return Choice(None, tuple(f"not {name}: {why}" for name, why in reasons.items()))
    reasons |= {name: _aside(name, best, found, partitions) for name in found if name != best}
    aside = (f"not {name}: {reasons[name]}" for name in names if name in reasons)
    return Choice(found[best], (f"{best}: {_described(found[best])}", *aside))


def _nodes(name: str, who: Sequence[Who], answers: Sequence[Answers]) -> list[Node]:
    """The answers of all nodes to one source. Raises TopologyError if one was refused, or if ranks of a node differ."""
    said = [answer.get(name, "") for answer in answers]
    nodes: dict[Who, Node] = {}
    for rank, (node, answer) in enumerate(zip(who, said, strict=True)):
        if answer.startswith(_REFUSED):
            raise TopologyError(f"{answer[1:]} (rank {rank})")
        known = nodes.get(node)
        if known is None:
            nodes[node] = Node(node[0], rank, answer)
            if rank != node[1] and not SOURCES[name].by_process:
                raise TopologyError(f"nobody answers for {nodes[node]}, which shares its memory with rank {node[1]}")
        elif known.answer != answer and SOURCES[name].by_process:
            raise TopologyError(f"{known} and rank {rank} on it disagree: {quoted(known.answer)} and {quoted(answer)}")
    return list(nodes.values())


def _partitions(placed: Placed) -> list[IntArray]:
    """The place number of every node, for each level."""
    return list(Topology(placed.levels, placed.rows).places.T)


def _described(placed: Placed) -> str:
    return f"{', '.join(placed.levels)} from {placed.words}"


def _aside(name: str, best: str, found: Mapping[str, Placed], partitions: Mapping[str, Sequence[IntArray]]) -> str:
    """Say why a source that places all nodes was left aside."""
    if not any(places.any() for places in partitions[name]):
        return f"has all nodes in one place ({_described(found[name])})"
    for mine, theirs in product(range(len(partitions[name])), range(len(partitions[best]))):
        if _cross(partitions[name][mine], partitions[best][theirs]):
            levels = found[name].levels[mine], found[best].levels[theirs]
            return f"{best} comes before it, and they disagree: a {levels[0]} of {name} crosses a {levels[1]} of {best}"
    return f"{best} comes before it; they agree"


def _cross(a: IntArray, b: IntArray) -> bool:
    """Whether neither of two partitions refines the other."""
    pairs = len(np.unique(a * (int(b.max()) + 1) + b))
    return pairs > max(int(a.max()), int(b.max())) + 1
