"""How a vector is cut into blocks."""

from __future__ import annotations

import numpy as np

from topocomm.arrays import IntArray

__all__ = ["block_cuts"]


def block_cuts(count: int, blocks: int) -> IntArray:
    """Return where to cut ``count`` elements into ``blocks`` blocks of nearly equal size: blocks + 1 positions."""
    return np.arange(blocks + 1, dtype=np.int64) * count // max(blocks, 1)
