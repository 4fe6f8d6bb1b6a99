"""Broadcast of very large vectors along a chain, in segments; reversed, the reduce.

Every rank receives segment k from the one before it while it sends segment k - 1 to the one after it, so that all
links of the chain are busy at once. The topology-aware chain begins at the root and finishes each place before it goes
on to the next, the root's own places first.

    p = 3, 2 segments    round 0       round 1             round 2
    rank 0               sends 0       sends 1
    rank 1               receives 0    receives 1, sends 0   sends 1
    rank 2                             receives 0            receives 1

    Requires     reduce: a commutative operation
    Rounds       S + 1 on a rank, S = number of segments; the last rank is done after S + p - 2 steps
    Bytes sent   n per rank; n = bytes of the vector
    Cost         (S + p - 2) (α + n / S β)
    Memory       none beyond the vector (reduce: one segment)
    Locality     each of G places but one is entered once, with n bytes: (G - 1) n, the least possible
    Source       chain (pipeline) broadcast: J. Pješivac-Grbović et al.: Performance analysis of MPI collective
                 operations, Cluster Computing 10 (2007)
"""

from __future__ import annotations

from topocomm.schedule import Combine, Recv, Round, Send

__all__ = ["SEGMENTS", "reduce"]

SEGMENTS = 32


def reduce(p: int, r: int, segments: int = SEGMENTS) -> tuple[Round, ...]:
    """The rounds of the rank at position r of the chain whose head, position 0, is the root; slot k is segment k."""
    first, last = r == 0, r == p - 1
    if p == 1:
        return ()
    rounds = []
    for k in range(segments + (not first and not last)):
        give = k - (not last)  # what came in the round before goes on
        sends = (Send(r - 1, range(give, give + 1)),) if not first and give >= 0 else ()
        recvs = (Recv(r + 1, range(k, k + 1), Combine.AFTER),) if not last and k < segments else ()
        rounds.append(Round(sends, recvs))
    return tuple(rounds)
