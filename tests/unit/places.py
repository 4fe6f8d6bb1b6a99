"""Hypothesis strategies: topologies with places of any size, on up to three levels, ranks in any order."""

from hypothesis import strategies as st

from topocomm.topology import Topology

LEVELS = ("group", "switch", "node")


@st.composite
def topologies(draw: st.DrawFn, min_ranks: int = 1, max_ranks: int = 24, max_levels: int = 3) -> Topology:
    """Labels are few, so that places hold several ranks, and mean different places in different outer places."""
    size = draw(st.integers(min_ranks, max_ranks))
    levels = LEVELS[: draw(st.integers(0, max_levels))]
    width = draw(st.integers(1, 5))
    row = st.tuples(*(st.integers(0, width) for _ in levels))
    rows = draw(st.lists(row, min_size=size, max_size=size))
    if draw(st.booleans()):
        rows.sort()
    return Topology(levels, rows)
