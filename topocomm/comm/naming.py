"""The type of the wrapped communicators' classes, which are mpi4py's by name."""

from __future__ import annotations

import copyreg
from abc import ABCMeta
from importlib import import_module
from typing import Any

__all__ = ["Named"]

_PLACE = "topocomm.comm.comm"


class Named(ABCMeta):
    """The type of classes whose ``__module__`` is mpi4py's, but that are pickled by the place where they are.

    petsc4py, and what is built on it, takes a communicator if the module of its class is ``mpi4py.MPI``, a subclass of
    another module is refused. Derived from ABCMeta, so that a program's own class may have an abstract base, too.
    """


def _class(name: str) -> Any:
    return getattr(import_module(_PLACE), name)


def _reduce(kind: Named) -> str | tuple[Any, ...]:
    """Pickle a class by name; one of a program's own is found as any class is."""
    ours = getattr(import_module(_PLACE), kind.__name__, None)
    return (_class, (kind.__name__,)) if ours is kind else kind.__qualname__


copyreg.pickle(Named, _reduce)
