"""Prove programs without running them: all ranks' programs together, by symbolic execution, for all sizes at once.

Every position of memory holds an expression over the ranks' input blocks (:mod:`topocomm.schedule.proving`). Shown is
that

* each program keeps inside its memory and its numbers (:mod:`topocomm.plan.check`), and the *discipline*
  (:mod:`topocomm.plan.discipline`): no step reads or writes what a message under way may write or read;
* message n from rank a to rank b is sent and expected, with blocks of the same sizes, position by position;
* every rank ends, even if a SEND is complete only once its RECV has been posted;
* every output holds every contribution exactly once, in the order of ranks where that is claimed, and by the same
  expression at all ranks of an allreduce.

**One order of arrival is enough.** A program has no branches: which step comes next never depends on data or on time,
and each SEND has its one RECV by its number. Two things are left to chance. *When a message arrives*: anywhere between
the later of SEND and RECV, and the WAITs for it. By the discipline its source is not written while it is under way, so
it carries the same content whenever it is read (even if an engine takes a copy at once, and lets the sender go on); and
nobody looks at its target before the WAIT, so it is the same as if it had been written just then. *Which rank goes
first*: a step reads and writes its own rank's memory only, and what may run or arrive stays so whatever else happens
first. Any two events that could happen next can therefore happen in either order with the same result, and as in a
network of Kahn's processes all orders end in the same state, or all of them with the same ranks waiting for ever. An
engine that buffers lets more happen, never less.

That argument rests on the code that checks the discipline. So orders are run as well, without it: *all* of them as long
as there are few (:func:`topocomm.plan.orders.explore`), else some at random, and must end alike. All orders are
feasible for two and three ranks with every algorithm (at most 1000 states) but those of many segments; for four ranks
with most (at most 20000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from topocomm.plan.check import check
from topocomm.plan.execution import Group, run_at_once
from topocomm.plan.orders import explore, sample
from topocomm.plan.program import Program
from topocomm.schedule.proving import check_results
from topocomm.schedule.rounds import Schedule

__all__ = ["ProgramProof", "prove"]


class ProgramProof(NamedTuple):
    """The extent of a proof of programs."""

    ranks: int
    steps: int
    """All ranks' steps, loops written out."""
    messages: int
    blocks: int
    states: int
    """States of the orders of arrival that were run; 0 if none were asked for."""
    every_order: bool
    """Whether these were all."""


def prove(
    programs: Sequence[Program], schedule: Schedule, states: int = 0, samples: int = 0, seed: int = 1
) -> ProgramProof:
    """Prove that the programs of all ranks, in order, do what the schedule's collective means.

    Parameters
    ----------
    schedule
        Read are its collective, algorithm, size, root, pieces and ``in_order``, not its rounds.
    states
        All orders of arrival are run, unless they have more states than this. 0: none.
    samples, seed
        If that is so, this many random orders are run instead.

    Raises
    ------
    ProgramError
        Naming rank, step and its text, and the reason, of the first fault found.
    """
    for program in programs:
        check(program)
    group = Group(programs, schedule)
    execution = run_at_once(group)
    outcomes = [execution.outcome(rank) for rank in range(len(programs))]
    check_results(schedule, group.expressions, outcomes, group.fail)
    explored, every = explore(group, outcomes, states) if states else (0, False)
    if not every:
        sample(group, outcomes, samples, seed)
    counts = sum(execution.at), len(execution.arrived), execution.blocks
    return ProgramProof(len(programs), *counts, explored, every)
