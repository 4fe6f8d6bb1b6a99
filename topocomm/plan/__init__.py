"""Plans: a schedule bound to counts and a rank."""

from topocomm.plan.moves import (
    LARGEST,
    RECV,
    SCRATCH,
    SEND,
    Message,
    Move,
    Plan,
    PlanRound,
    Reduction,
    block_cuts,
    make_plan,
)

__all__ = [
    "LARGEST",
    "RECV",
    "SCRATCH",
    "SEND",
    "Message",
    "Move",
    "Plan",
    "PlanRound",
    "Reduction",
    "block_cuts",
    "make_plan",
]
