"""The proof of programs: every fault by name, every algorithm, every order of arrival."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import topologies
from programs import Writer
from test_algorithms import ENTRIES, ROOTED, able, named

from topocomm import Topology
from topocomm.algorithms import make_schedule
from topocomm.errors import ProgramError
from topocomm.plan.bind import bind
from topocomm.plan.execution import Group
from topocomm.plan.orders import explore, sample
from topocomm.plan.program import BEFORE, RECV_ROLE, SCRATCH_ROLE, SEND_ROLE, Program
from topocomm.plan.prove import prove
from topocomm.schedule import Schedule
from topocomm.schedule.proving import Outcome
from topocomm.topology import random_places

PROVED = [a for a in ENTRIES if a.collective != "reduce_scatter_block"]
every_algorithm = pytest.mark.parametrize("algorithm", PROVED, ids=named)


def meaning(collective, size=2, nslots=2, **facts):
    """The facts of a schedule: there are no rounds."""
    return Schedule(size, nslots, None, collective=collective, algorithm="by_hand", **facts)


def send(start, length=1):
    return SEND_ROLE, start, length


def recv(start, length=1):
    return RECV_ROLE, start, length


def scratch(start, length=1):
    return SCRATCH_ROLE, start, length


# -- every fault by name -----------------------------------------------------------------------------------------------


def gatherer(rank, in_place=False):
    """Writes a program of an allgather of two ranks."""
    return Writer(rank, 2, ([rank], [0, 1], []), 2, in_place)


def other(rank=1):
    """A right program of the allgather: what the faulty one meets."""
    peer = 1 - rank
    return gatherer(rank).recv(peer, 0, recv(peer)).send(peer, 0, send(0)).copy(recv(rank), send(0)).end()


def accepted(programs, schedule, **orders):
    proof = prove(programs, schedule, **orders)
    assert proof.every_order == (orders.get("states", 0) > 0)
    return proof


def test_a_right_program_is_proved():
    proof = accepted([other(0), other(1)], meaning("allgather"), states=100)
    assert (proof.ranks, proof.steps, proof.messages, proof.blocks) == (2, 8, 2, 2)
    assert 4 <= proof.states < 100


FAULTS = {
    "reads nothing": (
        lambda w: w.send(1, 0, recv(0)),
        r"rank 0, step 0 \(send   1#0 ← recv\[0\]\): reads recv\[0\], which holds nothing",
    ),
    "reads what may be written": (
        lambda w: w.recv(1, 0, recv(1)).send(1, 0, recv(1)),
        r"rank 0, step 1 \(send .*\): reads recv\[1\], which message 0 of rank 1 may write",
    ),
    "copies what may be written": (
        lambda w: w.recv(1, 0, recv(1)).copy(recv(0), recv(1)),
        r"step 1 \(copy   recv\[0\] ← recv\[1\]\): reads recv\[1\], which message 0 of rank 1 may write",
    ),
    "writes what may be written": (
        lambda w: w.recv(1, 0, recv(1)).copy(recv(1), send(0)),
        r"step 1 .*: writes recv\[1\], which message 0 of rank 1 may write",
    ),
    "writes what may be read": (
        lambda w: w.copy(recv(0), send(0)).send(1, 0, recv(0)).copy(recv(0), send(0)),
        r"step 2 .*: writes recv\[0\], which message 0 to rank 1 may read",
    ),
    "receives into what may be read": (
        lambda w: w.copy(recv(1), send(0)).send(1, 0, recv(1)).recv(1, 0, recv(1)),
        r"step 2 \(recv   1#0 → recv\[1\]\): writes recv\[1\], which message 0 to rank 1 may read",
    ),
    "receives twice at one place": (
        lambda w: w.recv(1, 0, recv(1)).recv(1, 1, recv(0, 2)),
        r"step 1 .*: writes recv\[1\], which message 0 of rank 1 may write",
    ),
    "writes twice in one step": (
        lambda w: w.copy(recv(0), send(0), times=2),
        r"step 0 .*: writes a position twice",
    ),
    "copies onto itself": (
        lambda w: w.copy(recv(0), send(0)).copy(recv(0), recv(0)),
        r"step 1 .*: copies what it overwrites",
    ),
    "takes a landing that was not waited for": (
        lambda w: w.land(1, 0, recv(1)).take(1, 0, recv(1)),
        r"step 1 \(copy   recv\[1\] ← landing 1#0\): .*before it was waited for",
    ),
    "takes a landing twice": (
        lambda w: w.land(1, 0, recv(1)).arrived(1, 0).take(1, 0, recv(1)).take(1, 0, recv(0)),
        r"step 3 .*taken already",
    ),
    "leaves a landing": (lambda w: w.land(1, 0, recv(1)).arrived(1, 0), r"what landed of 1#0 is never taken"),
    "misnumbers": (lambda w: w.send(1, 1, send(0)), r"step 0 \(send   1#1 .*\): .*message 0 is the next"),
    "waits for what is not under way": (
        lambda w: w.arrived(1, 0),
        r"step 0 \(wait   arrived 1#0\): .*0 messages are under way",
    ),
    "combines into nothing": (
        lambda w: w.land(1, 0, recv(1)).arrived(1, 0).reduce(1, 0, recv(1)),
        r"step 2 .*: reads recv\[1\], which holds nothing",
    ),
    "sends too much": (
        lambda w: w.copy(recv(0), send(0)).recv(1, 0, recv(1)).arrived(1, 0).send(1, 0, recv(0, 2)),
        r"rank 1, step 0 \(recv   0#0 .*\): rank 0 sends 2 blocks in its step 3",
    ),
    "never receives": (
        lambda w: w.send(1, 0, send(0)).copy(recv(0), send(0)),
        r"rank 1, step 3 \(fence\): waits for ever: message 0 is not expected by rank 0, which has ended",
    ),
    "never sends": (
        lambda w: w.recv(1, 0, recv(1)).copy(recv(0), send(0)),
        r"rank 1, step 3 \(fence\): waits for ever: message 0 is not sent by rank 0, which has ended",
    ),
    "sends again": (
        lambda w: w.recv(1, 0, recv(1)).send(1, 0, send(0)).send(1, 1, send(0)).copy(recv(0), send(0)),
        r"rank 0, step 4 \(fence\): waits for ever: message 1 is not expected by rank 1, which has ended",
    ),
    "forgets an output": (
        lambda w: w.recv(1, 0, recv(1)).send(1, 0, send(0)),
        r"rank 0: output 0 is nothing, needs block 0 of rank 0",
    ),
    "changes places": (
        lambda w: w.recv(1, 0, recv(0)).send(1, 0, send(0)).copy(recv(1), send(0)),
        r"rank 0: output 0 is block 0 of rank 1, needs block 0 of rank 0",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault):
    write, reason = FAULTS[fault]
    with pytest.raises(ProgramError, match=reason):
        prove([write(gatherer(0)).end(), other(1)], meaning("allgather"))


def test_a_deadlock_without_buffers_is_found():
    """Each rank waits until the other has taken what it sent, before it expects anything."""

    def program(r):
        return (
            gatherer(r).send(1 - r, 0, send(0)).sent(1 - r, 0).recv(1 - r, 0, recv(1 - r)).copy(recv(r), send(0)).end()
        )  # fmt: skip

    reason = (
        r"allgather by_hand, 2 ranks: rank 0, step 1 \(wait   sent 1#0\): waits for ever: "
        r"message 0 is not expected by rank 1, which is at step 1 \(wait   sent 0#0\)"
    )
    with pytest.raises(ProgramError, match=reason):
        prove([program(0), program(1)], meaning("allgather"))
    accepted([program(0), other(1)], meaning("allgather"), states=100)


def reducer(rank, flags, size=2):
    """An allreduce of two ranks, both of which combine what they get."""
    peer = 1 - rank
    out = Writer(rank, size, ([0], [0], []), 1).copy(recv(0), send(0)).land(peer, 0, recv(0)).send(peer, 0, send(0))
    return out.arrived(peer, 0).reduce(peer, 0, recv(0), flags=flags)


def test_order_of_operands_and_same_bits():
    """Rank 0 has its own operand first, so rank 1 must have it last."""
    schedule = meaning("allreduce", nslots=1, in_order=True)
    accepted([reducer(0, 0).end(), reducer(1, BEFORE).end()], schedule, states=100)
    with pytest.raises(ProgramError, match="rank 1: output 0 is not combined in the order of ranks"):
        prove([reducer(0, 0).end(), reducer(1, 0).end()], schedule)
    with pytest.raises(ProgramError, match="rank 1: combines block 0 in another order than rank 0"):
        prove([reducer(0, 0).end(), reducer(1, 0).end()], replace(schedule, in_order=False))


def test_a_contribution_twice():
    first = reducer(0, 0).land(1, 1, recv(0)).arrived(1, 1).reduce(1, 1, recv(0)).end()
    second = reducer(1, BEFORE).send(0, 1, send(0)).end()
    reason = r"rank 0, step 7 \(reduce .*\): the contribution of rank 1 to block 0 would count twice"
    with pytest.raises(ProgramError, match=reason):
        prove([first, second], meaning("allreduce", nslots=1))


def test_blocks_of_other_sizes_do_not_meet():
    """Block 0 may be longer than block 1, though both are one position."""
    root = Writer(0, 2, ([0, 1], [0, 1], []), 2).copy(recv(0, 2), send(0, 2)).send(1, 0, send(0, 2)).end()
    leaf = Writer(1, 2, ([], [0, 1], []), 2)
    accepted([root, leaf.recv(0, 0, recv(0, 2)).end()], meaning("bcast"))
    turned = Writer(1, 2, ([], [0, 1], []), 2).land(0, 0, recv(1), recv(0)).arrived(0, 0).take(0, 0, recv(1), recv(0))
    with pytest.raises(ProgramError, match=r"rank 1, step 0 .*: rank 0 sends blocks of other sizes in its step 1"):
        prove([root, turned.end()], meaning("bcast"))
    through = Writer(1, 2, ([], [0, 1], [1, 0]), 2).recv(0, 0, recv(0, 2)).arrived(0, 0).copy(scratch(0), recv(0)).end()
    with pytest.raises(ProgramError, match=r"rank 1, step 2 .*: position 0 of its source has another size"):
        prove([root, through], meaning("bcast"))
    moved = replace(root, layout=(root.layout[0][::-1], *root.layout[1:]))
    with pytest.raises(ProgramError, match=r"rank 0: send\[0\] has not the size of block 0"):
        prove([moved, leaf.end()], meaning("bcast"))


def test_a_barrier_waits_before_it_passes_on():
    """Of three in a row the last is heard of by the middle one only."""

    def through(*steps):
        out = Writer(1, 3, ([], [], []), 0).recv(2, 0).recv(0, 0)
        for step, peer in steps:
            out = getattr(out, step)(peer, 0)
        return out.end()

    ends = [Writer(r, 3, ([], [], []), 0).send(1, 0).recv(1, 0).arrived(1, 0).end() for r in (0, 2)]
    barrier = meaning("barrier", 3, 0)
    right = through(("arrived", 0), ("arrived", 2), ("send", 0), ("send", 2))
    accepted([ends[0], right, ends[1]], barrier, states=100)
    hasty = through(("arrived", 0), ("send", 0), ("arrived", 2), ("send", 2))
    with pytest.raises(ProgramError, match="rank 0: may leave the barrier before rank 2 has arrived"):
        prove([ends[0], hasty, ends[1]], barrier)


def test_in_place_input_is_lost_where_output_may_lie_on_it():
    """A reduce_scatter in place: the only output may overlap any input, depending on sizes."""

    def program(rank, early):
        out = Writer(rank, 2, ([0, 1], [rank], [rank]), 2, in_place=True).copy(scratch(0), send(rank))
        out = out.land(1 - rank, 0, scratch(0)).send(1 - rank, 0, send(1 - rank)).arrived(1 - rank, 0)
        out = out.reduce(1 - rank, 0, scratch(0), flags=BEFORE * rank)
        return (out if early else out.sent(1 - rank, 0)).copy(recv(0), scratch(0)).end()

    schedule = meaning("reduce_scatter")
    accepted([program(0, False), program(1, False)], schedule, states=100)
    with pytest.raises(ProgramError, match=r"rank 1, step 5 .*: writes send\[0\], which message 0 to rank 0 may read"):
        prove([program(0, False), program(1, True)], schedule)
    first = Writer(0, 2, ([0, 1], [0], [0]), 2, in_place=True).copy(scratch(0), send(0)).copy(recv(0), scratch(0))
    with pytest.raises(ProgramError, match=r"rank 0, step 2 .*: reads send\[1\], which holds nothing"):
        prove([first.send(1, 0, send(1)).end(), program(1, False)], schedule)
    first = Writer(0, 2, ([0, 1], [0], [0]), 2, in_place=True).copy(recv(0), send(0))
    with pytest.raises(ProgramError, match=r"rank 0, step 0 .*: copies what it overwrites"):
        prove([first.end(), program(1, False)], schedule)


def test_in_place_input_of_an_allgather_is_where_its_block_goes():
    def program(rank):
        return gatherer(rank, in_place=True).recv(1 - rank, 0, recv(1 - rank)).send(1 - rank, 0, send(0))

    accepted([program(0).end(), program(1).end()], meaning("allgather"), states=100)
    accepted([program(0).copy(recv(0), send(0)).end(), program(1).end()], meaning("allgather"), states=100)
    with pytest.raises(ProgramError, match=r"rank 0, step 3 .*: writes recv\[0\], which message 0 to rank 1 may read"):
        prove([program(0).arrived(1, 0).copy(recv(0), recv(1)).end(), program(1).end()], meaning("allgather"))


def test_programs_and_schedule_must_fit():
    with pytest.raises(ProgramError, match="not those of ranks 0 to 1"):
        prove([other(1), other(0)], meaning("allgather"))
    with pytest.raises(ProgramError, match="not those of ranks 0 to 2"):
        prove([other(0), other(1)], meaning("allgather", 3))
    with pytest.raises(ProgramError, match="does not end with a fence"):
        prove([replace(other(0), steps=other(0).steps[:-1]), other(1)], meaning("allgather"))


# -- orders of arrival -------------------------------------------------------------------------------------------------


def racing(late):
    """Rank 0 gives away what a message may overwrite, if that is ``late``: to itself it looks the same."""
    first = gatherer(0).copy(recv(0), send(0)).copy(recv(1), send(0)).send(1, 0, recv(1))
    first = (first if late else first.sent(1, 0)).recv(1, 0, recv(1)).end()
    second = gatherer(1).copy(recv(1), send(0)).recv(0, 0, recv(0)).send(0, 0, send(0)).end()
    return [first, second]


def outcomes(job):
    """The right outcomes of an allgather of two."""
    both = job.expressions.leaves(0, 1)[0], job.expressions.leaves(1, 1)[0]
    return [Outcome(1, both, 3)] * 2


def test_orders_show_a_race_without_the_discipline():
    schedule = meaning("allgather")
    job = Group(racing(late=False), schedule)
    assert explore(job, outcomes(job), 100)[1]
    sample(job, outcomes(job), 20, seed=1)
    job = Group(racing(late=True), schedule)
    with pytest.raises(ProgramError, match=r"rank 1: output 0 is .*: it depends on the order of arrival"):
        explore(job, outcomes(job), 100)
    with pytest.raises(ProgramError, match="depends on the order of arrival"):
        sample(job, outcomes(job), 20, seed=1)
    with pytest.raises(ProgramError, match=r"step 3 .*: writes recv\[1\], which message 0 to rank 1 may read"):
        prove(racing(late=True), schedule)


def test_orders_show_what_is_combined_before_it_is_there():
    first = Writer(0, 3, ([0], [0], []), 1).recv(1, 0, recv(0)).land(2, 0, recv(0)).arrived(2, 0).reduce(2, 0, recv(0))
    others = [Writer(r, 3, ([0], [], []), 1).send(0, 0, send(0)).end() for r in (1, 2)]
    job = Group([first.end(), *others], meaning("reduce", 3, nslots=1))
    with pytest.raises(ProgramError, match=r"step 3 \(reduce .*\): combines what nothing has been written to"):
        explore(job, [Outcome(1, job.expressions.leaves(r, 0), 1) for r in range(3)], 100)


def test_exploring_gives_up_where_there_are_too_many():
    schedule = make_schedule("alltoall", "scattered", Topology.flat(4))
    proof = prove([bind(schedule, r) for r in range(4)], schedule, states=50, samples=2)
    assert (proof.states, proof.every_order) == (50, False)


# -- every algorithm ---------------------------------------------------------------------------------------------------


def programs_of(schedule, in_place=False):
    """Programs of all ranks, by way of their bytes. In place: where MPI allows it."""
    alone = schedule.collective in ("reduce", "gather", "bcast")
    here = [in_place and (r == schedule.root or not alone) for r in range(schedule.size)]
    return [Program.from_bytes(bytes(bind(schedule, r, here[r]))) for r in range(schedule.size)]


def topology_of(p):
    return random_places(p, p) if p % 2 else Topology.flat(p)


@every_algorithm
def test_programs_of_every_algorithm_are_proved(algorithm):
    """Up to 16 ranks, on equals and random places in turn, in place and not, with the operands in order and not."""
    for p in able(algorithm, 1, 16):
        topology = topology_of(p)
        ordered = algorithm.in_order and p % 3 == 1 and (topology.is_sorted or algorithm.name != "recursive_doubling")
        root = p // 2 if algorithm.collective in ROOTED else 0
        schedule = make_schedule(algorithm.collective, algorithm.name, topology, root, ordered=ordered)
        here = p % 4 in (1, 2) and algorithm.collective not in ("scatter", "barrier")
        prove(programs_of(schedule, here), schedule, samples=p == 5)


@every_algorithm
def test_every_order_of_arrival_for_two_and_three_ranks(algorithm):
    """But for a pipeline, which has 32 segments whatever it is asked for."""
    text = algorithm.name + ":segments=2" * algorithm.name.endswith("trees")
    for p in able(algorithm, 2, 3):
        schedule = make_schedule(algorithm.collective, text, random_places(p, 1))
        proof = prove(programs_of(schedule), schedule, states=1000, samples=2)
        assert proof.every_order == (algorithm.name != "pipeline")


@every_algorithm
@settings(max_examples=4)
@given(topology=topologies(max_ranks=12), data=st.data())
def test_programs_are_proved_on_random_places(algorithm, topology, data):
    p = topology.size
    if algorithm.power_of_two and p & (p - 1):
        return
    root = data.draw(st.integers(0, p - 1)) if algorithm.collective in ROOTED else 0
    options = [w for w in algorithm.ways if w != "none"] + ["radix=3", "radix=9"] * algorithm.radix
    options += ["radix=9/2"] * algorithm.radices + ["aggregate=3"] * algorithm.aggregate
    text = ":".join([algorithm.name, *data.draw(st.sampled_from([[], *([o] for o in options)]))])
    schedule = make_schedule(algorithm.collective, text, topology, root)
    here = data.draw(st.booleans()) and algorithm.collective not in ("scatter", "barrier")
    prove(programs_of(schedule, here), schedule, samples=1, seed=p)
