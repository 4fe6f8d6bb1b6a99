"""A context's settings, checked one by one, and its counts."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from topocomm.rma import errors
from topocomm.rma._lib import ffi, lib

__all__ = ["Faults", "Limits", "Opening", "Stats", "limit_of", "seconds", "whole"]

TRANSPORTS = {"shm": lib.TC_SHM, "ofi": lib.TC_OFI, "mpi": lib.TC_MSG}
TABLE = 2**20  # entries at most in a table without a narrower bound
LARGEST = 2**64 - 1
SLICE = 0.2  # seconds in C between chances for Python to notice an interrupt


def whole(value: Any, name: str, low: int, high: int | None, who: str) -> int:
    """Return ``value`` as an integer within the bounds. Errors: RangeError naming it, KindError for no integer."""
    if type(value) is int and low <= value and (high is None or value <= high):
        return value
    try:
        number = operator.index(value)
    except TypeError:
        raise errors.KindError(f"{who}: {name} is {value!r}, needs a whole number") from None
    if number < low or (high is not None and number > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise errors.RangeError(f"{who}: {name} is {number}, needs a whole number {bounds}")
    return number


def _real(value: Any, name: str, who: str, fits: Any, wanted: str) -> float:
    try:
        number = float(value) if not isinstance(value, str) else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise errors.KindError(f"{who}: {name} is {value!r}, needs {wanted}")
    if not fits(number):
        raise errors.RangeError(f"{who}: {name} is {value!r}, needs {wanted}")
    return number


def seconds(value: Any, who: str, name: str = "timeout") -> float:
    """Return a time limit in seconds. Errors: RangeError below zero or for not-a-number, KindError for no number."""
    return _real(value, name, who, lambda v: v >= 0, "seconds, zero or more")


def limit_of(timeout: Any, rank: int) -> float:
    """Return the first slice, in seconds, of a wait of ``timeout`` seconds in C."""
    return min(SLICE, seconds(timeout, f"wait on rank {rank}"))


@dataclass(frozen=True)
class Faults:
    """A simulated network in front of every transport, for tests; deterministic in ``seed``.

    ``pieces``: cut contiguous messages into at most this many (1 to 8); ``delay_us``: hold each piece for at most this
    many microseconds; ``duplicate``, ``drop``: probabilities that a piece's notification comes twice, that the piece
    never comes.
    """

    seed: int = 0
    reorder: bool = True
    pieces: int = 3
    delay_us: int = 100
    duplicate: float = 0.1
    drop: float = 0.0

    def record(self, who: str) -> dict[str, Any]:
        """Return the faults as the C core takes them. Errors: RangeError, KindError."""

        def chance(name: str) -> float:
            return _real(getattr(self, name), f"Faults.{name}", who, lambda v: 0 <= v <= 1, "a probability from 0 to 1")

        return {
            "seed": whole(self.seed, "Faults.seed", 0, LARGEST, who),
            "reorder": bool(self.reorder),
            "pieces": whole(self.pieces, "Faults.pieces", 1, lib.TC_MAX_PIECES, who),
            "delay_us": whole(self.delay_us, "Faults.delay_us", 0, 2**32 - 1, who),
            "duplicate": chance("duplicate"),
            "drop": chance("drop"),
        }


@dataclass(frozen=True)
class Limits:
    """Table sizes of a context; each rank has its own.

    ``signals``, ``blocks``: how many may exist at a time (at most 8192 blocks: a network's notification has 13 bits for
    them). ``queues``: how many of the signals may be identified ones (at most 256): each has a queue of
    ``queue_depth`` events (a power of two), which takes four epochs' worth, so at most ``queue_depth / 4`` blocks count
    at one identified signal. ``outstanding``: operations under way before a start is held back.
    """

    signals: int = 1024
    blocks: int = 8192
    queues: int = 16
    queue_depth: int = 256
    outstanding: int = 256

    def check(self, who: str) -> None:
        """Check every size. Errors: RangeError or KindError, naming field, value and bounds."""
        most = {"blocks": 8192, "queues": 256}
        for field in fields(self):
            low = 0 if field.name == "queues" else 1
            whole(getattr(self, field.name), f"Limits.{field.name}", low, most.get(field.name, TABLE), who)
        if self.queue_depth & (self.queue_depth - 1):
            raise errors.RangeError(f"{who}: Limits.queue_depth is {self.queue_depth}, needs a power of two")


@dataclass(frozen=True)
class Stats:
    """Counts since the context was opened; messages, pieces and bytes as handed to transports by this rank.

    ``control``: messages besides those of the user (proofs, requests, acknowledgements); ``strays``: notifications for
    freed blocks; ``surplus``: notifications refused as one too many; ``full``: times back-pressure held a put back.
    """

    messages: int
    pieces: int
    bytes: int
    control: int
    strays: int
    surplus: int
    full: int


def _names(given: Any, name: str, who: str) -> tuple[str, ...]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise errors.KindError(f"{who}: {name} is {given!r}, needs a list of names such as [{given!r}]")
    return tuple(given)


def _transports(given: Sequence[str] | None, who: str) -> tuple[str, ...]:
    source, names = "transports", _names(given if given is not None else (), "transports", who)
    if given is None:
        variable = "TOPOCOMM_RMA_TRANSPORTS"
        text = os.environ.get(variable, "shm,ofi,mpi")
        source, names = f"{variable}={text}", tuple(name.strip() for name in text.split(","))
    if not names or any(name not in TRANSPORTS for name in names):
        raise errors.RangeError(f"{who}: {source} names {list(names)}; choose some of {', '.join(TRANSPORTS)}")
    return tuple(name for name in TRANSPORTS if name in names)


def _weights(given: Sequence[float], nics: Sequence[str], who: str) -> list[float]:
    rails = max(1, len(nics))
    if len(given) > rails:
        raise errors.RangeError(f"{who}: {len(given)} weights for {rails} NIC{'s' * (rails > 1)}; give one for each")
    wanted = "a finite number above zero"
    return [
        _real(weight, f"weights[{i}]", who, lambda v: v > 0 and math.isfinite(v), wanted)
        for i, weight in enumerate(given)
    ]


@dataclass(frozen=True)
class Opening:
    """The settings with which one rank opens a context, as the C core takes them."""

    options: Any
    transports: tuple[str, ...]
    checked: bool
    provider: str
    nics: tuple[str, ...]
    faults: dict[str, Any] | None

    @classmethod
    def of(
        cls,
        who: str,
        rank: int,
        size: int,
        *,
        transports: Sequence[str] | None,
        checked: bool,
        faults: Faults | None,
        limits: Limits,
        provider: str,
        nics: Sequence[str],
        weights: Sequence[float],
        stripe_from: int,
        progress_thread: bool,
    ) -> Opening:
        """Check and collect the settings. Errors: RangeError or KindError, naming setting, value and what is needed."""
        options = ffi.new("tc_options *")
        lib.tc_options_default(options)
        options.rank, options.size = rank, size
        options.checked, options.progress_thread = bool(checked), bool(progress_thread)
        allowed = _transports(transports, who)
        options.transports = sum(TRANSPORTS[name] for name in allowed)
        if not isinstance(limits, Limits):
            raise errors.KindError(f"{who}: limits is {limits!r}, needs rma.Limits(...)")
        limits.check(who)
        for field in fields(limits):
            setattr(options, field.name, getattr(limits, field.name))
        if not isinstance(provider, str):
            raise errors.KindError(f"{who}: provider is {provider!r}, needs a name such as 'tcp'")
        provider = provider or os.environ.get("TOPOCOMM_RMA_PROVIDER", "")
        cards = _names(nics, "nics", who) or tuple(n for n in os.environ.get("TOPOCOMM_RMA_NICS", "").split(",") if n)
        if len(cards) > lib.TC_MAX_RAILS:
            raise errors.RangeError(f"{who}: {len(cards)} nics, at most {lib.TC_MAX_RAILS} can be used")
        joined = ",".join(cards)
        for name, text, field_name in (("provider", provider, "provider"), ("nics", joined, "nics")):
            room = ffi.sizeof(getattr(options, field_name)) - 1
            if len(text.encode()) > room:
                raise errors.RangeError(f"{who}: {name} of {len(text.encode())} bytes, at most {room} are taken")
        options.provider, options.nics = provider.encode(), joined.encode()
        options.weights = _weights(weights, cards, who)
        options.stripe_from = whole(stripe_from, "stripe_from", 0, 2**32 - 1, who)
        if faults is not None and not isinstance(faults, Faults):
            raise errors.KindError(f"{who}: faults is {faults!r}, needs rma.Faults(...)")
        return cls(options, allowed, bool(checked), provider, cards, faults.record(who) if faults else None)

    def compared(self) -> dict[str, Any]:
        """Return the settings that must be equal on all ranks."""
        return {"transports": ",".join(self.transports), "checked": self.checked, "provider": self.provider}


def difference(rows: Sequence[dict[str, Any]]) -> str:
    """Name the first setting in which ranks differ, in words; empty if there is none."""
    for name, value in rows[0].items():
        for rank, row in enumerate(rows):
            if row[name] != value:
                return f"{name} is {value!r} on rank 0, {row[name]!r} on rank {rank}; it must be the same on all ranks"
    return ""
