"""No mutant of programs that changes result, order or progress passes the proof: what it accepts is run with data."""

import random
import re
from collections import Counter, deque

import numpy as np
import pytest
from mutation import SMALL, append, expected, inputs, pair, words
from programs import MUTATIONS, mutants

from topocomm.algorithms import find, make_schedule
from topocomm.collectives import COLLECTIVES, REDUCING
from topocomm.engines import local
from topocomm.engines.walk import Loaded, walk
from topocomm.errors import ProgramError
from topocomm.plan.bind import bind
from topocomm.plan.program import Program
from topocomm.plan.prove import prove

CASES = [
    ("allreduce", "rabenseifner"),
    ("allgather", "recursive_doubling"),
    ("reduce_scatter", "recursive_halving"),
    ("reduce_scatter_block", "recursive_halving"),
    ("alltoall", "scattered"),
    ("bcast", "scatter_allgather"),
    ("reduce", "rabenseifner"),
    ("gather", "binomial"),
    ("scatter", "binomial"),
    ("scan", "prefix_doubling"),
    ("exscan", "prefix_doubling"),
    ("barrier", "dissemination"),
    ("reduce", "binomial"),
    ("allreduce", "ring"),
    ("allgather", "ring"),
]
"""A usual algorithm of every collective, one that keeps operands in order, and rings, which have loops."""
ORDERS = 3
KILLED: Counter[str] = Counter()
EQUIVALENT: Counter[str] = Counter()
NAMELESS: list[str] = []
"""Refusals that give no reason in terms of ranks, steps, programs or runs."""


class Arrivals:
    """Messages that arrive at any moment from which both sides have posted them; their source is read only then."""

    def __init__(self):
        self.sends, self.receives, self.ready, self.done = {}, {}, [], set()

    def post(self, key, known, data):
        known[key] = data
        if key in self.sends and key in self.receives:
            self.ready.append(key)

    def deliver(self, index):
        key = self.ready.pop(index)
        assert len(self.receives[key]) == len(self.sends[key])
        self.receives[key][:] = self.sends[key]
        self.done.add(key)


class Port:
    """One rank's port: a message is complete on both sides once it has arrived."""

    def __init__(self, arrivals, rank):
        self.arrivals, self.rank, self.posted = arrivals, rank, []

    def send(self, peer, number, data):
        self.posted.append((self.rank, peer, number))
        self.arrivals.post(self.posted[-1], self.arrivals.sends, data)

    def expect(self, peer, number, data):
        self.posted.append((peer, self.rank, number))
        self.arrivals.post(self.posted[-1], self.arrivals.receives, data)

    def arrived(self, peer, number):
        return (peer, self.rank, number) in self.arrivals.done

    def sent(self, peer, number):
        return (self.rank, peer, number) in self.arrivals.done

    def exchange(self, to, number, data, source, expected, into):
        return False

    def fence(self):
        return all(key in self.arrivals.done for key in self.posted)


def run(schedule, programs, data, op, rng, absent=None):
    """Run programs with messages arriving in a random order; the outputs, and the ranks that ended.

    Rank ``absent`` never begins.
    """
    dtype, counts, arrivals = data[0].dtype, local._counts(schedule, data), Arrivals()
    outputs, walks = [], {}
    for r, program in enumerate(programs):
        sized = Loaded(program).size(counts, dtype.itemsize)
        outputs.append(np.zeros(local._out_count(schedule, r, counts), dtype))
        own = [np.zeros(n, np.uint8) for n in (sized.scratch_bytes, sized.own_bytes)]
        regions = data[r].view(np.uint8), outputs[r].view(np.uint8), *own
        walks[r] = walk(sized, regions, Port(arrivals, r), local._combine(dtype, op))
    waiting, still, early = deque(r for r in walks if r != absent), 0, rng.random()
    while waiting and (still <= len(waiting) or arrivals.ready):
        if arrivals.ready and (rng.random() < early or still > len(waiting)):
            arrivals.deliver(rng.randrange(len(arrivals.ready)))
            still = 0
        waiting.rotate(-1)
        before = len(arrivals.sends) + len(arrivals.receives)
        if next(walks[waiting[-1]], True):
            waiting.pop()
            still = 0
        still = still + 1 if before == len(arrivals.sends) + len(arrivals.receives) else 0
    return outputs, set(walks) - set(waiting) - {absent}


def same(found, wanted):
    return all(a.shape == b.shape and bool((a == b).all()) for a, b in zip(found, wanted, strict=True))


def is_barrier(schedule, programs):
    """Whether all leave when all have come, and nobody while any one rank has not."""
    everybody, nothing = set(range(schedule.size)), [np.empty(0)] * schedule.size

    def ended(absent):
        return run(schedule, programs, nothing, np.add, random.Random(1), absent)[1]

    return ended(None) == everybody and not any(ended(rank) for rank in everybody)


def is_right(schedule, programs):
    """Whether running the programs ends with the right results, in the right order, however messages arrive."""
    if schedule.collective == "barrier":
        return is_barrier(schedule, programs)
    blocks = [len(schedule.part(r).load) // schedule.pieces for r in range(schedule.size)]
    data, rng, everybody = inputs(schedule, blocks, 2, seed=1), random.Random(1), set(range(schedule.size))
    right = expected(schedule, data)
    if not same(local.run_programs(schedule, programs, data), right):
        return False
    for _ in range(ORDERS):
        outputs, ended = run(schedule, programs, data, np.add, rng)
        if ended != everybody or not same(outputs, right):
            return False
    if schedule.in_order and schedule.collective in REDUCING:
        letters = [words(d) for d in data]
        if not same(local.run_programs(schedule, programs, letters, append), expected(schedule, letters, append)):
            return False
    if schedule.collective == "allreduce":
        trees = local.run_programs(schedule, programs, data, pair)
        return same(trees, [trees[0]] * schedule.size)
    return True


def runs_right(schedule, programs):
    """Whether they are right; what an engine raises means that they are not."""
    try:
        return is_right(schedule, programs)
    except Exception:
        return False


def passes(schedule, programs):
    try:
        prove(programs, schedule)
    except ProgramError as e:
        NAMELESS.extend([repr(e)] * (not re.search(r"rank|step|program|run", str(e))))
        return False
    return True


def schedules(collective, algorithm):
    for name, machine in SMALL.items():
        root = machine.size - 1 if COLLECTIVES[collective].rooted else 0
        ordered = find(collective, algorithm)[0].in_order and machine.is_sorted and machine.size % 2 == 1
        yield name, make_schedule(collective, algorithm, machine, root, ordered=ordered)


@pytest.mark.parametrize(("collective", "algorithm"), CASES, ids=["-".join(case) for case in CASES])
def test_no_harmful_mutant_is_proved(collective, algorithm):
    killed, equivalent, survivors = Counter(), Counter(), []
    for number, (name, schedule) in enumerate(schedules(collective, algorithm)):
        programs = [Program.from_bytes(bytes(bind(schedule, r))) for r in range(schedule.size)]
        assert passes(schedule, programs)
        assert runs_right(schedule, programs), f"{name}: the oracle refuses the original"
        for mutant in mutants(programs, 2, seed=number):
            if not passes(schedule, mutant.programs):
                killed[mutant.kind] += 1
            elif runs_right(schedule, mutant.programs):
                equivalent[mutant.kind] += 1
            else:
                survivors.append(f"{name}: {mutant.kind}: {mutant.what}")
    assert survivors == []
    assert NAMELESS == []
    assert killed["drop a step"] > 0
    assert killed.total() > 30
    KILLED.update(killed)
    EQUIVALENT.update(equivalent)


def test_every_kind_of_mutant_was_made_and_killed(request):
    """But for those that no default algorithm has an operand for."""
    mine = [item for item in request.session.items if item.path == request.path and "no_harmful" in item.name]
    if len(mine) < len(CASES):
        pytest.skip("needs the whole file")
    print(f"\n{KILLED.total()} mutants refused, {EQUIVALENT.total()} equivalent: {dict(EQUIVALENT)}")
    assert set(KILLED) == set(MUTATIONS)
    assert KILLED.total() > 3 * EQUIVALENT.total()
