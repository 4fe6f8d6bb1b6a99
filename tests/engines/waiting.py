"""Run under mpiexec: what a rank does that waits for another through shared memory. Arguments: a case; a folder and
how many ranks are to write a file there."""

import os
import signal
import sys
import threading
import time
from pathlib import Path


def until_all_have_said() -> None:
    """Wait for the files of the ranks that another is missing to."""
    folder, files = Path(sys.argv[2]), int(sys.argv[3])
    while len(list(folder.iterdir())) < files:
        time.sleep(0.01)


if sys.argv[1] == "killed" and (child := os.fork()):  # mpiexec, which ends all when one ends, watches the parent
    os.waitpid(child, 0)
    until_all_have_said()
    os._exit(0)

import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402

import topocomm  # noqa: E402

WORLD = MPI.COMM_WORLD
RANK, SIZE = WORLD.rank, WORLD.size
LAST = RANK == SIZE - 1
os.environ["TOPOCOMM_TRANSPORTS"] = "shm,mpi"
comm = topocomm.Comm(WORLD, algorithm={"allreduce": "textbook_recursive_doubling"})


def call() -> None:
    """Sum the ranks."""
    out = np.zeros(4)
    comm.Allreduce(np.full(4, 1.0 + RANK), out)
    np.testing.assert_array_equal(out, np.full(4, SIZE * (SIZE + 1) / 2))


def later(seconds: float, pid: int, number: int) -> None:
    """Send a signal from a process of its own."""
    if os.fork() == 0:
        time.sleep(seconds)
        os.kill(pid, number)
        os._exit(0)


def driven() -> None:
    """A large Isend before the call, received before it on the other side: somebody must drive MPI meanwhile."""
    big = np.full(1 << 24, RANK, np.uint8)
    request = WORLD.Isend(big, SIZE - 1, 5) if RANK == 0 else MPI.REQUEST_NULL
    if LAST:
        WORLD.Recv(big, 0, 5)
    call()
    request.Wait()
    assert not LAST or (big == 0).all()


def killed() -> None:
    """A rank is killed before the call: the others say so."""
    if LAST:
        time.sleep(1)  # the others have left the barrier
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        call()
    except topocomm.Error as e:
        unfinished = Path(f"{sys.argv[2]}.{RANK}")
        unfinished.write_text(str(e), encoding="utf-8")
        unfinished.rename(Path(sys.argv[2]) / str(RANK))
    until_all_have_said()  # not to be the next that is missing, before the others have looked
    os._exit(0)


def stopped() -> None:
    """A rank is stopped before the call, and goes on later: the call goes on, too."""
    if LAST:
        later(2, os.getpid(), signal.SIGCONT)
        os.kill(os.getpid(), signal.SIGSTOP)
    call()


def interrupted() -> None:
    """Ctrl-C ends the wait; what this rank has sent stays sent."""
    if LAST:
        WORLD.Recv(np.empty(1, np.uint8), 0, 6)
    elif RANK == 0:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            call()
        except KeyboardInterrupt:
            WORLD.Send(np.empty(1, np.uint8), SIZE - 1, 6)
            return
        raise AssertionError("the call was not interrupted")
    call()


signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # with which MPICH's mpiexec tells of a lost rank
call()
WORLD.Barrier()
globals()[sys.argv[1]]()
print("passed", flush=True)
