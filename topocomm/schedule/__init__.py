"""Schedules: who sends which slots to whom in which round, what transforms them, and their proof. No bytes, no MPI."""

from topocomm.schedule.rounds import (
    Combine,
    RankSchedule,
    Recv,
    Round,
    Schedule,
    Send,
    Slots,
    compact,
    exchange,
    refine,
    relabel,
    reverse_rounds,
    shift_slots,
    sort_slots,
)

__all__ = [
    "Combine",
    "RankSchedule",
    "Recv",
    "Round",
    "Schedule",
    "Send",
    "Slots",
    "compact",
    "exchange",
    "refine",
    "relabel",
    "reverse_rounds",
    "shift_slots",
    "sort_slots",
]
