"""The process grid: x-pencils on rows in y and columns in z, halos of eight neighbours, and the ways to communicate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import channels
import numpy as np
from mpi4py import MPI

import topocomm
from topocomm import rma


@dataclass(frozen=True)
class Way:
    """How transposes and halos move, in how many chunks of planes a transpose is pipelined, and over what."""

    transpose: channels.Make
    halo: channels.Make | None
    chunks: int
    wrap: Callable[[Any], Any] = lambda comm: comm
    transports: tuple[str, ...] | None = None


WAYS = {
    "blocking": Way(channels.Blocking, channels.Messages, 1),
    "pipelined": Way(channels.Collective, channels.Messages, 4),
    "persistent": Way(channels.Persistent, channels.Persistent, 4),
    "pscw": Way(channels.Pscw, channels.Pscw, 4),
    "flush": Way(channels.Flush, channels.Flush, 4),
    "notified": Way(channels.Notified, None, 4),
    "notified-messages": Way(channels.Notified, None, 4, transports=("mpi",)),
    "topocomm": Way(channels.Blocking, channels.Messages, 1, topocomm.Comm),
}
"""Name behind ``--comm`` → way; halo None: strided notified puts from field to field (``rma.halo``)."""

STEPS = [step for step in product((-1, 0, 1), repeat=2) if any(step)]


def share(total: int, parts: int, index: int) -> tuple[int, int]:
    """Return first and end of one part of nearly equal parts."""
    return total * index // parts, total * (index + 1) // parts


class ProcessGrid:
    """Ranks as columns (z) × rows (y), with communicators along both and what the way of communicating needs."""

    def __init__(self, comm: Any, rows: int, way: str, nics: list[str] | None = None) -> None:
        if comm.size % rows:
            raise SystemExit(f"{comm.size} ranks do not divide into {rows} rows")
        self.way = WAYS[way]
        self.cart = comm.Create_cart([comm.size // rows, rows], [False, True])
        (self.columns, self.rows), _, (self.column, self.row) = self.cart.Get_topo()
        plain = {"cart": self.cart, "y": self.cart.Sub([False, True]), "z": self.cart.Sub([True, False])}
        self.comms = {name: self.way.wrap(one) for name, one in plain.items()}
        self.contexts: dict[str, rma.Context] = {}
        if self.way.halo is None:
            options: dict[str, Any] = {"transports": self.way.transports, "nics": nics}
            given = {key: value for key, value in options.items() if value}
            self.contexts = {name: rma.Context(one, **given) for name, one in plain.items()}

    def channel(self, along: str, sends: list[int], receives: list[int], dtype: Any) -> channels.Channel:
        """Make a channel along ``y`` or ``z``. Collective there."""
        return self.way.transpose(self.contexts.get(along) or self.comms[along], sends, receives, dtype)

    def total(self, value: float) -> float:
        """Add over all ranks, in fixed point: every order of adding gives the same bits."""
        found = np.zeros(1, np.int64)
        self.comms["cart"].Allreduce(np.array([round(value * 2**40)]), found)
        return float(found[0]) / 2**40

    def most(self, value: float) -> float:
        """Return the maximum over all ranks."""
        found = np.zeros(1)
        self.comms["cart"].Allreduce(np.array([value]), found, MPI.MAX)
        return float(found[0])

    def halo(self, nz: int, ny: int, *inner: int) -> Halo:
        """Make the halo exchange of an array of nz × ny cells, with ghost cells around them. Collective."""
        return (PutHalo if self.way.halo is None else PackedHalo)(self, (nz + 2, ny + 2, *inner))

    def close(self) -> None:
        """Close the contexts. Collective."""
        for context in self.contexts.values():
            context.close()


def edge(step: tuple[int, ...], ghost: bool) -> tuple[slice, ...]:
    """Index the cells next to, or in, the ghost layer that a step points to."""
    low, high = (slice(0, 1), slice(-1, None)) if ghost else (slice(1, 2), slice(-2, -1))
    return tuple(slice(1, -1) if s == 0 else high if s > 0 else low for s in step)


class Halo:
    """Two arrays that take turns: write the inside of ``next``, then ``exchange()`` returns it with its ghost cells."""

    arrays: list[np.ndarray]
    round = 0

    @property
    def next(self) -> np.ndarray:
        """The array of the coming exchange."""
        return self.arrays[self.round % 2]

    def exchange(self) -> np.ndarray:
        """Fill the ghost cells from the eight neighbours."""
        array = self.next
        self.round += 1
        self._fill(array)
        return array

    def _fill(self, array: np.ndarray) -> None:
        raise NotImplementedError


class PutHalo(Halo):
    """Notified puts, strided, straight from field to field."""

    def __init__(self, grid: ProcessGrid, shape: tuple[int, ...]) -> None:
        context = grid.contexts["cart"]
        memories = [context.allocate(shape) for _ in range(2)]
        self.arrays = [memory.array for memory in memories]
        self.puts = rma.halo(context, memories, grid.cart, corners=True)

    def _fill(self, array: np.ndarray) -> None:
        self.puts()


class PackedHalo(Halo):
    """Packed messages: one piece for each neighbouring rank, which holds all that goes there."""

    def __init__(self, grid: ProcessGrid, shape: tuple[int, ...]) -> None:
        self.arrays = [np.zeros(shape) for _ in range(2)]
        self.sends, self.receives = [], []
        for step in STEPS:
            z, y = grid.column + step[0], (grid.row + step[1]) % grid.rows
            if 0 <= z < grid.columns:
                peer = grid.cart.Get_cart_rank([z, y])
                self.sends.append((peer, edge(step, ghost=False)))
                self.receives.append((peer, edge(step, ghost=True)))
        # a rank that is a neighbour twice gets its pieces in the order of the steps, and sent them in the reverse one
        self.sends.sort(key=lambda one: one[0])
        self.receives.reverse()
        self.receives.sort(key=lambda one: one[0])
        counts = [self._counts(parts, grid.cart.size) for parts in (self.sends, self.receives)]
        assert grid.way.halo is not None
        self.channel = grid.way.halo(grid.cart, *counts, np.float64)

    def _counts(self, parts: list[tuple[int, tuple[slice, ...]]], ranks: int) -> list[int]:
        counts = [0] * ranks
        for peer, index in parts:
            counts[peer] += self.arrays[0][index].size
        return counts

    def _fill(self, array: np.ndarray) -> None:
        np.concatenate([array[index].ravel() for _, index in self.sends], out=self.channel.source)
        self.channel.start()
        came, at = self.channel.wait(), 0
        for _, index in self.receives:
            part = array[index]
            part[...] = came[at : at + part.size].reshape(part.shape)
            at += part.size
