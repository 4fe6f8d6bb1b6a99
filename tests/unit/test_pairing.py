"""Tournaments: disjoint pairs, and every pair once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from topocomm.topology.live.pairing import against_leaders, rounds_of_tournament, tournament


def met(rounds):
    """Pairs in the order they meet; every round must be of disjoint pairs."""
    pairs = []
    for row in rounds:
        busy = np.flatnonzero(row >= 0)
        assert (row[row[busy]] == busy).all()
        assert (row[busy] != busy).all()
        pairs += [(int(a), int(row[a])) for a in busy if a < row[a]]
    return pairs


@given(st.integers(1, 40), st.integers(0, 5), st.none() | st.integers(1, 6))
def test_everybody_meets_everybody_once(size, seed, at_once):
    rounds = tournament(size, seed, at_once)
    pairs = met(rounds)
    assert sorted(pairs) == [(a, b) for a in range(size) for b in range(a + 1, size)]
    assert len(rounds) == rounds_of_tournament(size, at_once)
    assert tournament(size, seed, at_once, 3).tolist() == rounds[:3].tolist()
    if at_once is None:
        assert len(rounds) == (0 if size == 1 else size - 1 + size % 2)
    else:
        assert ((rounds >= 0).sum(axis=1) <= 2 * at_once).all()


def test_who_meets_in_one_round_changes_with_the_seed():
    assert set(met(tournament(16, 0)[:1])) != set(met(tournament(16, 1)[:1]))


@given(st.integers(1, 8), st.integers(1, 20), st.integers(0, 3))
def test_all_others_meet_every_leader(leaders, others, seed):
    size = leaders + others
    who = np.random.default_rng(seed).permutation(size)
    rounds = against_leaders(who[:leaders], who[leaders:], size, seed)
    everyone = {(min(a, b), max(a, b)) for a in who[:leaders].tolist() for b in who[leaders:].tolist()}
    assert sorted(met(rounds)) == sorted(everyone)
    assert len(rounds) == leaders * -(-others // leaders)
