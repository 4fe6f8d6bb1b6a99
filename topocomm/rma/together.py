"""Ranks that fail together: an error on one is raised on all, before a collective step that it would miss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from topocomm.errors import Error
from topocomm.rma import errors
from topocomm.rma.context import Context

__all__ = ["together"]

T = TypeVar("T")
PLAIN = (ValueError, TypeError, IndexError)


def together(context: Context, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Do local work on every rank and return its result; collective over the context's communicator.

    Where it fails on some rank, the error of the first such rank is raised on every rank, of the same class, with its
    rank in the message; ``undo`` takes back what was made on the ranks where it had gone well.
    """
    problem: Exception | None = None
    done: list[T] = []
    try:
        done.append(work())
    except Exception as error:  # whatever it is, the others must hear of it
        problem = error
    found = [p for p in context.comm.allgather(_portable(context.rank, problem)) if p is not None]
    if not found:
        return done[0]
    if done and undo is not None:
        undo(done[0])
    kind, words, more = found[0]
    others = f" (errors on {len(found)} ranks; this is the first)" if found[1:] else ""
    raise kind(words + others, **more) from problem


def _portable(rank: int, problem: Exception | None) -> tuple[type[Exception], str, dict[str, Any]] | None:
    """Split an error into its class, its words with the rank in them, and the other arguments of the class."""
    if problem is None:
        return None
    kind, words = type(problem), str(problem)
    known = kind in PLAIN or (isinstance(problem, Error) and kind.__module__.startswith("topocomm."))
    if not known:
        kind, words = errors.RmaError, f"{kind.__name__}: {words}"
    more = {name: value for name, value in vars(problem).items() if known and not name.startswith("_")}
    return kind, words if f"rank {rank}" in words else f"rank {rank}: {words}", more
