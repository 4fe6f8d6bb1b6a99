"""Rounds in short: repeated rounds and arrays of exchanges say what the rounds one by one say."""

import numpy as np
import pytest

from topocomm.schedule import (
    Combine,
    Exchanges,
    RankSchedule,
    Recv,
    Repeat,
    Round,
    Send,
    expand,
    relabel,
    reverse_rounds,
)


def plain(rounds):
    """Rounds as comparable values."""
    return [
        (
            [(s.peer, list(s.slots)) for s in rnd.sends],
            [(r.peer, list(r.slots), r.combine) for r in rnd.recvs],
        )
        for rnd in rounds
    ]


def ring(p, r):
    """Rank r's rounds of a ring, in short."""
    first = Round(
        (Send((r + 1) % p, range((r - 1) % p, (r - 1) % p + 1)),),
        (Recv((r - 1) % p, range((r - 2) % p, (r - 2) % p + 1), Combine.BEFORE),),
    )
    return (Repeat(first, p - 1, -1, p),)


def all_to_all(p, r, window):
    """Rank r's exchanges with everybody, nearest first."""
    step = np.arange(1, p)
    to, source = (r + step) % p, (r - step) % p
    return (Exchanges(to, to, source, p + source, window),)


@pytest.mark.parametrize("p", [2, 3, 8])
def test_a_ring_moves_on_by_one_slot(p):
    for r in range(p):
        rounds = expand(ring(p, r))
        assert len(rounds) == p - 1
        for t, rnd in enumerate(rounds):
            assert list(rnd.sends[0].slots) == [(r - 1 - t) % p]
            assert list(rnd.recvs[0].slots) == [(r - 2 - t) % p]


@pytest.mark.parametrize("p", [2, 3, 8])
@pytest.mark.parametrize("items", [ring, lambda p, r: all_to_all(p, r, 1), lambda p, r: all_to_all(p, r, p - 1)])
def test_transformers_see_the_rounds_behind_items(p, items):
    peers, slots = np.random.default_rng(p).permutation(p), np.random.default_rng(p + 1).permutation(2 * p)
    for r in range(p):
        short, full = items(p, r), expand(items(p, r))
        assert plain(expand(reverse_rounds(short))) == plain(reverse_rounds(full))
        assert plain(expand(relabel(short, peers, None))) == plain(relabel(full, peers, None))
        assert plain(expand(relabel(short, peers, slots))) == plain(relabel(full, peers, slots))


def test_exchanges_of_a_window_are_one_round():
    rounds = expand(all_to_all(8, 3, 3))
    assert [len(rnd.sends) for rnd in rounds] == [3, 3, 1]
    assert [s.peer for rnd in rounds for s in rnd.sends] == [(3 + s) % 8 for s in range(1, 8)]


def test_a_part_writes_its_rounds_out():
    part = RankSchedule(range(4), ring(4, 1), range(1))
    assert len(part.items) == 1
    assert len(part.rounds) == 3
    once = (Round((Send(0, range(1)),)),)
    assert RankSchedule(range(1), once, range(0)).rounds is once
