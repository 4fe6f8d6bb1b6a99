"""Rules for Open MPI's component ``tuned``: the classic text file (up to 5), and the JSON document (6 and later).

Both are given as ``coll_tuned_dynamic_rules_filename`` with ``coll_tuned_use_dynamic_rules`` set. Source: Open MPI's
documentation, section "Tuning Collectives".

The library applies a rule to every operation, also to one that is not commutative, and some of its algorithms then
compute something else. Those are left out unless the caller says that all operations are commutative. Gather and
scatter are left out altogether: the library looks rules up by the send count, which not all ranks have alike
(``MPI_IN_PLACE``, or scatter outside the root), and ranks with different algorithms wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import MappingProxyType

from topocomm.choose.measured.spans import Equivalents, Span, Spans

__all__ = ["NAME", "classic_rules", "equivalents", "json_rules"]

NAME = "Open MPI"
USE_FIXED = 0
"""The algorithm number that leaves the decision to the library's own rules."""

_NUMBERS = MappingProxyType(
    {
        "allgather": 0, "allreduce": 2, "alltoall": 3, "barrier": 6, "bcast": 7, "reduce": 11,
        "reduce_scatter": 12, "reduce_scatter_block": 13,
    }
)  # fmt: skip
_JSON_NAMES = {"reduce_scatter": "reducescatter", "reduce_scatter_block": "reducescatterblock"}

_EQUIVALENTS: Equivalents = MappingProxyType(
    {
        "allgather": {
            "textbook_bruck": "2", "textbook_recursive_doubling": "3", "textbook_ring": "4",
        },
        "allreduce": {
            "textbook_recursive_doubling": "3", "textbook_ring": "4", "textbook_rabenseifner": "6",
        },
        "alltoall": {"textbook_pairwise": "2", "textbook_bruck": "3"},
        "barrier": {"textbook_dissemination": "4"},
        "bcast": {"textbook_binomial": "6", "textbook_scatter_allgather": "9"},
        "reduce": {"textbook_binomial": "5", "textbook_rabenseifner": "7"},
        "reduce_scatter": {"textbook_recursive_halving": "2"},
        "reduce_scatter_block": {"textbook_recursive_halving": "3"},
    }
)  # fmt: skip
"""Algorithm numbers as ``ompi_info --param coll tuned --level 9`` lists them."""

_CHANGE_THE_ORDER = {
    ("allreduce", "textbook_ring"),
    ("reduce", "textbook_binomial"),
    ("reduce_scatter", "textbook_recursive_halving"),
}
"""What Open MPI 5.0.11 computes wrongly under a rule if the operation is not commutative; the others it does right."""


def equivalents(commutative_only: bool) -> Equivalents:
    """Our algorithms that Open MPI has too; those that change the order of operands only if asked for."""
    return {
        collective: {
            ours: theirs
            for ours, theirs in table.items()
            if commutative_only or (collective, ours) not in _CHANGE_THE_ORDER
        }
        for collective, table in _EQUIVALENTS.items()
    }


def _steps(spans: Sequence[Span]) -> list[tuple[int, str]]:
    """From which size which algorithm, from 0 on; what no span covers is left to the library."""
    steps: list[tuple[int, str]] = []
    at = 0
    for span in spans:
        if span.first > at:
            steps.append((at, str(USE_FIXED)))
        steps.append((span.first, span.algorithm))
        at = span.last + 1
    return [*steps, (at, str(USE_FIXED))]


def _sections(by_ranks: dict[int, Sequence[Span]]) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Communicator sizes, each of which holds up to the next; sizes that were not measured get the library's rules."""
    nothing = [(0, str(USE_FIXED))]
    after = 0
    for ranks, spans in sorted(by_ranks.items()):
        if ranks > after:
            yield after, nothing
        yield ranks, _steps(spans)
        after = ranks + 1
    yield after, nothing


def classic_rules(spans: Spans) -> str:
    """The text file, format version 1: every Open MPI up to 5 reads it."""
    lines = [f"{len(spans)} # collectives"]
    for collective, by_ranks in sorted(spans.items(), key=lambda item: _NUMBERS[item[0]]):
        sections = list(_sections(dict(by_ranks)))
        lines += [f"{_NUMBERS[collective]} # {collective}", f"{len(sections)} # communicator sizes"]
        for ranks, steps in sections:
            lines += [f"{ranks} # ranks and more", f"{len(steps)} # from bytes, algorithm, fan in/out, segment size"]
            lines += [f"{size} {algorithm} 0 0" for size, algorithm in steps]
    return "\n".join(lines) + "\n"


def json_rules(spans: Spans) -> str:
    """The JSON document, format version 3."""
    collectives = {
        _JSON_NAMES.get(collective, collective): [
            {
                "comm_size_min": ranks,
                "comm_size_max": ranks,
                "rules": [{"msg_size_min": s.first, "msg_size_max": s.last, "alg": int(s.algorithm)} for s in found],
            }
            for ranks, found in sorted(by_ranks.items())
        ]
        for collective, by_ranks in spans.items()
    }
    return json.dumps({"rule_file_version": 3, "module": "tuned", "collectives": collectives}, indent=1) + "\n"
