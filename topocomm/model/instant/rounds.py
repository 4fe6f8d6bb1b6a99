"""Prices of rounds: the latency of one, and the seconds that its slowest message and its busiest link take a byte.

Rounds are named by *keys*: a nest, the depths of the places that talk, and the pattern. Many are priced together, in a
few passes over arrays, once for a topology on a machine; sizes of vectors and costs of engines come in later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    letter, number, offsets = pattern[0], int(pattern[1:] or 0), np.arange(m)
    if letter == "h" and not m & (m - 1):
        bits = [1 << i for i in range(m.bit_length() - 1)]
        return tuple(((bit, np.arange(bit, m, 2 * bit)),) for bit in bits)
    if letter in "hc":
        return tuple(((skip, offsets),) for skip, offsets, _ in decompose(m))
    if letter == "d":
        return (tuple((s, offsets[s : s + 1]) for s in range(1, m)),)
    rounds, weight = [], 1
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
_TOGETHER = 1 << 13
"""Messages that are looked at in one pass, about: their arrays stay in a core's cache."""
_DENSE = 1 << 18
"""Rounds times links up to which loads are counted in one array; beyond, links without a message are left out."""
_DENSEST = 1 << 22
"""The same, beyond which loads are sorted."""

Span = tuple[str, int, int]
"""Nest, outer and inner depth: the places between which a round is."""


class _Row(NamedTuple):
    """A message of every place in a round."""

    round: int
    span: int
    step: int
    share: float
    flips: bool
    modulus: int
    """In a tree, that of the numbers of places that send; else 0."""
    leaders: bool


class _Families:
    """The families of several spans side by side: arrays of a line a span."""

    def __init__(self, nests: Mapping[str, Nest], spans: list[Span], most: int, leaders: bool = False) -> None:
        self.nests = [nests[nest] for nest, _, _ in spans]
        of = [nest.family(outer, inner, most) for nest, (_, outer, inner) in zip(self.nests, spans, strict=True)]
        self.of, sample = of, self.nests[0].sample(most)
        some = np.flatnonzero(of[0].index == 0) if leaders else slice(None)
        self.most = [nest.children(outer, inner) for nest, (_, outer, inner) in zip(self.nests, spans, strict=True)]
        self.first = np.concatenate([family.first for family in of])
        self.equal = all((family.first[1:] - family.first[:-1] == family.first[1]).all() for family in of)
        begin = np.cumsum([0, *(len(family.first) for family in of[:-1])])
        self.child, self.index, self.members, self.width, self.count, self.head = (
            np.array(lines)
            for lines in (
                [family.child[some] for family in of],
                [family.index[some] for family in of],
                [family.members[some] for family in of],
                [family.width[some] for family in of],
                [family.count[some] for family in of],
                [family.head[some] + start for family, start in zip(of, begin.tolist(), strict=True)],
            )
        )
        self.sample = sample[some]

    def messages(self, rows: list[_Row], shares: dict[int, FloatArray]) -> _Columns:
        """List the messages of the sampled ranks: round, sender and receiver, parts of the vector.

        ``shares``: those of each rank's place in rows where they differ.
        """
        numbers, span, step, share, flips, modulus, leaders = (np.array(column) for column in zip(*rows, strict=True))
        line = span if (span != span[0]).any() else span[:1]
        child, count, index = self.child[line], self.count[line], self.index[line]
        step = step[:, None]
        there, able = child + step, count > step
        there -= (there >= count) * count
        if flips.any():
            turned, flip = child ^ step, flips[:, None]
            there, able = np.where(flip, turned, there), np.where(flip, turned < count, able)
        if modulus.any():
            below = (child % np.maximum(modulus, 1)[:, None] == 0) & (there > child)
            able &= (modulus == 0)[:, None] | below
        part = self.width[line] * share[:, None]
        for i, exact in shares.items():
            part[i] = exact * self.width[span[i]]
        if leaders.any():
            able &= ~leaders[:, None] | (index == 0)
            part[leaders] = 1.0
        every = bool(able.all())
        place = self.head[line] + (there if every else np.where(able, there, 0))
        target = self.first[place] + self._inside(place, index, self.members[line])
        at = np.broadcast_to(self.sample, target.shape)
        number, span = np.broadcast_to(numbers[:, None], target.shape), np.broadcast_to(span[:, None], target.shape)
        if not every:
            number, span, at, target, part = number[able], span[able], at[able], target[able], part[able]
        return self._ranks(number.ravel(), span.ravel(), at.ravel(), target.ravel(), part.ravel())

    def _inside(self, place: IntArray, index: IntArray, members: IntArray) -> IntArray:
        """Return the position in ``place`` of who talks to the one at ``index`` of a place of ``members``."""
        if self.equal:
            return index
        sizes = self.first[place + 1] - self.first[place]
        return np.asarray((2 * index + 1) * sizes // (2 * members))

    def _ranks(
        self, number: IntArray, line: IntArray, source: IntArray, target: IntArray, part: FloatArray
    ) -> _Columns:
        if all(nest is self.nests[0] for nest in self.nests):
            order = self.nests[0].order
            return _Columns(number, order[source], order[target], part)
        orders, size = np.concatenate([nest.order for nest in self.nests]), self.nests[0].size
        return _Columns(number, orders[line * size + source], orders[line * size + target], part)


class _Columns(NamedTuple):
    """Messages: number of the round, ranks of sender and receiver, part of the vector."""

    number: IntArray
    source: IntArray
    target: IntArray
    part: FloatArray


def _rows(keys: list[Key], spans: list[Span], families: _Families) -> tuple[list[_Row], dict[int, FloatArray]]:
    """List the rows of all rounds, and the shares of those whose places have unequal ones."""
    rows: list[_Row] = []
    shares: dict[int, FloatArray] = {}
    numbers = {span: i for i, span in enumerate(spans)}
    for number, key in enumerate(keys):
        span, letter = numbers[key[:3]], key.pattern[0]
        family, m = families.of[span], families.most[span]
        messages, flip = hops_of(key, m), flips(key.pattern, m)
        modulus = int(key.pattern[1:]) ** (key.number + 1) if letter == "t" else 0
        for step, homes in messages:
            share = 1.0 if letter in "sxt" else len(homes) / m
            if letter not in "sxt" and not family.even and len(homes) * m <= _COUNTED:
                exact = _share(family, homes, flip)  # who sends most in one round of a message does not in the next
                shares[len(rows)] = (exact + share) / 2 if len(messages) == 1 else exact
            rows.append(_Row(number, span, step, share, flip, modulus, key.leaders))
    return rows, shares


def _list(keys: list[Key], nests: Mapping[str, Nest], most: int) -> _Columns:
    """List the messages of all rounds."""
    spans = list(dict.fromkeys(key[:3] for key in keys))
    families = _Families(nests, spans, most, len(spans) == 1 and all(key.leaders for key in keys))
    return families.messages(*_rows(keys, spans, families))


def _share(family: Family, homes: IntArray, flip: bool) -> FloatArray:
    """Return the part of the vector whose blocks lie in ``homes``, counted from each rank's own place."""
    numbers = homes[:, None]
    child = numbers ^ family.child if flip else (numbers + family.child) % family.count
    inside = child < family.count
    found: FloatArray = np.where(inside, family.slots[family.head + np.where(inside, child, 0)], 0.0).sum(axis=0)
    return found


def _of_each(what: np.ufunc, values: FloatArray, begins: IntArray) -> FloatArray:
    """Reduce the values of every round, which begin at ``begins``; 0 where there are none."""
    out, some = np.zeros(len(begins) - 1), np.flatnonzero(begins[1:] > begins[:-1])
    if len(some):
        out[some] = what.reduceat(values, begins[some])
    return out


def _busiest(number: IntArray, links: IntArray, part: FloatArray, count: int, slow: FloatArray) -> FloatArray:
    """Return for each round the seconds a byte of its busiest link."""
    low = int(links.min())
    links = links - low
    slow = slow[low : low + int(links.max()) + 1]
    if count * len(slow) > _DENSE:
        used = np.zeros(len(slow), bool)
        used[links] = True
        links, slow = (np.cumsum(used) - 1)[links], slow[used]
    at = number * len(slow) + links
    if count * len(slow) <= _DENSEST:
        load = np.bincount(at, part, minlength=count * len(slow)).reshape(count, len(slow))
        return np.asarray((load * slow).max(axis=1))
    known, which = np.unique(at, return_inverse=True)
    busiest = np.zeros(count)
    np.maximum.at(busiest, known // len(slow), np.bincount(which.reshape(-1), part) * slow[known % len(slow)])
    return busiest


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
        sorts: dict[tuple[str, int], list[Key]] = {}
        for key in dict.fromkeys(keys):
            if key not in self._known:
                most = self._sample(key)
                sorts.setdefault(("" if most == self.network.size else key.nest, most), []).append(key)
        for (_, most), alike in sorts.items():
            for some in self._batches(alike, most):
                self._price(some, most)

    def _batches(self, keys: list[Key], most: int) -> Iterator[list[Key]]:
        """Split rounds so that none has very many messages, those of leaders between equal places for themselves."""
        rows = {key: len(self._hops(key)) for key in keys}
        if sum(rows.values()) * most <= _TOGETHER:
            yield keys
            return
        groups: dict[object, list[Key]] = {}
        for key in keys:
            groups.setdefault(key[:3] if key.leaders else None, []).append(key)
        for leaders, group in groups.items():
            each = most if leaders is None else int(self.nests[group[0].nest].nesting[group[0].inner][-1]) + 1
            batch, count = list[Key](), 0
            for key in group:
                if batch and count + rows[key] * each > _TOGETHER:
                    yield batch
                    batch, count = [], 0
                batch.append(key)
                count += rows[key] * each
            yield batch

    def _hops(self, key: Key) -> tuple[Hop, ...]:
        return hops_of(key, self.nests[key.nest].children(key.outer, key.inner))

    def _sample(self, key: Key) -> int:
        """Return how many ranks to look at: all in a ring, which leaves a place once; fewer if each sends much."""
        if key.pattern == "s" and key.number == 1:
            return self.network.size
        letter = key.pattern[0]
        return min(self.network.size, SAMPLED if letter == "t" else SAMPLED // 2 if letter in "sxh" else SAMPLED // 4)

    def _price(self, keys: list[Key], most: int) -> None:
        network, count = self.network, len(keys)
        number, source, target, part = _list(keys, self.nests, most)
        latency, slowest, shared = np.zeros(len(number)), np.full(len(number), np.inf), np.zeros(count)
        order = self.nests[keys[0].nest].order
        scale = self._scale(keys[0].nest, order, self.nests[keys[0].nest].sample(most))
        slow = (1.0 if scale is None else scale) / network.capacity
        for hops in network.hops(source, target):
            for some, links in hops:
                latency[some] += network.latency[links]
                slowest[some] = np.minimum(slowest[some], network.capacity[links])
            links = np.concatenate([links for _, links in hops])
            if len(links):
                numbers, parts = (np.concatenate([x[some] for some, _ in hops]) for x in (number, part))
                np.maximum(shared, _busiest(numbers, links, parts, count, slow), out=shared)
        begins = np.searchsorted(number, np.arange(count + 1))  # messages stand in the order of rounds
        single, longest, most_sent = (_of_each(np.maximum, x, begins) for x in (part / slowest, latency, part))
        many = begins[1:] - begins[:-1]
        usual = _of_each(np.add, latency, begins) / np.maximum(many, 1)
        for i, key in enumerate(keys):
            width = len(self._hops(key))
            own = width * float(most_sent[i]) / network.machine.rank.up
            far, mean, alone, busiest = (float(values[i]) for values in (longest, usual, single, shared))
            self._known[key] = Price(far, mean, alone, busiest, own, width if many[i] else 0)

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
