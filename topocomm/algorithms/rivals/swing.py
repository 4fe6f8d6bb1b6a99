"""Swing's allreduce, in its form of least bytes: a reduce-scatter over swinging distances, and back.

In step s rank r meets the rank at distance ρ(s) = Σ (−2)^i, i = 0 … s: 1, −1, 3, −5, 11, …; even ranks count it
upwards, odd ones downwards, modulo p. It sends there the blocks of that rank and of all that this one reaches in later
steps. Neighbouring steps go opposite ways round a ring, so that distances stay below those of recursive halving.

    p = 8, rank        meets in step 0, 1, 2     sends in step 0, 1, 2 the blocks of ranks
    0                  1, 7, 3                   1 2 5 6, 4 7, 3
    1                  0, 2, 6                   0 3 4 7, 2 5, 6

For even p these are the rounds of Bine's butterfly (file bine, which grew out of this algorithm), and a block that is
reached in several steps leaves in one of them. An odd p runs p − 1 ranks with as many blocks, and the last rank gives
every other the block that this one collects, in shares as large as the others' messages of the step.

The form of least latency (whole vectors in lg p steps) is not offered: it adds up in another order on every rank, so
that bits of the results may differ between ranks; the verifier refuses it.

    Requires     a commutative operation
    Rounds       2 ⌈lg p⌉, for odd p 2 ⌈lg (p - 1)⌉ (p > 2)
    Bytes sent   2 n (p - 1) / p per rank, for odd p n (2 p - 3) / (p - 1); n = bytes of the vector
    Cost         2 ⌈lg p⌉ α + n (p - 1) / p (2 β + γ)
    Memory       the vector, and the largest message received
    Locality     distance of step s about 2^(s+1) / 3; the largest messages go nearest. The one-dimensional form, one
                 port: the order of ranks is the ring
    Source       D. De Sensi, T. Bonato, D. Saam, T. Hoefler: Swing: short-cutting rings for higher bandwidth
                 allreduce, NSDI 2024, arXiv:2401.09356
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import all_slots, there_and_back
from topocomm.algorithms.options import Options
from topocomm.algorithms.rivals import bine
from topocomm.arrays import IntArray
from topocomm.schedule import Combine, Recv, Round, Schedule, Send, compact
from topocomm.schedule.bulk import Row, join_rows
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "reduce_scatter"]


def _rounds(p: int) -> int:
    """Return the rounds of the allreduce."""
    return 2 * bine.steps(_even(p)) if p > 1 else 0


def _sent(p: int) -> Fraction:
    """Return the most that any rank sends in the allreduce, in vectors."""
    return Fraction(2 * p - 2, p) if p % 2 == 0 or p == 1 else Fraction(2 * p - 3, p - 1)


def _even(p: int) -> int:
    """Return the number of ranks that swing, which is that of the blocks of the vector."""
    return p if p == 1 else p - p % 2


def _last_meets(q: int) -> IntArray:
    """Find for odd p = q + 1 the step in which the last rank gives each of the q others its block."""
    counts = [len(away) for away in bine.leaving(q)]
    counts[-1] += 1
    return np.repeat(np.arange(len(counts)), counts)


def reduce_scatter(p: int, r: int) -> tuple[Round, ...]:
    """Make rank r's rounds over as many blocks as ranks swing; slot x holds the block that rank x collects."""
    q = _even(p)
    if p == 1:
        return ()
    step_of = _last_meets(q) if p > q else np.full(q, -1, np.int64)
    if r == q:
        met = [np.flatnonzero(step_of == i).tolist() for i in range(bine.steps(q))]
        return tuple(Round(tuple(Send(x, range(x, x + 1)) for x in them)) for them in met)
    body = []
    for i, (peer, leave, arrive) in enumerate(bine.meetings(q, r)):
        recvs = [Recv(peer, compact(arrive), Combine.BEFORE)]
        if step_of[r] == i:
            recvs.append(Recv(q, range(r, r + 1), Combine.AFTER))
        body.append(Round((Send(peer, compact(leave)),), tuple(recvs)))
    return tuple(body)


def _build(topology: Topology, root: int, options: Options) -> Schedule:
    """Make the reduce-scatter alone, in the order of ranks; of odd p the last rank collects nothing."""
    p = topology.size
    return all_slots(topology, _even(p), lambda r: reduce_scatter(p, r))


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    """List the messages of the reduce-scatter; for odd p the last rank sends each other one block."""
    p = topology.size
    q = _even(p)
    rows = bine.butterfly_bulk(q) if p > 1 else []
    if p > q:
        step_of = _last_meets(q)
        for i in range(len(rows)):
            met = np.flatnonzero(step_of == i)
            rows.append(Row(np.full(len(met), q), met, i, np.ones_like(met)))
    return join_rows(p, q, rows)


ENTRIES = (
    Algorithm("textbook_swing", "allreduce", "Swing: r ± 1, 1, 3, 5, 11, … to either side in turn, and back",
              there_and_back(Form(_build, _bulk)), _rounds, _sent),
)  # fmt: skip
