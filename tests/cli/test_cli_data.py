"""The data of verification: distinct, exact, and without overflow."""

from __future__ import annotations

import numpy as np
import pytest

from topocomm.cli.bench.data import MOST_CHARACTERS, POISON, Pattern
from topocomm.cli.bench.osu import BENCHMARKS, DATATYPES, datatype_of


@pytest.mark.parametrize("word", DATATYPES)
@pytest.mark.parametrize("ranks", [1, 2, 5, 64, 127, 128, 300])
def test_totals_are_the_sums_of_what_the_ranks_contribute(word: str, ranks: int) -> None:
    pattern = Pattern(1000, datatype_of(word, BENCHMARKS["reduce"]), addends=ranks)
    parts = [pattern.of(rank, 3, 10, 900).astype(np.int64) for rank in range(ranks)]
    exact = sum(parts)
    total = pattern.total(range(ranks), 3, 10, 900)
    assert (total.astype(np.int64) == exact).all()
    assert total.dtype == np.dtype(DATATYPES[word].dtype)


def test_the_most_characters_do_not_overflow() -> None:
    pattern = Pattern(127, DATATYPES["mpi_char"], addends=MOST_CHARACTERS)
    assert int(sum(pattern.of(rank, 0).astype(np.int64) for rank in range(MOST_CHARACTERS)).max()) <= 127


def test_data_differ_by_rank_position_and_iteration_and_are_never_poison() -> None:
    pattern = Pattern(50_000, DATATYPES["mpi_char"])
    own = pattern.of(1, 0)
    assert (own != pattern.of(2, 0)).any()
    assert (own != pattern.of(1, 1)).any()
    assert (own != POISON).all()
    for shift in (1, 2, 127, 128, 254, 4096, 16129):
        assert (own[shift:] != own[:-shift]).any(), shift
