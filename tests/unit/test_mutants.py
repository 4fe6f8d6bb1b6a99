"""No mutant of a schedule that changes result, order or progress passes the verifier."""

from collections import Counter

import pytest
from mutation import MUTATIONS, SMALL, is_right, materialise, mutants
from test_algorithms import ENTRIES, NAMES, ROOTED

from topocomm import ScheduleError
from topocomm.algorithms import make_schedule
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send
from topocomm.schedule.verify import verify
from topocomm.topology import groups_of

EACH = 5
MACHINES = {**SMALL, "8 as 4 + 4": groups_of([4, 4])}
KILLED: Counter[str] = Counter()
EQUIVALENT: Counter[str] = Counter()
NAMELESS: list[str] = []
"""Messages of the verifier that name no algorithm and rank."""


def schedules(algorithm):
    for name, machine in MACHINES.items():
        p = machine.size
        if algorithm.power_of_two and p & (p - 1):
            continue
        root = p - 1 if algorithm.collective in ROOTED else 0
        yield name, make_schedule(algorithm.collective, algorithm.name, machine, root)
        if algorithm.in_order and (machine.is_sorted or algorithm.name != "recursive_doubling"):
            yield f"{name}, ordered", make_schedule(algorithm.collective, algorithm.name, machine, root, ordered=True)


def passes(schedule):
    try:
        verify(schedule)
    except ScheduleError as e:
        NAMELESS.extend([str(e)] * (": rank " not in str(e) or schedule.algorithm not in str(e)))
        return False
    return True


@pytest.mark.parametrize("algorithm", ENTRIES, ids=NAMES)
def test_no_harmful_mutant_passes(algorithm):
    killed, equivalent, survivors = Counter(), Counter(), []
    for where, schedule in schedules(algorithm):
        blocks = [len(part.load) for part in materialise(schedule)]
        assert is_right(schedule, blocks), f"{where}: the oracle refuses the original"
        for mutant in mutants(schedule, EACH, seed=schedule.size):
            if not passes(mutant.schedule):
                killed[mutant.kind] += 1
            elif is_right(mutant.schedule, blocks):
                equivalent[mutant.kind] += 1
            else:
                survivors.append(f"{where}: {mutant.kind}: {mutant.what}")
    assert survivors == []
    assert NAMELESS == []
    assert min(killed[kind] for kind in ("drop a send", "drop a receive", "retarget a peer")) > 0
    assert killed.total() > 4 * equivalent.total() or algorithm.collective == "barrier"
    KILLED.update(killed)
    EQUIVALENT.update(equivalent)


def test_every_kind_of_mutant_was_made_and_killed(record_property, request):
    mine = [item for item in request.session.items if item.path == request.path and "no_harmful" in item.name]
    if len(mine) < len(ENTRIES):
        pytest.skip("needs the whole file")
    record_property("killed", dict(KILLED))
    record_property("equivalent", dict(EQUIVALENT))
    assert set(KILLED) == set(MUTATIONS)
    print(f"\n{KILLED.total()} mutants caught, {EQUIVALENT.total()} equivalent: {dict(EQUIVALENT)}")


def test_a_message_of_a_rank_to_itself_is_not_combined():
    """Symbolically such a reduce is right; but engines copy what a rank sends itself."""
    own, other = range(0, 1), range(1, 2)
    fetched = Round((), (Recv(1, other),))
    combined = Round((Send(0, other),), (Recv(0, own, Combine.AFTER),))
    parts = (
        RankSchedule(own, (fetched, combined), own),
        RankSchedule(own, (Round((Send(0, own),)),), range(0)),
    )
    schedule = Schedule(2, 2, lambda r: parts[r], collective="reduce", algorithm="own")
    with pytest.raises(ScheduleError, match=r"reduce own, 2 ranks: rank 0, round 1: combines a message of its own"):
        verify(schedule)
