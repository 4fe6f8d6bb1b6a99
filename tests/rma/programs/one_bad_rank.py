"""One rank's mistake is raised on every rank, alike and by name, and leaves nothing behind; argument: transport."""

import sys
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from topocomm import rma

COMM = MPI.COMM_WORLD
ME, P = COMM.rank, COMM.size


def everywhere(kind: type[Exception], words: str, call: Callable[[], object]) -> None:
    """Every rank raises the same, with these words."""
    try:
        call()
    except kind as error:
        found = str(error)
    else:
        found = "accepted"
    assert len(set(COMM.allgather(found))) == 1, COMM.allgather(found)
    assert words in found, found


def memories(context: rma.Context, shape: tuple[int, ...] = (6, 4), dtype: str = "f8") -> list[rma.Memory]:
    return [context.allocate(shape, dtype) for _ in range(2)]


def mismatches(context: rma.Context, cart: MPI.Cartcomm) -> None:
    """Each rank's own arguments make sense; together they do not."""
    first = ME == 0
    everywhere(
        rma.RangeError,
        "put on rank 0, rank 0's block tag 0: the array has 1 elements",
        lambda: rma.alltoallv(context, np.zeros(P), [1] * P, [1 + first] * P),
    )
    everywhere(
        rma.BlockError,
        "exchange on rank 1: rank 0 receives nothing with tag 0 from it",
        lambda: rma.alltoallv(context, np.zeros(P), [1, *[0] * (P - 1)] if ME == 1 else [0] * P, [0] * P),
    )
    everywhere(
        rma.RangeError,
        "put on rank 0, rank 2's block tag 2: the array is float32, the block float64",
        lambda: rma.halo(context, memories(context, dtype="f4" if first else "f8"), cart),
    )
    everywhere(
        rma.RangeError,
        "put on rank 0, rank 2's block tag 2: the array has 4 elements",
        lambda: rma.halo(context, memories(context, (6, 5 - first)), cart),
    )
    everywhere(
        rma.RangeError,
        "put on rank 0, rank 2's block tag 2: the array has 4 elements",
        lambda: rma.halo(context, memories(context, (6, 4)), cart, width=2 - first),
    )
    everywhere(
        rma.RangeError,
        "put on rank 0",
        lambda: rma.sendrecv(context, np.zeros(4), (ME + 1) % P, 4 if first else 5, (ME - 1) % P),
    )


def one_bad_argument(context: rma.Context, cart: MPI.Cartcomm) -> None:
    """Only rank 1 is wrong, before any message of the exchange."""
    bad, ones = ME == 1, [1] * P

    def alltoallv(source: np.ndarray, counts: list, *more: list) -> Callable[[], object]:
        if not bad:
            return lambda: rma.alltoallv(context, np.zeros(P), ones, ones)
        return lambda: rma.alltoallv(context, source, counts, ones, *more)

    who = "alltoallv on rank 1"
    everywhere(ValueError, f"{who}, sends: count for rank 0 is -1, needs a wh", alltoallv(np.zeros(P), [-1] * P))
    everywhere(ValueError, f"{who}, sends: {P + 1} counts, needs one", alltoallv(np.zeros(P), [1] * (P + 1)))
    everywhere(TypeError, f"{who}, sends: count for rank 0 is 0.5, needs a", alltoallv(np.zeros(P), [0.5] * P))
    everywhere(rma.RangeError, f"{who}: counts and displacements need {P} el", alltoallv(np.zeros(P - 1), ones))
    everywhere(rma.RangeError, f"{who}: needs a one-dimensional source", alltoallv(np.zeros((P, P)), ones))
    places = [list(range(P)), [0] * P]
    everywhere(rma.RangeError, f"{who}: what it receives from ranks 0 and", alltoallv(np.zeros(P), ones, *places))

    def halo(items: object, where: object = cart, width: int = 1) -> Callable[[], object]:
        mine = (items, where, width) if bad else (memories(context), cart, 1)
        return lambda: rma.halo(context, *mine)

    memory = context.allocate((6, 4))
    everywhere(TypeError, "halo on rank 1: needs two memories made by", halo([np.zeros((6, 4)), np.zeros((6, 4))]))
    everywhere(TypeError, "halo on rank 1: needs a Cartesian communicator", halo(memories(context), COMM))
    everywhere(ValueError, "halo on rank 1: width is 0, needs a whole", halo(memories(context), cart, 0))
    everywhere(ValueError, "exchange on rank 1: needs two sets, got 1", halo(memories(context)[:1]))
    everywhere(rma.RangeError, "exchange on rank 1: the two memories share bytes", halo([memory, memory]))
    everywhere(rma.RangeError, "halo on rank 1: shape (2, 3) has no room", halo(memories(context, (2, 3))))

    rows, peers = np.zeros((1 if bad else 2, 3)), [(ME - 1) % P, (ME + 1) % P]
    everywhere(
        rma.RangeError,
        "neighbour_alltoall on rank 1: source of shape (1, 3), needs one row for each of 2",
        lambda: rma.neighbour_alltoall(context, rows, peers, peers),
    )
    everywhere(
        ValueError,
        f"exchange on rank 1, sends: rank {P + 3}, the communicator has {P}",
        lambda: rma.sendrecv(context, np.zeros(4), P + 3 if bad else (ME + 1) % P, 4, (ME - 1) % P),
    )


def many_exchanges(context: rma.Context, cart: MPI.Cartcomm) -> None:
    """Freed, an exchange leaves signals, blocks and memory for the next; this context has few signals."""
    for n in range(3 * context.limits.signals):
        mine = memories(context, (6,))
        with rma.halo(context, mine, cart) as exchange:
            for array in (m.array for m in mine):
                array[1:-1] = 10 * n + ME
            got = exchange()
            assert got[0] == 10 * n + (ME - 1) % P
            assert got[-1] == 10 * n + (ME + 1) % P
        for memory in mine:
            memory.free()
    exchange = rma.alltoallv(context, np.zeros(P), [1] * P, [1] * P)
    exchange.free()
    exchange.free()
    everywhere(rma.FreedError, "the exchange was freed", lambda: _anonymous(exchange.start))


def _anonymous(call: Callable[[], object]) -> None:
    """The error of a call that is not collective, without this rank's number."""
    try:
        call()
    except rma.RmaError as error:
        raise type(error)(str(error).replace(f"rank {ME}", "this rank")) from error


def out_of_turn(context: rma.Context) -> None:
    source = np.full(P, float(ME))
    exchange = rma.alltoallv(context, source, [1] * P, [1] * P)
    everywhere(rma.BusyError, "wait() was called without start()", lambda: _anonymous(exchange.wait))
    exchange.start()
    everywhere(rma.BusyError, "start() was called without wait()", lambda: _anonymous(exchange.start))
    everywhere(rma.BusyError, "start() was called without wait()", lambda: _anonymous(exchange.free))
    assert (exchange.wait() == np.arange(P)).all()
    everywhere(rma.BusyError, "wait() was called without start()", lambda: _anonymous(exchange.wait))
    assert (exchange() == np.arange(P)).all()


def windows(options: dict) -> None:
    def create(array: object, **more: object) -> Callable[[], object]:
        return lambda: rma.Win.Create(array if ME == 1 else np.zeros(4), 8, comm=COMM, **{**options, **more})

    everywhere(rma.RangeError, "Win.Create on rank 1: needs a NumPy array or contiguous memory", create(7))
    everywhere(rma.RangeError, "register on rank 1: the array is not contiguous", create(np.zeros((4, 4))[:, 1]))
    everywhere(rma.RangeError, "register on rank 1: the array must be writeable", create(np.frombuffer(bytes(8))))
    everywhere(rma.RangeError, "got rank 0: 2, rank 1: 3", create(None, notifications=2 + ME))
    everywhere(rma.RangeError, "rank 0: Win: notifications is 0, needs a", create(np.zeros(4), notifications=0))
    everywhere(rma.UnsupportedError, "checked=True would check nothing", create(np.zeros(4), checked=True))
    everywhere(rma.RangeError, "rank 1: Win: disp_unit is 0", lambda: rma.Win.Allocate(8, 1 - (ME == 1), **options))
    everywhere(rma.RangeError, "rank 1: Win: size is -8", lambda: rma.Win.Allocate(-8 * ME, **options))
    everywhere(TypeError, "give the communicator as comm=", lambda: rma.Win.Allocate(8, 1, COMM))
    columns = np.zeros((2, 3), order="F")
    with rma.Win.Create(columns, 8, MPI.INFO_NULL, COMM, **options) as win:
        win.Put_notify(np.array([5.0, 6.0]), (ME + 1) % P, 1)
        win.Wait_notify()
        assert (columns == [[0, 6, 0], [5, 0, 0]]).all()  # in the order of memory, as MPI has it


def main() -> None:
    assert P == 3
    options = {"transports": [sys.argv[1]], "timeout": 10}
    cart = COMM.Create_cart([P], [True])
    with rma.Context(cart, limits=rma.Limits(signals=16), **options) as context:
        mismatches(context, cart)
        one_bad_argument(context, cart)
        many_exchanges(context, cart)
        out_of_turn(context)
    windows(options)
    print("passed", flush=True)


main()
