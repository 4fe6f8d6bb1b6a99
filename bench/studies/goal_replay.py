"""Replays a GOAL program (LogGOPSim's input) by LogGP with rendezvous: a second reading of what is exported.

    python -m bench.studies.goal_replay FILE.goal [--latency S] [--overhead S] [--speed BYTES/S]

No network: a message takes ``overhead + latency + bytes / speed`` from the moment when both its send and its receive
may begin; a rank's sends leave one overhead after the other, and each rank sends, and receives, one message at a time.
Source: T. Hoefler, T. Schneider, A. Lumsdaine: LogGOPSim, HPDC 2010 (the format and the model; none of its code).
"""

from __future__ import annotations

import argparse
import heapq
import re
import sys
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["GoalError", "Operation", "parse", "seconds"]

_LINE = re.compile(r"(l\d+): (?:(calc) (\d+)|(send|recv) (\d+)b (?:to|from) (\d+)(?: tag (\d+))?)")


class GoalError(ValueError):
    """A line that is no GOAL, or a program whose messages do not match."""


@dataclass
class Operation:
    """One operation: what it waits for (``missing`` many), and who waits for it."""

    rank: int
    kind: str
    amount: int
    peer: int = -1
    tag: int = 0
    missing: int = 0
    next: list[Operation] = field(default_factory=list, repr=False)
    ready: float = 0.0


def parse(lines: Iterable[str]) -> list[list[Operation]]:
    """The operations of every rank in the order of their lines. Raises GoalError for a line it cannot read."""
    ranks: list[list[Operation]] = []
    labels: dict[str, Operation] = {}
    declared = 0
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        needs = line.split(" requires ")
        if found := re.fullmatch(r"num_ranks (\d+)", line):
            declared = int(found[1])
        elif re.fullmatch(rf"rank {len(ranks)} {{", line):
            labels = {}
            ranks.append([])
        elif found := _LINE.fullmatch(line):
            label, calc, duration, kind, size, peer, tag = found.groups()
            which = (calc, int(duration)) if calc else (kind, int(size), int(peer), int(tag or 0))
            labels[label] = Operation(len(ranks) - 1, *which)
            ranks[-1].append(labels[label])
        elif len(needs) == 2 and needs[0] in labels and needs[1] in labels:
            labels[needs[1]].next.append(labels[needs[0]])
            labels[needs[0]].missing += 1
        elif line not in ("", "}"):
            raise GoalError(f"line {number}: {line!r} is no GOAL that this reader knows")
    if declared != len(ranks):
        raise GoalError(f"num_ranks says {declared}, the program has {len(ranks)}")
    return ranks


def _partners(ranks: list[list[Operation]]) -> dict[int, Operation]:
    """The receive of every send and the send of every receive, matched in the order of lines."""
    waiting: dict[tuple[int, int, int], deque[Operation]] = defaultdict(deque)
    found = {}
    for op in (op for ops in ranks for op in ops if op.kind == "send"):
        waiting[op.rank, op.peer, op.tag].append(op)
    for op in (op for ops in ranks for op in ops if op.kind == "recv"):
        if not waiting[op.peer, op.rank, op.tag]:
            raise GoalError(f"rank {op.rank} receives {op.amount} bytes from {op.peer} that are never sent")
        send = waiting[op.peer, op.rank, op.tag].popleft()
        if send.amount != op.amount:
            raise GoalError(f"rank {op.rank} receives {op.amount} bytes from {op.peer}, which sends {send.amount}")
        found[id(op)], found[id(send)] = send, op
    if any(waiting.values()):
        raise GoalError("some messages are sent, but never received")
    return found


def seconds(ranks: list[list[Operation]], latency: float, overhead: float, speed: float) -> float:
    """When the last operation ends. Raises GoalError for a program whose messages do not match, or that stalls."""
    partner = _partners(ranks)
    cpu, leaves, enters = ([0.0] * len(ranks) for _ in range(3))
    begun: dict[int, float] = {}
    events = [(0.0, i, op) for i, op in enumerate(op for ops in ranks for op in ops if not op.missing)]
    count, finish, done = len(events), 0.0, 0
    heapq.heapify(events)
    while events:
        now, _, op = heapq.heappop(events)
        ended = [op]
        if op.kind == "calc":
            end = now + op.amount * 1e-9
        else:
            begun[id(op)] = now + overhead
            if op.kind == "send":
                cpu[op.rank] = begun[id(op)] = max(now, cpu[op.rank]) + overhead
            other = partner[id(op)]
            if id(other) not in begun:
                continue
            send, recv = (op, other) if op.kind == "send" else (other, op)
            start = max(begun[id(op)], begun[id(other)], leaves[send.rank], enters[recv.rank])
            leaves[send.rank] = enters[recv.rank] = start + op.amount / speed
            end = start + latency + op.amount / speed
            ended.append(other)
        finish = max(finish, end)
        done += len(ended)
        for one in ended:
            for after in one.next:
                after.missing -= 1
                after.ready = max(after.ready, end)
                if not after.missing:
                    count += 1
                    heapq.heappush(events, (after.ready, count, after))
    if done < sum(map(len, ranks)):
        raise GoalError(f"{sum(map(len, ranks)) - done} operations never begin: they wait for each other")
    return finish


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--latency", type=float, default=0.5e-6)
    parser.add_argument("--overhead", type=float, default=0.5e-6)
    parser.add_argument("--speed", type=float, default=12.5e9)
    args = parser.parse_args()
    try:
        ranks = parse(args.file.read_text(encoding="utf-8").splitlines())
        print(f"{len(ranks)} ranks: {seconds(ranks, args.latency, args.overhead, args.speed) * 1e6:.3f} us")
    except (OSError, GoalError) as error:
        print(f"{args.file.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
