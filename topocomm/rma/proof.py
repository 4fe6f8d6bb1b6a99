"""The static half of checked mode: a proof that alternating plans are safe without a handshake, whatever the timing."""

from __future__ import annotations

from collections.abc import Sequence

from topocomm.rma import errors
from topocomm.rma.overlap import REMEDY, overlapping
from topocomm.rma.plan import Plan
from topocomm.rma.signal import Signal

__all__ = ["prove_rounds"]

PROVEN = "proven for its place in the rounds"


def prove_rounds(plans: Sequence[Plan], signals: Sequence[Signal]) -> None:
    """Prove hand-made plans safe, or refuse them; collective over the context's communicator.

    The plans are run in turn: in round k every rank re-arms the signal of round k − 1, starts ``plans[k % n]`` and
    waits for ``signals[k % n]``. A transfer of round k into a block that is used again in round m is safe if the
    block's owner writes to this rank in some round between them: that message left after the owner had re-armed the
    block's signal, and this rank waits for it before round m. Two alternating sets and neighbours that all write back
    satisfy it; one set never does, nor do two sets that share bytes. On success each plan's ``guarantee`` says so.

    Errors, alike on every rank: NotProvenError naming a rank, owner and tag that lack this, or an owner whose blocks
    share bytes; ValueError if the numbers of plans and signals differ, or are not the same on all ranks.
    """
    if not plans and not signals:
        raise errors.RangeError("prove_rounds: no plans and no signals, needs one of each per round")
    context = (plans[0] if plans else signals[0]).context
    table = context.comm.allgather([len(plans), *(signal.number for signal in signals)])
    if any(row[0] != len(row) - 1 or row[0] != table[0][0] for row in table):
        counts = ", ".join(f"rank {r}: {row[0]} and {len(row) - 1}" for r, row in enumerate(table))
        raise errors.RangeError(f"prove_rounds: needs as many plans as signals, the same on all ranks; got {counts}")
    problem = _shared(signals) or _problem(plans, signals, [row[1:] for row in table])
    for rank, found in enumerate(context.comm.allgather(problem)):
        if found is not None:
            words, owner, tag = found
            raise errors.NotProvenError(f"plans of rank {rank}: {words}", owner, tag)
    for plan in plans:
        plan.guarantee = PROVEN


def _shared(signals: Sequence[Signal]) -> tuple[str, int, int] | None:
    """Find two blocks of this rank that share bytes; returned like the result of `_problem`."""
    context = signals[0].context
    found = overlapping(context.issued.at({signal.number for signal in signals}))
    if found is None:
        return None
    one, other = (f"tag {p.tag} for rank {p.source}" for p in found)
    words = f"rank {context.rank}'s blocks {one} and {other} share bytes; {REMEDY}"
    return words, context.rank, found[1].tag


def _problem(
    plans: Sequence[Plan], signals: Sequence[Signal], table: Sequence[Sequence[int]]
) -> tuple[str, int, int] | None:
    """Find a transfer that cannot be proven safe; returns words, owner and tag of the block, or None."""
    n = len(plans)
    uses: dict[bytes, list[int]] = {}
    targets = {}
    for k, plan in enumerate(plans):
        for target in plan.targets:
            uses.setdefault(target.wire, []).append(k)
            targets[target.wire] = target
            at = f"rank {target.owner}'s block tag {target.tag}, used in round {k} of {n},"
            if target.signal != table[target.owner][k]:
                words = f"{at} does not count at the signal that its owner waits for in that round"
                return words, target.owner, target.tag
    for wire, rounds in uses.items():
        target = targets[wire]
        for now, then in zip(rounds, [*rounds[1:], rounds[0] + n], strict=True):
            if not any(target.owner in signals[j % n].sources for j in range(now + 1, then)):
                words = (
                    f"rank {target.owner}'s block tag {target.tag} is used in round {now} and again in round {then}, "
                    f"and rank {target.owner} sends nothing to this rank in between; alternate between two blocks, and "
                    "let every rank that is written to write back each round, if only a message of no bytes"
                )
                return words, target.owner, target.tag
    return None
