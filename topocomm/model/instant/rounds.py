"""Prices of rounds: the latency of one, and the seconds that its slowest message and its busiest link take a byte.

Rounds are named by *keys*: a nest, the depths of the places that talk, and the pattern. Many are priced together, in a
few passes over arrays, once for a topology on a machine; sizes of vectors and costs of engines come in later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from topocomm.algorithms.circulant import decompose
from topocomm.arrays import IntArray
from topocomm.model.instant.nests import SAMPLED, Family, FloatArray, Nest
from topocomm.model.network import Network

__all__ = ["Key", "Price", "Rounds", "hops"]


class Key(NamedTuple):
    """A round: in a nest, between places of depth ``inner`` inside those of depth ``outer``.

    ``pattern`` and ``number`` say who sends what to whom: "s" all to the place ``number`` further on, "x" all to the
    one whose number differs by this bit; other letters are rounds of a reduce-scatter (:func:`hops`). ``leaders``: only
    the first rank of every place sends, the whole vector.
    """

    nest: str
    outer: int
    inner: int
    pattern: str
    number: int
    leaders: bool = False


Hop = tuple[int, IntArray]
"""How far the message of a place goes, and the places that its blocks are for, both as those of place 0."""


@lru_cache(maxsize=256)
def hops(pattern: str, m: int) -> tuple[tuple[Hop, ...], ...]:
    """List the rounds of a pattern among m places.

    h: halving; c: circulant; d: all at once; k4: in digits of radix 4, lowest first; b8: all blocks along the digits of
    their distance, of radix 8; t2: a binomial tree, lowest digit first.
    """
    letter, number = pattern[0], int(pattern[1:] or 0)
    if letter == "h" and not m & (m - 1):
        bits = [1 << i for i in range(m.bit_length() - 1)]
        return tuple(((bit, np.arange(bit, m, 2 * bit)),) for bit in bits)
    if letter in "hc":
        return tuple(((skip, offsets),) for skip, offsets, _ in decompose(m))
    if letter == "d":
        return (tuple((s, np.array([s])) for s in range(1, m)),)
    offsets, rounds, weight = np.arange(m), [], 1
    while weight < m:
        if letter == "t":
            rounds.append(tuple((e * weight, offsets[:1]) for e in range(1, number) if e * weight < m))
            weight *= number
            continue
        digit = offsets // weight % number
        digit = np.where(offsets % weight == 0, digit, 0) if letter == "k" else digit
        rounds.append(tuple((e * weight, offsets[digit == e]) for e in range(1, number) if (digit == e).any()))
        weight *= number
    return tuple(rounds)


def hops_of(key: Key, m: int) -> tuple[Hop, ...]:
    """List the messages of one round among m places; w32: of an all-to-all with 32 messages at a time."""
    if key.pattern in "sx":
        return ((key.number, np.zeros(1, np.int64)),)
    if key.pattern[0] == "w":
        window = int(key.pattern[1:])
        some = range(max(key.number * window, 1), min((key.number + 1) * window, m))
        return tuple((s, np.array([s])) for s in some)
    return hops(key.pattern, m)[key.number]


def flips(pattern: str, m: int) -> bool:
    """Return True if places differ from their partners in bits of their numbers, else in steps around a circle."""
    return pattern == "x" or (pattern == "h" and not m & (m - 1))


class Price(NamedTuple):
    """What a round takes: seconds of latency, seconds a byte of the vector, messages of a rank."""

    latency: float
    """Of the longest route."""
    usual: float
    """Of a route on average."""
    single: float
    """The slowest message on links of its own."""
    shared: float
    """The busiest link."""
    own: float
    """All messages of a rank on its own link."""
    messages: int


_COUNTED = 1 << 12
"""Places times blocks of a round up to which blocks are counted where places are unequal."""
_DENSE = 1 << 18
"""Rounds times links up to which loads are counted in one array."""


def _messages(
    keys: list[tuple[int, Key]], family: Family, m: int, flip: bool, sample: IntArray
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """List number of the round, sender, receiver and part of the vector of every message of the sampled ranks.

    ``keys`` have their numbers, and are all of one family whose partners are found alike.
    """
    rows: list[tuple[int, int, float, int, bool]] = []  # round, step, share, modulus of senders in a tree, leaders
    shares: dict[int, FloatArray | float] = {}
    for number, key in keys:
        radix = int(key.pattern[1:]) if key.pattern[0] == "t" else 0
        messages = hops_of(key, m)
        for step, homes in messages:
            share = 1.0 if key.pattern[0] in "sxt" else len(homes) / m
            if key.pattern[0] not in "sxt" and not family.even and len(homes) * m <= _COUNTED:
                exact = _share(family, homes, flip)  # who sends most in one round of a message does not in the next
                shares[len(rows)] = (exact + share) / 2 if len(messages) == 1 else exact
            rows.append((number, step, share, radix ** (key.number + 1) if radix else 0, key.leaders))
    table = [np.array(column)[:, None] for column in zip(*rows, strict=True)]
    numbers, steps, modulus, leaders = table[0], table[1], table[3], table[4]
    child = family.child ^ steps if flip else (family.child + steps) % family.count
    able = child < family.count if flip else family.count > steps
    if modulus.any():
        able &= (modulus == 0) | ((family.child % np.maximum(modulus, 1) == 0) & (child > family.child))
    if leaders.any():
        able &= ~leaders | (family.index == 0)
    part = np.where(leaders, 1.0, family.width) * table[2]
    for line, share_of in shares.items():
        part[line] = share_of * family.width
    row, at = np.nonzero(able)
    begin = family.first[family.head[at] + child[row, at]]
    size = family.first[family.head[at] + child[row, at] + 1] - begin
    target = begin + (2 * family.index[at] + 1) * size // (2 * family.members[at])
    return numbers[row, 0], sample[at], target, part[row, at]


def _share(family: Family, homes: IntArray, flip: bool) -> FloatArray:
    """Return the part of the vector whose blocks lie in ``homes``, counted from each rank's own place."""
    numbers = homes[:, None]
    child = numbers ^ family.child if flip else (numbers + family.child) % family.count
    inside = child < family.count
    found: FloatArray = np.where(inside, family.slots[family.head + np.where(inside, child, 0)], 0.0).sum(axis=0)
    return found


class Rounds:
    """Priced rounds on a network."""

    def __init__(self, network: Network, nests: Mapping[str, Nest]) -> None:
        self.network, self.nests = network, nests
        self._known: dict[Key, Price] = {}
        self._scales: dict[tuple[str, int], FloatArray] = {}

    def __getitem__(self, key: Key) -> Price:
        return self._known[key]

    def price(self, keys: Iterable[Key]) -> None:
        """Price what is not known yet."""
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        sorts: dict[tuple[str, int], list[Key]] = {}
        for key in new:
            sorts.setdefault((key.nest, self._sample(key)), []).append(key)
        for (name, most), alike in sorts.items():
            self._price(alike, self.nests[name], most)

    def _sample(self, key: Key) -> int:
        """Return how many ranks to look at: all in a ring, which leaves a place once; fewer if each sends much."""
        if key.pattern == "s" and key.number == 1:
            return self.network.size
        return SAMPLED if key.pattern[0] in "sxht" else SAMPLED // 4

    def _price(self, keys: list[Key], nest: Nest, most: int) -> None:
        columns: list[tuple[IntArray, IntArray, IntArray, FloatArray]] = []
        for outer, inner in dict.fromkeys((key.outer, key.inner) for key in keys):
            family, m = nest.family(outer, inner, most), nest.children(outer, inner)
            some = [(i, key) for i, key in enumerate(keys) if (key.outer, key.inner) == (outer, inner)]
            for way in (True, False):
                turned = [(i, key) for i, key in some if flips(key.pattern, m) is way]
                if turned:
                    columns.append(_messages(turned, family, m, way, nest.sample(most)))
        number, source, target, part = (np.concatenate(column) for column in zip(*columns, strict=True))
        network, count = self.network, len(keys)
        routes = network.routes(nest.order[source], nest.order[target])
        latency = network.latency[routes].sum(axis=1)
        seconds = part / network.capacity[routes].min(axis=1)
        shared = self._busiest(
            number, routes, part, count, self._scale(keys[0].nest, nest.order, nest.sample(most))
        ).tolist()
        single, longest = np.zeros(count), np.zeros(count)
        np.maximum.at(single, number, seconds)
        np.maximum.at(longest, number, latency)
        most_sent = np.zeros(count)
        np.maximum.at(most_sent, number, part)
        largest = most_sent.tolist()
        many = np.bincount(number, minlength=count)
        usual = (np.bincount(number, latency, minlength=count) / np.maximum(many, 1)).tolist()
        for i, (key, sent, alone, far) in enumerate(
            zip(keys, many.tolist(), single.tolist(), longest.tolist(), strict=True)
        ):
            width = len(hops_of(key, nest.children(key.outer, key.inner)))
            own = width * largest[i] / network.machine.rank.up
            self._known[key] = Price(far, usual[i], alone, shared[i], own, width if sent else 0)

    def _busiest(
        self, number: IntArray, routes: IntArray, part: FloatArray, count: int, scale: FloatArray | None
    ) -> FloatArray:
        """Return for each round the seconds a byte of its busiest link."""
        links = self.network.none + 1
        at, parts = (number[:, None] * links + routes).ravel(), np.repeat(part, routes.shape[1])
        slow = (1.0 if scale is None else scale) / self.network.capacity
        if count * links <= _DENSE:
            load = np.bincount(at, parts, minlength=count * links).reshape(count, links)
            busiest: FloatArray = (load * slow).max(axis=1)
            return busiest
        known, which = np.unique(at, return_inverse=True)
        busiest = np.zeros(count)
        np.maximum.at(busiest, known // links, np.bincount(which.reshape(-1), parts) * slow[known % links])
        return busiest

    def _scale(self, name: str, order: IntArray, sample: IntArray) -> FloatArray | None:
        """Find by what to multiply the load of every link for that of all ranks; None if all are looked at.

        In a sample that is known of links out of places: the part of their ranks that is in it. Others get the mean.
        """
        if len(sample) == len(order):
            return None
        key = name, len(sample)
        if key not in self._scales:
            network, ranks = self.network, order[sample]
            scale = np.full(network.none + 1, len(order) / len(ranks))
            columns = {cut.name: cut.column for cut in network.cuts}
            for family, first, count in network.families:
                level, _, way = family.rpartition(" ")
                if way in ("up", "down") and level in columns:
                    column = columns[level]
                    places = int(column.max()) + 1
                    have, all_of = (np.bincount(x, minlength=places) for x in (column[ranks], column))
                    part = np.divide(all_of, have, out=np.zeros(places), where=have > 0)
                    scale[first : first + count] = np.repeat(part if way == "up" else part * 0, count // places)
                elif way == "pair" and level in columns:
                    column = columns[level]
                    places = int(column.max()) + 1
                    have, all_of = (np.bincount(x, minlength=places) for x in (column[ranks], column))
                    part = np.divide(all_of, have, out=np.zeros(places), where=have > 0)
                    scale[first : first + count] = np.repeat(part, count // places)
            self._scales[key] = scale
        return self._scales[key]
