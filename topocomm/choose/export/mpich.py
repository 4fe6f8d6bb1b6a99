"""Selection files for MPICH (``MPIR_CVAR_COLL_SELECTION_TUNING_JSON_FILE``).

The file replaces the whole tree of decisions that MPICH has compiled in, and MPICH aborts at a collective that is not
in it. So the export starts from that tree, which stands as text in the library ``libmpi.so``, and puts the tuned sizes
in front of it; every condition under which an algorithm may not run leads back to MPICH's own branch.
Source: the trees in MPICH 5.0.2; conditions of its algorithms as its own trees state them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from topocomm.choose.measured.spans import Equivalents, Span, Spans
from topocomm.errors import Error

__all__ = ["EQUIVALENTS", "NAME", "compiled_in", "selection"]

NAME = "MPICH"
MOST_BYTES = 2**31 - 1
"""MPICH reads thresholds as C integers."""

EQUIVALENTS: Equivalents = MappingProxyType(
    {
        "allgather": {
            "textbook_bruck": "MPIR_Allgather_intra_brucks",
            "textbook_recursive_doubling": "MPIR_Allgather_intra_recursive_doubling",
            "textbook_ring": "MPIR_Allgather_intra_ring",
        },
        "allreduce": {
            "textbook_recursive_doubling": "MPIR_Allreduce_intra_recursive_doubling",
            "textbook_ring": "MPIR_Allreduce_intra_ring",
            "textbook_rabenseifner": "MPIR_Allreduce_intra_reduce_scatter_allgather",
        },
        "alltoall": {
            "textbook_bruck": "MPIR_Alltoall_intra_brucks",
            "textbook_pairwise": "MPIR_Alltoall_intra_pairwise",
        },
        "bcast": {
            "textbook_binomial": "MPIR_Bcast_intra_binomial",
            "textbook_scatter_allgather": "MPIR_Bcast_intra_scatter_ring_allgather",
        },
        "reduce": {
            "textbook_binomial": "MPIR_Reduce_intra_binomial",
            "textbook_rabenseifner": "MPIR_Reduce_intra_reduce_scatter_gather",
        },
        "reduce_scatter": {
            "textbook_recursive_halving": "MPIR_Reduce_scatter_intra_recursive_halving",
            "textbook_pairwise": "MPIR_Reduce_scatter_intra_pairwise",
        },
        "reduce_scatter_block": {
            "textbook_recursive_halving": "MPIR_Reduce_scatter_block_intra_recursive_halving",
            "textbook_pairwise": "MPIR_Reduce_scatter_block_intra_pairwise",
        },
    }
)

_SIZE = {
    "allgather": "total_msg_size", "allreduce": "avg_msg_size", "alltoall": "total_msg_size", "bcast": "avg_msg_size",
    "reduce": "avg_msg_size", "reduce_scatter": "total_msg_size", "reduce_scatter_block": "total_msg_size",
}  # fmt: skip
"""MPICH's name for the bytes of the whole vector."""

_COMMUTATIVE = ("is_commutative=yes", "is_commutative=no")
_BUILT_IN = ("is_op_built_in=yes", "is_op_built_in=no")
_NOT_IN_PLACE = ("is_sendbuf_inplace=no", "is_sendbuf_inplace=yes")
_ENOUGH = ("count=any", "count<pow2")
_CONDITIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "MPIR_Allreduce_intra_ring": (_COMMUTATIVE,),
    "MPIR_Allreduce_intra_reduce_scatter_allgather": (_BUILT_IN, _COMMUTATIVE, _ENOUGH),
    "MPIR_Reduce_intra_reduce_scatter_gather": (_BUILT_IN, _COMMUTATIVE, _ENOUGH),
    "MPIR_Alltoall_intra_brucks": (_NOT_IN_PLACE,),
    "MPIR_Alltoall_intra_pairwise": (_NOT_IN_PLACE,),
    "MPIR_Reduce_scatter_intra_recursive_halving": (_COMMUTATIVE,),
    "MPIR_Reduce_scatter_intra_pairwise": (_COMMUTATIVE,),
    "MPIR_Reduce_scatter_block_intra_recursive_halving": (_COMMUTATIVE,),
    "MPIR_Reduce_scatter_block_intra_pairwise": (_COMMUTATIVE,),
}
"""What must hold (first) for an algorithm to run, and its opposite, for which MPICH's own branch stays."""

Tree = dict[str, Any]


def _is_selection(tree: Any) -> bool:
    """Whether a document is the tree that this file replaces: of algorithms, for blocking and nonblocking calls."""
    wanted = {f"collective={name}" for name in (*EQUIVALENTS, "iallreduce")}
    return isinstance(tree, dict) and wanted <= set(tree) and all(isinstance(tree[name], dict) for name in wanted)


def compiled_in(path: str | Path) -> Tree:
    """The selection tree of an MPICH: from its library (``libmpi.so``), or from a selection file.

    Raises Error if the file cannot be read or holds none.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as e:
        raise Error(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from None
    for text in [data, *(match[1] for match in re.finditer(rb"(\{\s*\"collective=[^\0]*\})\s*\0", data))]:
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if _is_selection(tree):
            found: Tree = tree
            return found
    raise Error(
        f"{path}: holds no selection tree of MPICH; give MPICH's library, the file libmpi.so.12 and no linker script, "
        "or a selection file"
    )


def _guarded(algorithm: str, own: Tree) -> Tree:
    """An algorithm where it may run, and MPICH's own branch where not."""
    node: Tree = {f"algorithm={algorithm}": {}}
    for holds, fails in reversed(_CONDITIONS.get(algorithm, ())):
        # Conditions are tried in order, and "any" must come last.
        node = {fails: own, holds: node} if holds.endswith("=any") else {holds: node, fails: own}
    return node


def _by_size(collective: str, spans: Sequence[Span], own: Tree) -> Tree:
    size, node, at = _SIZE[collective], Tree(), 0
    for span in spans:
        if span.first > MOST_BYTES:
            break
        if span.first > at:
            node[f"{size}<={span.first - 1}"] = own
        node[f"{size}<={min(span.last, MOST_BYTES)}"] = _guarded(span.algorithm, own)
        at = span.last + 1
    return {**node, f"{size}=any": own}


def selection(base: Tree, spans: Spans) -> str:
    """The selection file: ``base`` with the tuned sizes and numbers of ranks in front of its own branches.

    Raises Error if a collective of ``base`` has no branch for intracommunicators.
    """
    tree = dict(base)
    for collective, by_ranks in spans.items():
        branches = tree[f"collective={collective}"]
        own = branches.get("comm_type=intra")
        if not isinstance(own, dict):
            raise Error(
                f"the selection tree has no 'comm_type=intra' under 'collective={collective}'; is it MPICH 4 or 5?"
            )
        node, at = Tree(), 1
        for ranks, found in sorted(by_ranks.items()):
            if ranks > at:
                node[f"comm_size<={ranks - 1}"] = own
            node[f"comm_size<={ranks}"] = _by_size(collective, found, own)
            at = ranks + 1
        tree[f"collective={collective}"] = {**branches, "comm_type=intra": {**node, "comm_size=any": own}}
    return json.dumps(tree, indent=1) + "\n"
