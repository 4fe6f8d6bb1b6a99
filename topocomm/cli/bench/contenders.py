"""Who is measured: the communicators behind the names of ``--algorithm``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpi4py import MPI

from topocomm.algorithms import TABLE, find
from topocomm.algorithms.table import check_ranks
from topocomm.comm import Comm
from topocomm.errors import AlgorithmError

__all__ = ["AUTO", "NATIVE", "Contender", "Selection", "contenders", "selection_of"]

AUTO, NATIVE = "auto", "native"

Files = Mapping[str, str | None]


@dataclass(frozen=True)
class Selection:
    """Names to measure, in the order of the selection; `optional` are those that ``all`` brought in and that may be
    n/a.
    """

    names: tuple[str, ...]
    optional: frozenset[str]


@dataclass(frozen=True)
class Contender:
    """A name and the communicator on which it is measured; `why_not` says why a table has only n/a for it."""

    name: str
    comm: MPI.Intracomm | None
    why_not: str = ""

    @property
    def ours(self) -> Comm | None:
        """The communicator where topocomm computes the column; None for native and where there is none."""
        return self.comm if isinstance(self.comm, Comm) else None

    def call(self, method: str) -> Callable[..., Any]:
        """Return the bound method of the communicator. Only for a contender with a communicator."""
        return getattr(self.comm, method)  # type: ignore[no-any-return]


def selection_of(collective: str, words: Sequence[str]) -> Selection:
    """Read the names of ``--algorithm``. Raises AlgorithmError for a name or option this collective has not."""
    every = [AUTO, NATIVE, *TABLE[collective]]
    names: list[str] = []
    for word in words:
        if word not in ("all", AUTO, NATIVE):
            find(collective, word)
        names += every if word == "all" else [word]
    return Selection(tuple(dict.fromkeys(names)), frozenset(every) - {AUTO, NATIVE, *words})


def contenders(
    world: MPI.Intracomm, collective: str, selection: Selection, engine: str | None, files: Files
) -> list[Contender]:
    """Make a communicator for every name, over the processes of `world`; ``files`` for `topocomm.Comm`. Collective.

    ``native`` is the plain communicator, without topocomm in the way; as the engine it leaves the calls of all others
    to the MPI library. Raises AlgorithmError for a named algorithm that cannot run here, TopologyError for a bad file.
    """
    settings: dict[str, Any] = {**files, "engine": None if engine == NATIVE else engine}
    given = {name: None if name == AUTO else {collective: name} for name in selection.names}
    if engine == NATIVE:
        given = {name: {collective: NATIVE} for name in given}
    return [_contender(world, collective, name, name in selection.optional, {**settings, "algorithm": algorithm})
            for name, algorithm in given.items()]  # fmt: skip


def _contender(
    world: MPI.Intracomm, collective: str, name: str, optional: bool, settings: Mapping[str, Any]
) -> Contender:
    if name == NATIVE:
        return Contender(name, world)
    try:
        if name != AUTO:  # for a communicator it is a preference, which another may replace
            check_ranks(find(collective, name)[0], world.Get_size())
        return Contender(name, Comm(world, **settings))
    except AlgorithmError as error:
        if not optional:
            raise
        return Contender(name, None, str(error))
