"""The exported GOAL program, read by a simulator of its own, takes what the model says where nothing contends."""

import numpy as np
import pytest

from bench.studies import goal_replay
from topocomm.algorithms import make_schedule
from topocomm.model import Level, Machine, Network, schedule_time, transfers
from topocomm.model.export import goal
from topocomm.topology import Topology

LATENCY, OVERHEAD, SPEED = 1e-6, 0.5e-6, 10e9
FREE = Level("rank", 1e15, 1e15, 0.0)
MACHINE = Machine("levels", (Level("node", SPEED, SPEED, LATENCY / 2),), FREE, OVERHEAD, eager=0)
CASES = [
    ("allreduce", "textbook_recursive_doubling"),
    ("allreduce", "rabenseifner"),
    ("allreduce", "ring"),
    ("allgather", "bruck"),
    ("reduce_scatter", "textbook_bine"),
    ("alltoall", "pairwise"),
    ("bcast", "binomial"),
    ("bcast", "pipeline"),
    ("reduce", "rabenseifner"),
    ("barrier", "textbook_dissemination"),
]


@pytest.mark.parametrize("p", [8, 13, 32])
@pytest.mark.parametrize(("collective", "name"), CASES)
def test_time_is_that_of_the_model(collective, name, p):
    if collective == "reduce_scatter" and p % 2:
        p += 1
    topology = Topology(("node",), np.arange(p)[:, None])
    nbytes = 6400 * p
    replayed = goal_replay.seconds(
        goal_replay.parse(goal(make_schedule(collective, name, topology), nbytes)), LATENCY, OVERHEAD, SPEED
    )
    modelled = schedule_time(transfers(collective, name, topology), Network(MACHINE, topology), nbytes, window=0)
    assert replayed == pytest.approx(modelled, rel=1e-3)


PROGRAM = ["num_ranks 2", "rank 0 {", "l1: send 100b to 1 tag 0", "}", "rank 1 {", "l1: recv 100b from 0 tag 0", "}"]


@pytest.mark.parametrize(
    ("line", "text", "says"),
    [
        (0, "num_ranks 3", "says 3, the program has 2"),
        (2, "l1: fly 100b to 1", "line 3: .* is no GOAL"),
        (2, "l1: calc 5", "never sent"),
        (5, "l1: calc 5", "never received"),
        (5, "l1: recv 99b from 0 tag 0", "receives 99 bytes from 0, which sends 100"),
        (2, "l2 requires l1", "line 3"),
    ],
)
def test_bad_programs_are_named(line, text, says):
    with pytest.raises(goal_replay.GoalError, match=says):
        goal_replay.seconds(goal_replay.parse([*PROGRAM[:line], text, *PROGRAM[line + 1 :]]), 1e-6, 0.0, 1e9)


def test_operations_that_wait_for_each_other_are_found():
    ranks = []
    for rank in (0, 1):
        peer = 1 - rank
        ranks += [f"rank {rank} {{", f"l1: recv 8b from {peer}", f"l2: send 8b to {peer}", "l2 requires l1", "}"]
    with pytest.raises(goal_replay.GoalError, match="never begin"):
        goal_replay.seconds(goal_replay.parse(["num_ranks 2", *ranks]), 1e-6, 0.0, 1e9)


def test_one_message():
    found = goal_replay.seconds(goal_replay.parse(PROGRAM), 1e-6, 0.5e-6, 1e9)
    assert found == pytest.approx(0.5e-6 + 1e-6 + 0.1e-6)
