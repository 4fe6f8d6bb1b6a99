"""Programs that end if calls which nobody waits for go on: non-blocking and persistent ones beside MPI's blocking ones.

Rank 0 starts a collective and enters a blocking call whose partner, rank 1, waits for the collective first; or rank 1
makes the partner call before it starts the collective. Every pair of calls runs in both orders, for each way a call may
take.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from harness import check, raised, wrap
from mpi4py import MPI

import topocomm
from topocomm.engines import requests
from topocomm.engines.requests import Work
from topocomm.topology import Topology

REQUESTS = int(os.environ.get("WAITING_REQUESTS", "300"))
"""That nobody waits for, of each way."""
BIG = 1 << 20
"""Bytes that no library sends before the receiver is there."""
Side = Callable[[MPI.Intracomm], object]


def _small() -> Any:
    return np.zeros(1)


def _big() -> Any:
    return np.zeros(BIG, np.uint8)


def _waited(request: MPI.Request) -> None:
    request.Wait()


def _until(over: Callable[[], object]) -> None:
    while not over():
        time.sleep(0)


def _tested(request: MPI.Request) -> None:
    _until(request.Test)


def _window(comm: MPI.Intracomm, role: int) -> None:
    win = MPI.Win.Allocate(8, comm=comm)
    win.Fence()
    if role == 0:
        win.Put(np.ones(1), 1)
    win.Fence()
    win.Free()


PARTNERS: dict[str, tuple[Side, Side]] = {
    "Recv": (lambda c: c.Recv(_small(), 1), lambda c: c.Send(_small(), 0)),
    "Recv, large": (lambda c: c.Recv(_big(), 1), lambda c: c.Send(_big(), 0)),
    "Send, large": (lambda c: c.Send(_big(), 1), lambda c: c.Recv(_big(), 0)),
    "Ssend": (lambda c: c.Ssend(_small(), 1), lambda c: c.Recv(_small(), 0)),
    "Sendrecv": (lambda c: c.Sendrecv(_big(), 1, 0, _big(), 1), lambda c: c.Sendrecv(_big(), 0, 0, _big(), 0)),
    "Probe": (lambda c: (c.Probe(1), c.Recv(_small(), 1)), lambda c: c.Send(_small(), 0)),
    "Mprobe": (lambda c: c.Mprobe(1).Recv(_small()), lambda c: c.Send(_small(), 0)),
    "Wait": (lambda c: _waited(c.Irecv(_small(), 1)), lambda c: c.Send(_small(), 0)),
    "Test": (lambda c: _tested(c.Irecv(_small(), 1)), lambda c: c.Send(_small(), 0)),
    "Waitany": (lambda c: MPI.Request.Waitany([c.Irecv(_small(), 1)]), lambda c: c.Send(_small(), 0)),
    "Waitsome": (lambda c: MPI.Request.Waitsome([c.Isend(_big(), 1)]), lambda c: c.Recv(_big(), 0)),
    "Waitall": (lambda c: MPI.Request.Waitall([c.Isend(_big(), 1)]), lambda c: c.Recv(_big(), 0)),
    "recv": (lambda c: c.recv(source=1), lambda c: c.send("word", 0)),
    "ssend": (lambda c: c.ssend("word", 1), lambda c: c.recv(source=0)),
}
"""What ranks 0 and 1 call of MPI beside the collective."""
EVERYBODY: dict[str, Callable[[MPI.Intracomm, int], object]] = {
    "Barrier": lambda c, _: c.Barrier(),
    "Bcast": lambda c, _: c.Bcast(_big()),
    "Allreduce": lambda c, _: c.Allreduce(MPI.IN_PLACE, _small()),
    "allgather": lambda c, role: c.allgather(role),
    "Dup": lambda c, _: c.Dup().Free(),
    "Split": lambda c, role: c.Split(0, -role).Free(),
    "Win": _window,
    "Ibarrier": lambda c, _: c.Ibarrier().Wait(),
}
"""The same where all ranks call, on another communicator."""


def _ways(world: MPI.Intracomm) -> Iterator[tuple[str, topocomm.Comm]]:
    """Communicators whose calls go by programs of each engine, whether or not private messages are there; shared."""
    for engine in ("c", "python"):
        named = {"allreduce": "ring", "barrier": "dissemination"}
        yield engine, wrap(world.Dup(), "apart", algorithm=named, engine=engine)
    if world.size > 1:
        one_node = Topology(("node",), [[0]] * world.size)
        shared = topocomm.Comm(world.Dup(), topology=one_node, algorithm={"allreduce": "shared", "barrier": "shared"})
        shared.Barrier()
        yield "shared", shared


class Collective:
    """An allreduce that is waited for later: a non-blocking one, or each start of a persistent one."""

    def __init__(self, comm: topocomm.Comm, n: int, persistent: bool = False) -> None:
        self.comm, self.n = comm, n
        self.given, self.got = np.full(n, comm.rank + 1.0), np.zeros(n)
        self.again = comm.Allreduce_init(self.given, self.got) if persistent else None
        self.request: Any = self.again
        assert persistent is False or isinstance(self.again, topocomm.Prequest)

    def start(self) -> None:
        """Start it."""
        self.got[:] = 0
        if self.again is not None:
            self.again.Start()
        else:
            self.request = self.comm.Iallreduce(self.given, self.got)
            assert isinstance(self.request, topocomm.Request)

    def wait(self) -> None:
        """Wait for it, and look at the result."""
        self.request.Wait()
        p = self.comm.size
        assert (self.got == p * (p + 1) / 2).all()


def _sizes(way: str) -> tuple[int, ...]:
    return (1, 400) if way == "shared" else (1, 30_000)


@check(2)
def started_calls_go_on_beside_every_blocking_call(world: MPI.Intracomm) -> None:
    """Rank 1 waits for the collective before it does what rank 0 waits for; and the other way round."""
    for way, comm in _ways(world):
        for n in _sizes(way):
            for persistent in (False, True):
                call = Collective(comm, n, persistent)
                for sides in PARTNERS.values():
                    _beside(world, call, sides)
                for everybody in EVERYBODY.values():
                    call.start()
                    if world.rank == 1:
                        call.wait()
                    everybody(world, world.rank)
                    if world.rank != 1:
                        call.wait()
        comm.Free()


def _beside(world: MPI.Intracomm, call: Collective, sides: tuple[Side, Side]) -> None:
    first, second = sides
    call.start()
    if world.rank == 0:
        first(world)
    call.wait()
    if world.rank == 1:
        second(world)
    # no start waits: the partner comes before it on rank 1
    if world.rank == 1:
        second(world)
    call.start()
    if world.rank == 0:
        first(world)
    call.wait()


@check(2)
def who_waits_for_a_call_drives_mpi(world: MPI.Intracomm) -> None:
    """Rank 0 starts late: rank 1, which waits or tests for the call, must first take a large message from it."""
    ways: list[Callable[[MPI.Request], object]] = [lambda r: r.Wait(), lambda r: topocomm.Request.Waitall([r])]
    ways += [lambda r: _until(r.Test), lambda r: _until(lambda: r.test()[0]), lambda r: _until(r.Get_status)]
    for name, comm in _ways(world):
        for persistent in (False, True):
            call = Collective(comm, _sizes(name)[0], persistent)
            for way in ways:
                message = np.full(BIG, world.rank, np.uint8)
                if world.rank == 0:
                    world.Isend(message, 1).Wait()
                request = world.Irecv(message, 0) if world.rank == 1 else MPI.REQUEST_NULL
                call.start()
                if world.rank == 1:
                    way(call.request)
                call.wait()
                request.Wait()
                assert (message == (0 if world.rank < 2 else world.rank)).all()
        comm.Free()


@check(2)
def a_first_start_waits_for_nobody(world: MPI.Intracomm) -> None:
    """Each rank of a pair, on communicators that made no call before, wrapped ones and derived ones."""
    for engine in ("c", "python"):
        for late, derived in ((0, False), (1, True), (0, True), (1, False)):
            comm = wrap(world.Dup(), "apart", engine=engine, algorithm={"bcast": "textbook_binomial"})
            comm = comm.Split(0, world.rank) if derived else comm
            got = np.zeros(5)
            if world.rank == late:
                world.Recv(_small(), 1 - late)
            request = comm.Iallreduce(np.ones(5), got, algorithm="ring")
            assert isinstance(request, topocomm.Request)
            again = comm.Iallreduce(np.ones(5), other := np.zeros(5), algorithm="ring")
            if world.rank == 1 - late:
                world.Send(_small(), late)
            comm.Allreduce(np.ones(5), third := np.zeros(5), algorithm="ring")
            MPI.Request.Waitall([request, again])
            assert (got == comm.size).all()
            assert (other == comm.size).all()
            assert (third == comm.size).all()
            comm.Free()


@check(2)
def lists_of_requests_mix(world: MPI.Intracomm) -> None:
    """MPI's own waits take ours beside others, see no end too early, and leave them as ended."""
    there, here = (world.rank + 1) % world.size, (world.rank - 1) % world.size
    waits: list[Callable[[list[MPI.Request]], object]] = [
        MPI.Request.Waitall, topocomm.Request.Waitall, _by_any, _by_some, _by_testing, MPI.Request.waitall,
    ]  # fmt: skip
    for _, comm in _ways(world):
        for wait in waits:
            calls = [Collective(comm, n) for n in (1, 300, 5)]
            for call in calls:
                call.start()
            assert all(call.request for call in calls)
            message = np.zeros(3)
            others = [world.Isend(np.full(3, 7.0), there), world.Irecv(message, here)]
            wait([calls[2].request, others[0], calls[0].request, others[1], calls[1].request])
            assert (message == 7).all()
            assert not any(call.request for call in calls)
            for call in calls:
                call.wait()
        comm.Free()


def _by_any(requests: list[MPI.Request]) -> None:
    seen = sorted(MPI.Request.Waitany(requests) for _ in requests)
    assert seen == list(range(len(requests)))


def _by_some(requests: list[MPI.Request]) -> None:
    seen: list[int] = []
    while len(seen) < len(requests):
        seen += MPI.Request.Waitsome(requests) or []
    assert sorted(seen) == list(range(len(requests)))


def _by_testing(requests: list[MPI.Request]) -> None:
    while not MPI.Request.Testall(requests):
        time.sleep(0)


@check(2)
def several_communicators_and_threads_wait_in_any_order(world: MPI.Intracomm) -> None:
    """Every rank waits in another order; two threads of a rank use communicators of their own."""
    comms = [comm for _ in range(2) for _, comm in _ways(world)]
    calls = [Collective(comm, n) for comm in comms for n in (1, 200, 500)]
    for call in calls:
        call.start()
    for i in np.random.default_rng(world.rank).permutation(len(calls)):
        calls[i].wait()

    def loop(call: Collective) -> None:
        for _ in range(20):
            call.start()
            call.wait()

    threads = [threading.Thread(target=loop, args=(Collective(comm, 300),)) for comm in comms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for comm in comms:
        comm.Free()


@check()
def requests_that_nobody_waits_for_leave_nothing(world: MPI.Intracomm) -> None:
    """Freed, dropped, tested and cancelled requests, with arrays that nobody else holds; then right results."""
    for _, comm in _ways(world):
        before = threading.active_count()
        for i in range(REQUESTS):
            request = comm.Iallreduce(np.ones(100), np.zeros(100))
            if i % 3 == 0:
                request.Free()
                assert not request
            elif i % 3 == 1:
                del request
            else:
                request.Test()
        assert threading.active_count() <= before + 1
        request = comm.Iallreduce(np.ones(4), got := np.zeros(4))
        error = raised(request.Cancel)
        assert isinstance(error, MPI.Exception)
        assert error.Get_error_class() == MPI.ERR_REQUEST
        request.Wait()
        assert (got == comm.size).all()
        while any(work.is_under_way for work in _works()):
            time.sleep(0.001)
        comm.Iallreduce(np.ones(4), got).Wait()  # which lets go of those that have ended
        assert len(_works()) < 100
        comm.Free()


@check(2)
def a_start_looks_at_few_calls_that_nobody_waits_for(world: MPI.Intracomm) -> None:
    """Rank 1 starts late: what rank 0 dropped is under way, and a start looks at a few of that."""
    looks = 0

    def counted(gone: Callable[[Any], bool]) -> Callable[[Any], bool]:
        def look(kept: Any) -> bool:
            nonlocal looks
            looks += 1
            return gone(kept)

        return look

    before = requests._freed, requests._retired
    comm = wrap(world.Dup(), "apart", algorithm={"allreduce": "ring"}, engine="c")
    requests._freed, requests._retired = map(counted, before)
    try:
        if world.rank == 1:
            world.Recv(_small(), 0)
        for i in range(REQUESTS):
            request = comm.Iallreduce(np.ones(10), np.zeros(10))
            if i % 2:
                request.Free()
            del request
        if world.rank == 0:
            world.Send(_small(), 1)
        assert looks <= 12 * REQUESTS
    finally:
        requests._freed, requests._retired = before
    comm.Iallreduce(np.ones(10), got := np.zeros(10)).Wait()
    assert (got == world.size).all()
    while any(work.is_under_way for work in _works()):
        time.sleep(0.001)
    comm.Free()


def _works() -> list[Work]:
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, Work)]


class _AlarmError(Exception):
    """Raised by a signal's handler."""


def _ring(*_: object) -> None:
    raise _AlarmError


@check(2)
def an_interrupted_wait_is_made_again(world: MPI.Intracomm) -> None:
    """A signal ends the wait of rank 0, not the call."""
    before = signal.signal(signal.SIGALRM, _ring)
    for way, comm in _ways(world):
        for persistent in (False, True):
            call = Collective(comm, _sizes(way)[1], persistent)
            if world.rank == 0:
                call.start()
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                assert isinstance(raised(call.request.Wait), _AlarmError)
                world.Send(_small(), 1)
            elif world.rank == 1:
                world.Recv(_small(), 0)
                call.start()
            else:
                call.start()
            call.wait()
        comm.Free()
    signal.signal(signal.SIGALRM, before)


class Packed:
    """A broadcast of doubles that lie apart: its result is put in place when it is complete."""

    def __init__(self, way: str, comm: topocomm.Comm, kind: MPI.Datatype) -> None:
        self.comm, self.kind = comm, kind
        self.algorithm = "shared" if way == "shared" else "textbook_binomial"
        self.root = comm.rank == 0
        self.data = np.full(600, 3.0 if self.root else -1.0)

    def start(self) -> MPI.Request:
        """Start it, as a non-blocking call."""
        return self.comm.Ibcast([self.data, 1, self.kind], algorithm=self.algorithm)

    def is_there(self) -> bool:
        """True if the result is, and nothing else was written."""
        return bool((self.data[::2] == 3).all() and (self.data[1::2] == (3 if self.root else -1)).all())


def _packed(world: MPI.Intracomm, n: int) -> Iterator[Packed]:
    """``n`` of them, of each way."""
    kind = MPI.DOUBLE.Create_vector(300, 1, 2).Commit()
    for way, comm in _ways(world):
        for _ in range(n):
            yield Packed(way, comm, kind)
        comm.Free()
    kind.Free()


@check(2)
def a_complete_call_has_its_packed_result(world: MPI.Intracomm) -> None:
    """Whether Get_status, Test or a wait of MPI's says that it is complete."""
    ways: list[Callable[[MPI.Request], object]] = [lambda r: _until(r.Get_status), _tested]
    ways += [lambda r: MPI.Request.Waitall([r]), lambda r: _until(lambda: MPI.Request.Testall([r]))]
    for k, call in enumerate(_packed(world, 40)):
        request = call.start()
        ways[k % len(ways)](request)
        assert call.is_there()
        request.Wait()


@check(2)
def an_interrupted_wait_loses_no_packed_result(world: MPI.Intracomm) -> None:
    """The signal comes while C waits, the message after it in the same wait: the handler raises when all has come."""
    before = signal.signal(signal.SIGALRM, _ring)
    for call in _packed(world, 20):
        world.Barrier()
        if world.rank == 0:
            time.sleep(0.004)
        request = call.start()
        if world.rank == 1:
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            error = raised(request.Wait)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert error is None or isinstance(error, _AlarmError)
        request.Wait()
        assert call.is_there()
    signal.signal(signal.SIGALRM, before)


@check(2)
def a_packed_call_under_way_is_not_started_again(world: MPI.Intracomm) -> None:
    """The start is refused, and the call goes on."""
    kind = MPI.DOUBLE.Create_vector(300, 1, 2).Commit()
    for way, comm in _ways(world):
        call = Packed(way, comm, kind)
        again = comm.Bcast_init([call.data, 1, kind], algorithm=call.algorithm)
        world.Barrier()
        if world.rank == 0:
            time.sleep(0.005)
        again.Start()
        if world.rank == 1:
            assert isinstance(raised(again.Start), topocomm.Error)
        MPI.Request.Waitall([again])
        assert call.is_there()
        again.Free()
        comm.Free()
    kind.Free()


@check(2)
def nothing_is_kept_of_calls_that_mpi_has_waited_for(world: MPI.Intracomm) -> None:
    """Of those that need Python, here for their operation."""

    def add(given: Any, both: Any, _: MPI.Datatype) -> None:
        both = np.frombuffer(both, "f8")
        both += np.frombuffer(given, "f8")

    op = topocomm.elementwise(MPI.Op.Create(add, commute=True))
    for way, comm in _ways(world):
        if way == "shared":
            comm.Free()
            continue
        before = len(_works())
        for _ in range(20):
            request = comm.Iallreduce(np.ones(64), got := np.zeros(64), op)
            MPI.Request.Waitall([request])
            assert (got == world.size).all()
            del request
        assert len(_works()) - before < 5
        comm.Free()
    op.Free()


@check(2)
def calls_under_way_outlive_their_communicator(world: MPI.Intracomm) -> None:
    """One that is derived, then the one that was wrapped; a persistent call does not start again."""
    for way, comm in _ways(world):
        for freed in (comm,) if way == "shared" else (comm.Dup(), comm):
            if way != "shared":
                freed.Barrier(algorithm="dissemination")
            again = Collective(freed, 100, persistent=True)
            again.start()
            again.wait()
            world.Barrier()
            if world.rank == 0:
                time.sleep(0.01)
            call = Collective(freed, 100)
            call.start()
            freed.Free()
            call.request.Wait()
            assert (call.got == world.size * (world.size + 1) / 2).all()
            assert isinstance(raised(again.request.Start), topocomm.Error)
            again.request.Free()


@check(2)
def engine_python_moves_calls_where_no_signal_comes(world: MPI.Intracomm) -> None:
    """Not in the main thread, where a handler may raise between two steps: not at the start, and in no wait or test."""
    threads: set[threading.Thread] = set()

    def add(given: Any, both: Any, _: MPI.Datatype) -> None:
        threads.add(threading.current_thread())
        both = np.frombuffer(both, "f8")
        both += np.frombuffer(given, "f8")

    op = topocomm.elementwise(MPI.Op.Create(add, commute=True))
    comm = wrap(world.Dup(), "apart", algorithm={"allreduce": "ring"}, engine="python")
    for end in (lambda request: request.Wait(), _tested):
        got = np.zeros(64)
        end(comm.Iallreduce(np.ones(64), got, op))
        assert (got == world.size).all()
    assert len(threads) == 1
    assert threading.main_thread() not in threads
    comm.Free()
    op.Free()


@check()
def persistent_requests_are_mpi4pys(world: MPI.Intracomm) -> None:
    """Started again and again with what the buffers hold then, packed ones too; refused while under way or freed."""
    for _, comm in _ways(world):
        given, got = np.zeros(6), np.zeros(6)
        plain = comm.Allreduce_init(given, got)
        kind = MPI.DOUBLE.Create_vector(3, 1, 2).Commit()
        spread = np.zeros(5)
        packed = comm.Bcast_init([spread, 1, kind], algorithm="textbook_binomial")
        for i in range(5):
            given[:] = i
            spread[:] = i if comm.rank == 0 else -1
            topocomm.Prequest.Startall([plain, packed])
            topocomm.Request.Waitall([packed, plain])
            assert (got == i * comm.size).all()
            assert (spread[::2] == i).all()
            assert (spread[1::2] == (i if comm.rank == 0 else -1)).all()
            plain.Wait()  # it is not under way: at once
        plain.Free()
        packed.Free()
        kind.Free()
        assert plain == MPI.REQUEST_NULL
        assert isinstance(raised(plain.Start), MPI.Exception)
        comm.Free()


@check(2)
def mistakes_are_named(world: MPI.Intracomm) -> None:
    """Lengths that differ, and an algorithm that cannot serve."""
    comm = wrap(world.Dup(), "apart", algorithm={"allreduce": "ring"})
    name = raised(lambda: wrap(world, "apart").Iallreduce(np.zeros(3), np.zeros(3), algorithm="no_such"))
    assert isinstance(name, topocomm.AlgorithmError)
    assert "no_such" in str(name)
    child = wrap(world, "apart").Dup()  # nothing was named for it, and nothing carries its messages
    early = raised(lambda: child.Iallreduce(np.zeros(3), np.zeros(3), algorithm="ring"))
    assert isinstance(early, topocomm.AlgorithmError)
    assert f"rank {world.rank}" in str(early)
    assert "blocking call" in str(early)
    child.Allreduce(np.zeros(3), np.zeros(3), algorithm="ring")
    request = child.Iallreduce(np.ones(3), got := np.zeros(3), algorithm="ring")
    assert isinstance(request, topocomm.Request)
    request.Wait()
    assert (got == world.size).all()
    if world.size > 2:  # ranks whose neighbours agree with them would wait for those that have stopped
        return
    n = (4 if world.rank == 0 else 6) * comm.size
    length = raised(comm.Iallreduce(np.zeros(n), np.zeros(n)).Wait)
    if isinstance(length, MPI.Exception):  # where the message is longer than the buffer
        assert length.Get_error_class() == MPI.ERR_TRUNCATE
    else:
        assert isinstance(length, topocomm.Error), length
        assert f"rank {world.rank}" in str(length)
        assert "different counts" in str(length)
