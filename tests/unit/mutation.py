"""Mutants of schedules, and an oracle that tells by running one, without the verifier, whether it still is right."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from topocomm import Topology
from topocomm.collectives import PREFIXES, REDUCING
from topocomm.engines import local
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send
from topocomm.topology import groups_of, reorder_ranks

Parts = list[RankSchedule]
SMALL = {
    "2": Topology.flat(2),
    "3": Topology.flat(3),
    "4 as 2 + 2 cyclic": reorder_ranks(groups_of([2, 2]), "cyclic"),
    "5": Topology.flat(5),
    "6 as 3 + 1 + 2 shuffled": reorder_ranks(groups_of([3, 1, 2]), "random:2"),
}
"""Machines on which mutants are made."""


@dataclass(frozen=True)
class Mutant:
    """A schedule with one fault, and what was done."""

    kind: str
    what: str
    schedule: Schedule


def materialise(schedule: Schedule) -> Parts:
    return [schedule.part(r) for r in range(schedule.size)]


def with_parts(schedule: Schedule, parts: Parts) -> Schedule:
    return replace(schedule, part=lambda r: parts[r])


# -- places in a schedule: (rank, round, "sends" or "recvs", index) ---------------------------------------------------

Spot = tuple[int, int, str, int]


def spots(parts: Parts, side: str) -> list[Spot]:
    return [
        (r, i, side, k)
        for r, part in enumerate(parts)
        for i, rnd in enumerate(part.rounds)
        for k in range(len(getattr(rnd, side)))
    ]


def at(parts: Parts, spot: Spot) -> Send | Recv:
    r, i, side, k = spot
    return getattr(parts[r].rounds[i], side)[k]


def put(parts: Parts, spot: Spot, ops: tuple[Send | Recv, ...]) -> Parts:
    """The parts with the transfer at ``spot`` replaced by ``ops``."""
    r, i, side, k = spot
    old = getattr(parts[r].rounds[i], side)
    rnd = replace(parts[r].rounds[i], **{side: (*old[:k], *ops, *old[k + 1 :])})
    rounds = (*parts[r].rounds[:i], rnd, *parts[r].rounds[i + 1 :])
    return [*parts[:r], replace(parts[r], items=rounds), *parts[r + 1 :]]


def matching_recv(parts: Parts, send: Spot) -> Spot:
    """The receive that takes the message sent at ``send``: the k-th between two ranks matches the k-th."""
    source, target = send[0], at(parts, send).peer
    sends = [s for s in spots(parts, "sends") if s[0] == source and at(parts, s).peer == target]
    recvs = [s for s in spots(parts, "recvs") if s[0] == target and at(parts, s).peer == source]
    return recvs[sends.index(send)]


# -- mutations: parts, random → (mutated parts, what) or None ---------------------------------------------------------

Mutation = Callable[[Schedule, Parts, random.Random], "tuple[Parts, str] | None"]


def _pick(parts: Parts, rng: random.Random, side: str) -> Spot | None:
    among = spots(parts, side)
    return rng.choice(among) if among else None


def drop_send(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    spot = _pick(parts, rng, "sends")
    return (put(parts, spot, ()), f"{spot}") if spot else None


def drop_recv(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    spot = _pick(parts, rng, "recvs")
    return (put(parts, spot, ()), f"{spot}") if spot else None


def drop_both(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    spot = _pick(parts, rng, "sends")
    if spot is None:
        return None
    other = matching_recv(parts, spot)
    return put(put(parts, spot, ()), other, ()), f"{spot} and {other}"


def duplicate(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    spot = _pick(parts, rng, rng.choice(("sends", "recvs")))
    return (put(parts, spot, (at(parts, spot),) * 2), f"{spot}") if spot else None


def duplicate_both(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    spot = _pick(parts, rng, "sends")
    if spot is None:
        return None
    other = matching_recv(parts, spot)
    twice = put(parts, spot, (at(parts, spot),) * 2)
    return put(twice, other, (at(parts, other),) * 2), f"{spot} and {other}"


def _swap(field: str) -> Mutation:
    def swap(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
        side = rng.choice(("sends", "recvs"))
        first = _pick(parts, rng, side)
        if first is None:
            return None
        among = [s for s in spots(parts, side) if s[0] == first[0] and s != first]
        if not among:
            return None
        second = rng.choice(among)
        a, b = at(parts, first), at(parts, second)
        swapped = put(parts, first, (replace(a, **{field: getattr(b, field)}),))
        return put(swapped, second, (replace(b, **{field: getattr(a, field)}),)), f"{field} of {first} and {second}"

    return swap


def retarget_peer(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    spot = _pick(parts, rng, rng.choice(("sends", "recvs")))
    if spot is None:
        return None
    peer = rng.choice([x for x in range(-1, schedule.size + 1) if x != at(parts, spot).peer])
    return put(parts, spot, (replace(at(parts, spot), peer=peer),)), f"{spot} to {peer}"


def retarget_slot(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    spot = _pick(parts, rng, rng.choice(("sends", "recvs")))
    if spot is None or len(at(parts, spot).slots) == 0:
        return None
    slots = np.array(at(parts, spot).slots, np.int64)
    i = rng.randrange(len(slots))
    slots[i] = rng.choice([x for x in range(-1, schedule.nslots + 1) if x != slots[i]])
    return put(parts, spot, (replace(at(parts, spot), slots=slots),)), f"{spot} to {slots.tolist()}"


def turn_slots(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    """The same slots in another order."""
    among = [s for side in ("sends", "recvs") for s in spots(parts, side) if len(at(parts, s).slots) > 1]
    if not among:
        return None
    spot = rng.choice(among)
    slots = np.roll(np.array(at(parts, spot).slots, np.int64), 1)
    return put(parts, spot, (replace(at(parts, spot), slots=slots),)), f"{spot} to {slots.tolist()}"


def exchange_rounds(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    among = [r for r, part in enumerate(parts) if len(part.rounds) > 1]
    if not among:
        return None
    r = rng.choice(among)
    i, j = rng.sample(range(len(parts[r].rounds)), 2)
    rounds = list(parts[r].rounds)
    rounds[i], rounds[j] = rounds[j], rounds[i]
    return [*parts[:r], replace(parts[r], items=tuple(rounds)), *parts[r + 1 :]], f"rank {r}, rounds {i} and {j}"


def combine_otherwise(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
    spot = _pick(parts, rng, "recvs")
    if spot is None:
        return None
    old = at(parts, spot)
    assert isinstance(old, Recv)
    new = rng.choice([c for c in Combine if c is not old.combine])
    return put(parts, spot, (replace(old, combine=new),)), f"{spot} {new.value}"


def _entries(field: str) -> Mutation:
    """Drop an entry of a rank's load or store, or swap two, or turn one to another slot."""

    def mutate(schedule: Schedule, parts: Parts, rng: random.Random) -> tuple[Parts, str] | None:
        among = [r for r, part in enumerate(parts) if len(getattr(part, field))]
        if not among:
            return None
        r = rng.choice(among)
        slots = np.array(getattr(parts[r], field), np.int64)
        i, how = rng.randrange(len(slots)), rng.choice(("drop", "swap", "turn"))
        if how == "drop":
            slots = np.delete(slots, i)
        elif how == "swap":
            j = rng.randrange(len(slots))
            if i == j:
                return None
            slots[[i, j]] = slots[[j, i]]
        else:
            slots[i] = rng.choice([x for x in range(-1, schedule.nslots + 1) if x != slots[i]])
        part = replace(parts[r], **{field: slots})
        return [*parts[:r], part, *parts[r + 1 :]], f"rank {r}: {how} entry {i} of {field}"

    return mutate


MUTATIONS: dict[str, Mutation] = {
    "drop a send": drop_send,
    "drop a receive": drop_recv,
    "drop a message": drop_both,
    "duplicate a transfer": duplicate,
    "duplicate a message": duplicate_both,
    "swap slots": _swap("slots"),
    "swap peers": _swap("peer"),
    "retarget a peer": retarget_peer,
    "retarget a slot": retarget_slot,
    "turn slots": turn_slots,
    "exchange rounds": exchange_rounds,
    "combine otherwise": combine_otherwise,
    "change a load": _entries("load"),
    "change a store": _entries("store"),
}


def mutants(schedule: Schedule, each: int, seed: int) -> Iterator[Mutant]:
    """At most ``each`` mutants of every kind."""
    parts, rng = materialise(schedule), random.Random(seed)
    for kind, mutate in MUTATIONS.items():
        for _ in range(each):
            made = mutate(schedule, parts, rng)
            if made is not None:
                yield Mutant(kind, made[1], with_parts(schedule, made[0]))


# -- the oracle --------------------------------------------------------------------------------------------------------

WORD = np.dtype([("hash", np.uint64), ("shift", np.uint64)])
"""An element of the free monoid: a word, as its polynomial hash and the multiplier that appends to it."""
_LETTER = np.uint64(0x9E3779B97F4A7C15)


def append(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Concatenation of words: associative, not commutative."""
    out = np.empty(left.shape, WORD)
    out["hash"] = left["hash"] * right["shift"] + right["hash"]
    out["shift"] = left["shift"] * right["shift"]
    return out


def pair(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A binary tree of its operands: not associative, as floating-point sums are not, nor commutative."""
    mixed = left * np.uint64(0xBF58476D1CE4E5B9) ^ (right * np.uint64(0x94D049BB133111EB) + np.uint64(1))
    return (mixed ^ (mixed >> np.uint64(29))) * _LETTER


def inputs(schedule: Schedule, blocks: list[int], width: int, seed: int) -> list[np.ndarray]:
    """Random letters, different in every rank and position."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 2**63, n * width, np.int64).astype(np.uint64) for n in blocks]


def words(letters: np.ndarray) -> np.ndarray:
    out = np.empty(letters.shape, WORD)
    out["hash"], out["shift"] = letters, _LETTER
    return out


def expected(schedule: Schedule, data: list[np.ndarray], op: Callable[..., np.ndarray] = np.add) -> list[np.ndarray]:
    """What every rank must have, from the meaning of the collective."""
    p, root, collective = schedule.size, schedule.root, schedule.collective
    nothing = data[root][:0]
    if collective in ("allgather", "gather"):
        everything = np.concatenate(data)
        return [everything if collective == "allgather" or r == root else nothing for r in range(p)]
    if collective == "alltoall":
        return [np.concatenate([np.split(d, p)[r] for d in data]) for r in range(p)]
    if collective == "bcast":
        return [data[root]] * p
    if collective == "scatter":
        return np.split(data[root], p)
    total = data[0]
    for d in data[1:]:
        total = op(total, d)
    if collective == "allreduce":
        return [total] * p
    if collective in PREFIXES:
        sums = list(itertools.accumulate(data, op))
        return sums if collective == "scan" else [nothing, *sums[:-1]]
    if collective == "reduce":
        return [total if r == root else nothing for r in range(p)]
    return np.split(total, p)


def _same(found: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return all(a.shape == b.shape and bool((a == b).all()) for a, b in zip(found, wanted, strict=True))


def is_right(schedule: Schedule, blocks: list[int]) -> bool:
    """Whether running the schedule gives the right results, in the right order, and ends.

    ``blocks`` are the input blocks that every rank has by the original schedule.
    """
    if not messages_pair_up(schedule):
        return False
    if schedule.collective == "barrier":
        return is_barrier(schedule)
    if [len(schedule.part(r).load) for r in range(schedule.size)] != blocks:
        return False
    data = inputs(schedule, blocks, 2, seed=1)
    try:
        if not _same(local.run(schedule, data, np.add), expected(schedule, data)):
            return False
        if schedule.in_order and schedule.collective in REDUCING:
            letters = [words(d) for d in data]
            if not _same(local.run(schedule, letters, append), expected(schedule, letters, append)):
                return False
        if schedule.collective == "allreduce":
            trees = local.run(schedule, data, pair)
            return _same(trees, [trees[0]] * schedule.size)
    except Exception:
        return False
    return True


def messages_pair_up(schedule: Schedule) -> bool:
    """Whether every message is received and every receive is served."""
    balance: dict[tuple[int, int], int] = {}
    for r in range(schedule.size):
        for rnd in schedule.part(r).rounds:
            for s in rnd.sends:
                balance[r, s.peer] = balance.get((r, s.peer), 0) + 1
            for v in rnd.recvs:
                balance[v.peer, r] = balance.get((v.peer, r), 0) - 1
    return not any(balance.values())


def is_barrier(schedule: Schedule) -> bool:
    """Whether nobody leaves while any one rank has not come, and all leave when all have."""
    everybody = set(range(schedule.size))
    return finished(schedule, None) == everybody and not any(finished(schedule, r) for r in everybody)


def finished(schedule: Schedule, absent: int | None) -> set[int]:
    """The ranks that finish if ``absent`` never starts; messages wait for as long as they must."""
    box: dict[tuple[int, int], int] = {}
    position = {r: 0 for r in range(schedule.size) if r != absent}
    posted: set[int] = set()
    moved = True
    while moved:
        moved = False
        for r, i in list(position.items()):
            rounds: tuple[Round, ...] = schedule.part(r).rounds
            if i == len(rounds):
                continue
            if r not in posted:
                posted.add(r)
                for s in rounds[i].sends:
                    box[r, s.peer] = box.get((r, s.peer), 0) + 1
            need: dict[tuple[int, int], int] = {}
            for v in rounds[i].recvs:
                need[v.peer, r] = need.get((v.peer, r), 0) + 1
            if all(box.get(key, 0) >= n for key, n in need.items()):
                for key, n in need.items():
                    box[key] -= n
                position[r] += 1
                posted.discard(r)
                moved = True
    return {r for r, i in position.items() if i == len(schedule.part(r).rounds)}
