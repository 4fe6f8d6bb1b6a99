"""Ring reduce-scatter; reversed, the ring allgather; one after the other, the ring allreduce.

Each block travels once around the ring and ends at its home; a rank only ever talks to its two neighbours.

    p = 4, rank 0 sends to 1      round 0     round 1     round 2
    sends the partial block       3           2           1
    receives the partial block    2           1           0

The topology-aware form puts the ring in topology order: it leaves every place exactly once.

    Requires     a commutative operation
    Rounds       p - 1 (allreduce 2 (p - 1))
    Bytes sent   n (p - 1) / p per rank (allreduce twice that); n = bytes of the whole vector
    Cost         (p - 1) α + n (p - 1) / p (β + γ)
    Memory       one block beyond the vector
    Locality     in topology order each of G places sends n (p - 1) / p bytes to one other: G / (G - 1) of the least
    Source       P. Patarasuk, X. Yuan: Bandwidth optimal all-reduce algorithms for clusters of workstations, JPDC 69
                 (2009)
"""

from __future__ import annotations

from topocomm.schedule import Combine, Recv, Round, Send

__all__ = ["reduce_scatter"]


def reduce_scatter(p: int, r: int) -> tuple[Round, ...]:
    """Rank r's rounds; slot x holds the block whose home is rank x."""

    def one(x: int) -> range:
        return range(x % p, x % p + 1)

    return tuple(
        Round((Send((r + 1) % p, one(r - 1 - t)),), (Recv((r - 1) % p, one(r - 2 - t), Combine.BEFORE),))
        for t in range(p - 1)
    )
