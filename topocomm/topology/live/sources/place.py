"""``TOPOCOMM_PLACE``: the place of a process as its job's prolog, its launcher or its user says it.

    TOPOCOMM_PLACE=g3/s12                 group g3, switch s12
    TOPOCOMM_PLACE=row=2/rack=b/chassis=4 the levels have names

From the outermost level in. Without names the innermost level is ``switch``, the next ``group``, then ``group2`` and so
on; of a single one, it is ``group``.
"""

from __future__ import annotations

from collections.abc import Sequence

from topocomm.errors import TopologyError
from topocomm.topology.live.sources.host import Host, Node, Placed, Source, all_answered, as_label, quoted

__all__ = ["PLACE", "VARIABLE"]

VARIABLE = "TOPOCOMM_PLACE"
_MOST_LEVELS = 16


def _ask(host: Host) -> str:
    return host.environment.get(VARIABLE, "").strip()


def _place(nodes: Sequence[Node], host: Host) -> Placed:
    all_answered(nodes, f"{VARIABLE} is not set")
    names: dict[tuple[str, ...], Node] = {}
    rows = []
    for node in nodes:
        try:
            levels, row = _read(node.answer)
        except TopologyError as e:
            raise TopologyError(f"{VARIABLE}={quoted(node.answer)} on {node}: {e}") from None
        names.setdefault(levels, node)
        rows.append(row)
    if len(names) > 1:
        (a, at_a), (b, at_b), *_ = names.items()
        raise TopologyError(f"{VARIABLE} has levels {'/'.join(a)} on {at_a}, {'/'.join(b)} on {at_b}")
    return Placed(next(iter(names)), rows, VARIABLE)


def _read(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a place into names of levels and labels. Raises TopologyError."""
    parts = text.split("/")
    if len(parts) > _MOST_LEVELS:
        raise TopologyError(f"has {len(parts)} levels; at most {_MOST_LEVELS}")
    pairs = [part.partition("=") for part in parts]
    if len({sign for _, sign, _ in pairs}) > 1:
        raise TopologyError("some levels have a name and others have none; give all of them, or none")
    labels = [label if sign else name for name, sign, label in pairs]
    levels = [name for name, _, _ in pairs] if pairs[0][1] else _names(len(pairs))
    return tuple(as_label(name.strip()) for name in levels), tuple(as_label(label.strip()) for label in labels)


def _names(count: int) -> list[str]:
    """Names of levels without names, outermost first."""
    groups = [f"group{k}" if k > 1 else "group" for k in range(max(count - 1, 1), 0, -1)]
    return [*groups, "switch"] if count > 1 else groups


PLACE = Source(f"{VARIABLE} of every process", _ask, _place, by_process=True)
