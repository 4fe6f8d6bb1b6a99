"""Orders of arrival: all programs run again, with messages arriving at every moment, or at random ones.

A message arrives at any moment from which both its SEND and its RECV have run until somebody waits for it; its source
is read, and its target or landing written, at that moment. The discipline is not looked at here: a race shows by what
it does. Steps that read and write no memory (SEND, RECV, and WAIT and FENCE once they may go on) run at once; for they
concern nothing that could happen before them, and what they allow to happen need not happen yet. So does any step of a
rank that has no message under way.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from copy import copy
from typing import TypeAlias

import numpy as np

from topocomm.plan.cells import Operation
from topocomm.plan.execution import Execution, Group, Message
from topocomm.plan.program import COPY, REDUCE
from topocomm.schedule.proving import NOTHING, Outcome

__all__ = ["explore", "sample"]

Event: TypeAlias = Message | int
"""The arrival of a message, or the next step of a rank."""


class _Order(Execution):
    """An execution in which somebody else says what happens next."""

    def __init__(self, group: Group) -> None:
        steps: Sequence[Sequence[Operation | None]] = [[*memory.operations(), None] for memory in group.memories]
        super().__init__(group, steps)
        self.deliverable: dict[Message, None] = {}
        self.due: dict[int, None] = {}  # ranks whose next step reads or writes memory
        self._settle(range(len(self.at)))

    def clone(self) -> _Order:
        """Return an execution in the same state, which goes its own way."""
        other = copy(self)
        for name in ("at", "sent", "posted", "arrived", "landings", "open", "heard", "deliverable", "due"):
            setattr(other, name, getattr(self, name).copy())
        other.values = [held.copy() for held in self.values]
        other.news = [news.copy() for news in self.news]
        return other

    def state(self) -> tuple[object, ...]:
        """Return what everything that can still happen depends on."""
        landings = frozenset((message, content.tobytes()) for message, content in self.landings.items())
        return tuple(self.at), frozenset(self.arrived), landings, b"".join(held.tobytes() for held in self.values)

    def do(self, event: Event) -> None:
        """Let an event happen, and all that need not wait after it."""
        if isinstance(event, int):
            op = self.current(event)
            assert op is not None
            del self.due[event]
            self._run(event, op)
            self._settle((event,))
        else:
            del self.deliverable[event]
            self.deliver(event)
            self._settle(event[:2])

    def _settle(self, ranks: Iterable[int]) -> None:
        for rank in ranks:
            while (op := self.current(rank)) is not None and self.can_run(rank, op):
                if op.code in (COPY, REDUCE) and self.open[rank]:
                    self.due[rank] = None
                    break
                self.due.pop(rank, None)
                self._run(rank, op)

    def _run(self, rank: int, op: Operation) -> None:
        if op.code == REDUCE:
            landing = self.landings.get((op.peer, rank, op.message))
            if (self.values[rank][op.cells] == NOTHING).any() or (landing is not None and (landing == NOTHING).any()):
                raise self.group.fail(rank, "combines what nothing has been written to", op)
        message = self.step(rank, op)
        if message is not None:
            self.deliverable[message] = None

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Raise ProgramError unless every rank has ended, and has the outcome that it had before."""
        error = self.stuck()
        if error is not None:
            raise error
        for rank, outcome in enumerate(outcomes):
            found = self.outcome(rank).found
            wrong = np.flatnonzero(found != outcome.found)
            if len(wrong):
                name, i = self.group.expressions.name, wrong[0]
                text = f"output {i} is {name(found[i])} or {name(outcome.found[i])}: it depends on the order of arrival"
                raise self.group.fail(rank, text)


def explore(group: Group, outcomes: Sequence[Outcome], limit: int) -> tuple[int, bool]:
    """Run all orders of arrival; return how many states they have, and whether these were all.

    It gives up after ``limit`` states. Raises ProgramError if an order does not end with ``outcomes``.
    """
    seen: set[tuple[object, ...]] = set()
    stack = [_Order(group)]
    while stack:
        order = stack.pop()
        state = order.state()
        if state in seen:
            continue
        if len(seen) == limit:
            return limit, False
        seen.add(state)
        events: list[Event] = [*order.due, *order.deliverable]
        if not events:
            order.finish(outcomes)
            continue
        for event in events[1:]:
            other = order.clone()
            other.do(event)
            stack.append(other)
        order.do(events[0])
        stack.append(order)
    return len(seen), True


def sample(group: Group, outcomes: Sequence[Outcome], samples: int, seed: int) -> None:
    """Run ``samples`` random orders of arrival: most of them early, late, or the last sent first.

    Raises ProgramError if one does not end with ``outcomes``.
    """
    rng = random.Random(seed)
    for _ in range(samples):
        order, late, last_first = _Order(group), rng.random(), rng.random() < 0.5
        while order.due or order.deliverable:
            if order.due and (not order.deliverable or rng.random() < late):
                order.do(rng.choice(list(order.due)))
            elif last_first:
                order.do(next(reversed(order.deliverable)))
            else:
                order.do(rng.choice(list(order.deliverable)))
        order.finish(outcomes)
