"""What the user said: constructor arguments and environment variables, read in one place.

=============================  ====================================================================================
``TOPOCOMM_<COLLECTIVE>``      algorithm of a collective: ``TOPOCOMM_ALLREDUCE=rabenseifner``, ``…=native``
``TOPOCOMM_ENGINE``            engine of all collectives: ``c`` (default), ``python``
``TOPOCOMM_TRANSPORTS``        what may carry messages of engine ``c``, of ``shm``, ``ofi``, ``mpi`` (default: ``mpi``)
``TOPOCOMM_TOPOLOGY``          placement file that describes the machine or the job, or ``measured``: probe it
``TOPOCOMM_DISCOVER``          sources asked where nodes sit: ``off``, or names, the best first: ``slurm,slingshot``
``TOPOCOMM_MACHINE``           machine file: how fast the links of each level are
``TOPOCOMM_TUNING``            tuning file: what was measured
``TOPOCOMM_TRACE``             ``1``: rank 0 writes every new decision to standard error
``TOPOCOMM_RECORD``            file for collectives, sizes and counts of this run, for ``explain --trace``
``TOPOCOMM_CACHE``             folder in which choices are kept across runs (default: none)
``TOPOCOMM_CHECK``             ``first`` (default): ranks compare arguments when a call is new; ``always``: every call
``TOPOCOMM_MEMO``              ``0``: known calls take the way of new ones through Python, too, for tests
=============================  ====================================================================================

The environment of rank 0 counts, for all ranks; but ``TOPOCOMM_PLACE`` and ``TOPOCOMM_LABELS``, where a process sits,
are each process's own (:mod:`topocomm.topology.live.sources`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from topocomm.choose.rule import NATIVE
from topocomm.choose.shared import SHARED
from topocomm.collectives import COLLECTIVES, find_collective
from topocomm.engines import ENGINES, TRANSPORTS, USUAL_TRANSPORTS
from topocomm.errors import AlgorithmError, Error, TopologyError

__all__ = ["Settings", "environment", "make_settings"]

_WORDS = (
    "ENGINE", "TRANSPORTS", "TOPOLOGY", "DISCOVER", "PLACE", "LABELS", "MACHINE", "TUNING", "TRACE", "CHECK", "MEMO",
    "RECORD", "CACHE",
)  # fmt: skip
Algorithms = str | Mapping[str, str] | None


@dataclass(frozen=True)
class Settings:
    """The settings of a communicator: the algorithm named for a collective, and who named it."""

    named: dict[str, str] = field(default_factory=dict)
    named_by: dict[str, str] = field(default_factory=dict)
    engine: str = ENGINES[0]
    topology_file: str | None = None
    sources: tuple[str, ...] | None = None
    """What is asked where nodes sit, the best first; None: all that need not be asked for."""
    machine_file: str | None = None
    tuning_file: str | None = None
    trace: bool = False
    record_file: str | None = None
    """Where the calls are written; they all take the way through Python then."""
    cache: str | None = None
    """The folder in which choices are kept across runs."""
    check_always: bool = False
    memo: bool = True
    transports: tuple[str, ...] = USUAL_TRANSPORTS

    @property
    def names_ours(self) -> bool:
        """True if an algorithm with a schedule is named for a collective."""
        return any(name not in (NATIVE, SHARED) for name in self.named.values())


def environment() -> dict[str, str]:
    """The variables of this process that are read here; those of notified RMA and of the build are not."""
    others = ("TOPOCOMM_RMA_", "TOPOCOMM_LIBFABRIC")
    return {k: v for k, v in os.environ.items() if k.startswith("TOPOCOMM_") and not k.startswith(others)}


def _engine(name: str, by: str) -> str:
    if name not in ENGINES:
        raise AlgorithmError(f"unknown engine {name!r} ({by}); this build has {', '.join(ENGINES)}")
    return name


def _transports(words: str) -> tuple[str, ...]:
    names = {name.strip() for name in words.split(",")}
    if not names <= set(TRANSPORTS):
        raise Error(f"TOPOCOMM_TRANSPORTS={words}: may name {', '.join(TRANSPORTS)}, separated by commas")
    return tuple(name for name in TRANSPORTS if name in names or name == "mpi")


def _sources(words: str | None) -> tuple[str, ...] | None:
    from topocomm.topology.live.sources import named_sources

    if words is None:
        return None
    try:
        return named_sources(words)
    except TopologyError as e:
        raise TopologyError(f"TOPOCOMM_DISCOVER={words}: {e}") from None


def _one_name(name: str) -> dict[str, str]:
    """A name for all collectives that know it. Raises AlgorithmError if none does."""
    from topocomm.algorithms.table import TABLE, parse_name

    base, _ = parse_name(name)
    known = [c for c in COLLECTIVES if base in TABLE[c] or base in (NATIVE, SHARED)]
    if not known:
        raise AlgorithmError(f"unknown algorithm {name!r}; 'python -m topocomm list' shows those of every collective")
    return {c: _valid(c, name) for c in known}


def _valid(collective: str, name: str) -> str:
    from topocomm.algorithms.table import find

    if name not in (NATIVE, SHARED):
        find(collective, name)
    return name


def named_algorithms(algorithm: Algorithms) -> dict[str, str]:
    """The algorithm of each collective from the argument: a name, or a mapping from collective to name."""
    if algorithm is None:
        return {}
    if isinstance(algorithm, str):
        return _one_name(algorithm)
    if not isinstance(algorithm, Mapping):
        raise AlgorithmError(f"algorithm must be a name or a mapping from collective to name, found {algorithm!r}")
    for collective in algorithm:
        find_collective(collective)
    return {collective: _valid(collective, name) for collective, name in algorithm.items()}


def make_settings(algorithm: Algorithms, engine: str | None, env: Mapping[str, str]) -> Settings:
    """Settings from arguments and environment; arguments win.

    Raises AlgorithmError for an unknown algorithm or engine, Error for an unknown variable or value.
    """
    by_collective = {f"TOPOCOMM_{collective.upper()}": collective for collective in COLLECTIVES}
    known = {*by_collective, *(f"TOPOCOMM_{word}" for word in _WORDS)}
    for key in env:
        if key not in known:
            raise Error(f"unknown environment variable {key}; known are {', '.join(sorted(known))}")
    check = env.get("TOPOCOMM_CHECK", "first")
    if check not in ("first", "always"):
        raise Error(f"TOPOCOMM_CHECK must be 'first' or 'always', found {check!r}")
    named, named_by = {}, {}
    for key, collective in by_collective.items():
        if key in env:
            named[collective], named_by[collective] = _valid(collective, env[key]), f"environment {key}"
    for collective, name in named_algorithms(algorithm).items():
        named[collective], named_by[collective] = name, "communicator argument"
    return Settings(
        named,
        named_by,
        _engine(engine or env.get("TOPOCOMM_ENGINE") or ENGINES[0], "argument" if engine else "environment"),
        env.get("TOPOCOMM_TOPOLOGY") or None,
        _sources(env.get("TOPOCOMM_DISCOVER") or None),
        env.get("TOPOCOMM_MACHINE") or None,
        env.get("TOPOCOMM_TUNING") or None,
        env.get("TOPOCOMM_TRACE", "0") not in ("", "0"),
        env.get("TOPOCOMM_RECORD") or None,
        env.get("TOPOCOMM_CACHE") or None,
        check == "always",
        env.get("TOPOCOMM_MEMO", "1") not in ("", "0") and not env.get("TOPOCOMM_RECORD"),
        _transports(env.get("TOPOCOMM_TRANSPORTS") or ",".join(USUAL_TRANSPORTS)),
    )
