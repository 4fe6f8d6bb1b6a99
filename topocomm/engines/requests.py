"""Calls that are started and waited for later, by programs or through shared memory: ``csrc/coll/request.h``.

A :class:`Work` is started as often as wanted, tested and waited for. Whoever tests or waits for one drives all of its
queue; where nobody does, the *watch* does: a progress thread that is in C, without the interpreter's lock, but where a
call needs Python: operands combined by a program's own operation, results unpacked, the engine ``python``. MPI's own
waits see a work as a generalized request of MPI's, whose handle :meth:`Work.start` returns.

The watch calls MPI beside the program's threads, so works need ``MPI_THREAD_MULTIPLE``: :func:`why_not`.
"""

from __future__ import annotations

import atexit
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any

from mpi4py import MPI

from topocomm import library
from topocomm.arrays import Bytes
from topocomm.engines import c
from topocomm.engines.node import Node, NodeCall
from topocomm.errors import BufferError, Error
from topocomm.library import handle
from topocomm.rma._core import ffi, lib

__all__ = ["NodeWork", "PolledWork", "ProgramWork", "Queue", "Work", "end_queues", "why_not"]

_SLICE = 0.01
"""Seconds after which a wait in C comes back to let Python handle signals."""
_POLL = 2e-4
"""Seconds between two looks of the watch at works that Python drives."""
_LOOKS = 4
"""Calls under way that a start looks at in vain before it leaves what nobody waits for to the next start."""
_FUNCTIONS = {"grequest_start": "Grequest_start", "grequest_complete": "Grequest_complete", "wait": "Wait"}
_FUNCTIONS |= {"set_elements": "Status_set_elements", "set_cancelled": "Status_set_cancelled"}

_HELD: dict[int, tuple[Any, ...]] = {}
"""Address of a request in C → what its call uses. A garbage collector that finds all of it at once must not free that
before the request, in whatever order it works."""

End = Callable[[], None] | None
"""Called once when a call is complete, before anybody learns of it; what it raises comes out of test and wait."""


def why_not() -> str | None:
    """Return why no call can be started and left here; None if calls can. The same all the time the program runs."""
    if not MPI.Is_initialized():
        return "before MPI_Init no call goes on by itself"
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        return "below MPI_THREAD_MULTIPLE no thread may drive a call while the program waits for something else"
    if _watch.ended:
        return "the program is ending"
    return _why_no_tickets()


@cache
def _why_no_tickets() -> str | None:
    """Give C the facts about generalized requests; return why it cannot use them."""
    found = {name: library.address(f"MPI_{function}") for name, function in _FUNCTIONS.items()}
    if None in found.values():
        return "the MPI library shows no generalized requests"
    widths = {"request_bytes": MPI._sizeof(MPI.Request), "status_bytes": MPI._sizeof(MPI.Status)}
    facts = {**found, **widths, "byte": handle(MPI.BYTE), "failed": MPI.ERR_OTHER}
    status = lib.tc_tickets_open(ffi.new("tc_ticket_mpi *", facts))
    return None if status == 0 else str(ffi.string(lib.tc_status_text(status)).decode())


class Queue:
    """The works of one communicator that are under way, in the order in which they start.

    Of an engine's programs, of calls through a node, or, with neither, of works that Python drives.
    """

    def __init__(self, engine: c.Engine | None = None, node: Node | None = None) -> None:
        out = ffi.new("tc_queue **")
        pointers = engine.pointer if engine else ffi.NULL, node.pointer if node else ffi.NULL
        status = lib.tc_queue_open(*pointers, out)
        if status != 0:
            raise MemoryError("no memory for a queue of requests")
        self.engine, self.node = engine, node
        self.pointer = ffi.gc(out[0], lib.tc_queue_close)
        if node is not None:
            node.settle = self._settle

    def end(self) -> bool:
        """Let no work start any more; return True if none is under way."""
        return bool(lib.tc_queue_end(self.pointer) == 0)

    def _settle(self) -> None:
        """Wait until no call through the node is under way."""
        while lib.tc_queue_settle(self.pointer, _SLICE) == lib.TC_AGAIN:
            pass


class Work(ABC):
    """A call that is started as often as wanted, one at a time."""

    request: Any = ffi.NULL
    """The ``tc_request *`` of C; NULL before it is made, and after it was let go."""

    def __init__(self, queue: Queue, run: Any, call: Any, end: End, *uses: object) -> None:
        out = ffi.new("tc_request **")
        if lib.tc_request_new(queue.pointer, run, call, out) != 0:
            raise MemoryError("no memory for a request")
        self.request = out[0]
        _HELD[_address(out[0])] = (queue, *uses)
        self._queue, self._end = queue, end
        self._needy = end is not None
        self._addresses: tuple[Any, Any] = (ffi.NULL, ffi.NULL)
        self._lock = threading.RLock()
        self._finished = True
        self._error: BaseException | None = None

    @property
    def addresses(self) -> tuple[int, int, int, int, int, int]:
        """Addresses for starting, testing and waiting from C: state, three functions, both buffers; 0: Python must."""
        if self._needy:
            return 0, 0, 0, 0, 0, 0
        send, recv = self._addresses
        return _address(self.request), *_functions(), _address(send), _address(recv)

    def start(self) -> int:
        """Start, and return the handle of a request of MPI's that stands for the call until its end is seen.

        Raises Error if the call is under way.
        """
        out = ffi.new("intptr_t *")
        _watch.sweep()
        with self._lock:
            if self.is_under_way:
                raise self._no_start(lib.TC_ERR_BUSY)
            self._finished, self._error = self._end is None, None
            status = self._start(out)
            if status != 0:
                self._finished = True
                self.over()
                raise self._no_start(status)
            if self._needy and not (self._finished and lib.tc_request_state(self.request) != lib.TC_AGAIN):
                _watch.help(self)
        return int(out[0])

    @staticmethod
    def _no_start(status: int) -> Error:
        if status == lib.TC_ERR_FREED:
            return Error("a request could not start: its communicator was freed")
        return Error(f"a request could not start: {_text(status)}; wait for it before it starts again")

    @abstractmethod
    def _start(self, out: Any) -> int:
        """Start in C; ``out`` takes the handle. Return the status."""

    def assist(self) -> None:
        """Do what only Python can do for the call, and let MPI's waits see its end."""
        with self._lock:
            if lib.tc_request_state(self.request) == lib.TC_AGAIN:
                return
            if not self._finished:
                self._finish()
                lib.tc_request_release(self.request, self._error is not None)
            self.over()

    def _finish(self) -> None:
        """Do what is to be done when the call is complete.

        What a signal's handler raises meanwhile, in the main thread, is not the call's failure: the next test or wait
        does it all again.
        """
        try:
            if self._end is not None:
                self._end()
        except Exception as e:
            if _in_main_thread() and not isinstance(e, (BufferError, MPI.Exception)):
                raise
            self._error = e
        self._finished = True

    def test(self) -> bool:
        """Tell whether the call is complete. Raises what :meth:`wait` raises."""
        return self._see(lib.tc_request_test(self.request))

    def wait(self) -> None:
        """Wait until the call is complete. Raises what the blocking call raises."""
        while not self._see(lib.tc_request_wait(self.request, _SLICE)):
            pass

    def _see(self, status: int) -> bool:
        """Take the status of a test or wait: return True, or raise, if that was the end."""
        if status > 0:
            if status == lib.TC_NEEDS_REDUCE:
                self._combine()
            return False
        with self._lock:
            if not self._finished and status == 0:
                self._finish()
            self._finished = True
        self.over()
        if status != 0:
            raise self.failure(status)
        if self._error is not None:
            raise self._error
        return True

    def _combine(self) -> None:
        """Combine operands, if this work or another of its queue needs it."""
        if self._queue.engine is not None:
            self._queue.engine.combine()

    def over(self) -> None:
        """Let go of what only a call under way needs."""
        _watch.leave(self)

    def retire(self) -> None:
        """Let go of everything: the work, which is not under way, does not start again."""
        self._end = None

    def __del__(self) -> None:
        request, self.request = self.request, ffi.NULL
        if request != ffi.NULL and not _freed(request):
            lib.tc_request_drop(request)
            _watch.drift(request)

    @abstractmethod
    def failure(self, status: int) -> Exception:
        """Return the exception for a status below zero."""

    @property
    def is_under_way(self) -> bool:
        """True until a test or wait, maybe MPI's own, has seen the end.

        Also if a signal's handler has raised when a wait had seen it, but before the results were where they belong.
        """
        return bool(self.request != ffi.NULL and (lib.tc_request_state(self.request) != 0 or not self._finished))

    @property
    def is_complete(self) -> bool:
        """True if the call is complete, whether or not its end was seen. Drives what is under way if not."""
        if lib.tc_request_state(self.request) == lib.TC_AGAIN:
            lib.tc_request_progress(self.request)
        if not self._finished:
            self.assist()
        return bool(self._finished and lib.tc_request_state(self.request) != lib.TC_AGAIN)

    def drop(self) -> None:
        """Wait for the call no more. Its memory is kept until it is complete."""
        with self._lock:
            lib.tc_request_drop(self.request)
            dropped = lib.tc_request_state(self.request) != 0
            if not dropped:
                self._finished = True
        if dropped:
            _watch.keep(self)
        else:
            self.over()


class ProgramWork(Work):
    """A program of engine ``c`` on its buffers."""

    def __init__(
        self, queue: Queue, sized: c.Sized, buffers: tuple[Bytes, Bytes], op: MPI.Op, datatype: MPI.Datatype, end: End
    ) -> None:
        self._sized, self._buffers = sized, buffers
        self._taken = sized.take(*buffers, op, datatype)
        super().__init__(queue, self._taken.run, ffi.NULL, end, sized, self._taken, buffers)
        self._needy = self._needy or self._taken.by_caller
        self._combined: c.Run | None = None
        self._failed = False
        self._addresses = ffi.from_buffer(buffers[0]), ffi.from_buffer(buffers[1])

    def _start(self, out: Any) -> int:
        if self._taken.by_caller:
            self._combined = c.Run(self._sized, self._taken, *self._buffers, lib.TC_AGAIN)
        return int(lib.tc_request_start(self.request, *self._addresses, self._end is not None, out))

    def assist(self) -> None:
        """Combine operands, and do what else only Python can do."""
        self._combine()
        super().assist()

    def _see(self, status: int) -> bool:
        ended, combined = super()._see(status), self._combined
        if not ended and combined is not None and combined.error is not None:
            self.drop()
            raise combined.error
        return ended

    def over(self) -> None:
        """Let go of what only a call under way needs."""
        super().over()
        combined, self._combined = self._combined, None
        if combined is not None:
            combined.leave_callers()

    def retire(self) -> None:
        """Give the run back to others of its program."""
        super().retire()
        if not self._failed and self.request != ffi.NULL:
            self._sized.give_back(self._taken)
        self._failed = True

    def failure(self, status: int) -> Exception:
        self._failed = True
        return c.Run(self._sized, self._taken, *self._buffers, status).failed()


class NodeWork(Work):
    """A call through shared memory on its buffers."""

    def __init__(self, queue: Queue, call: NodeCall, buffers: tuple[Bytes, Bytes], end: End) -> None:
        self._call, self._buffers = call, buffers
        super().__init__(queue, ffi.NULL, call.pointer, end, call, buffers)
        self._addresses = ffi.from_buffer(buffers[0]), ffi.from_buffer(buffers[1])

    def _start(self, out: Any) -> int:
        return int(lib.tc_request_start(self.request, *self._addresses, self._end is not None, out))

    def failure(self, status: int) -> Exception:
        return self._call.node.failure(status)


class PolledWork(Work):
    """A call that Python drives: ``begin()`` starts it and returns a function that moves it on, True at its end."""

    def __init__(self, queue: Queue, begin: Callable[[], Callable[[], bool]], end: End) -> None:
        super().__init__(queue, ffi.NULL, ffi.NULL, end)
        self._needy = True
        self._begin = begin
        self._move: Callable[[], bool] = lambda: True

    def _start(self, out: Any) -> int:
        status = int(lib.tc_request_start(self.request, ffi.NULL, ffi.NULL, True, out))
        if status == 0:
            self._finished = False
            self._move = self._begin()
            self.assist()
        return status

    def assist(self) -> None:
        """Move the call on, and at its end do what is to be done.

        The main thread leaves that to the watch: what a signal's handler raises there would end the call between two
        steps.
        """
        if _in_main_thread():
            return
        with self._lock:
            if self._finished:
                return
            try:
                ended = self._move()
            except Exception as e:
                self._error, ended = e, True
            if not ended:
                return
            self._move = lambda: True
            if self._error is None:
                self._finish()
            self._finished = True
            lib.tc_request_set(self.request, 0)
            lib.tc_request_release(self.request, self._error is not None)
            self.over()

    def test(self) -> bool:
        """Tell whether the call is complete. Raises what :meth:`wait` raises."""
        self.assist()
        return super().test()

    def wait(self) -> None:
        """Wait until the call is complete. Raises what the blocking call raises."""
        began = time.monotonic()
        while not self.test():
            waited = time.monotonic() - began
            time.sleep(0 if waited < 1e-3 else min(waited / 64, 1e-3))

    def failure(self, status: int) -> Exception:
        return Error(f"request: {_text(status)}")


class _Watch:
    """The thread that drives what nobody else does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._helped: set[Work] = set()
        self._adrift: deque[Work] = deque()
        self._drifting: deque[Any] = deque()
        self._ending: deque[tuple[tuple[Queue, ...], Callable[[], None]]] = deque()
        self.ended = False

    def _begin(self) -> None:
        """Begin the thread with the first work."""
        with self._lock:
            if self._thread is not None or self.ended:
                return
            key = MPI.Comm.Create_keyval(delete_fn=lambda *_: self.end())
            MPI.COMM_SELF.Set_attr(key, None)  # deleted first of all when MPI is finalized
            atexit.register(self.end)
            self._thread = threading.Thread(target=self._run, name="topocomm", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while lib.tc_watch(_POLL if self._polled else 0) != 0:
            for work in list(self._helped):
                work.assist()

    @property
    def _polled(self) -> bool:
        return any(isinstance(work, PolledWork) for work in list(self._helped))

    def help(self, work: Work) -> None:
        """Let the thread assist a work, which needs Python, until it is over."""
        self._helped.add(work)
        if isinstance(work, PolledWork):
            lib.tc_watch_call()

    def leave(self, work: Work) -> None:
        """Assist a work no more."""
        self._helped.discard(work)

    def keep(self, work: Work) -> None:
        """Keep a work, and the memory that it uses, until it is complete."""
        self._adrift.append(work)

    def drift(self, request: Any) -> None:
        """Keep a request of C, and what it uses, until it is complete: nothing else is left of its work."""
        self._drifting.append(request)

    def end_later(self, queues: tuple[Queue, ...], leave: Callable[[], None]) -> None:
        """Call ``leave`` once nothing of ended queues is under way."""
        self._ending.append((queues, leave))

    def sweep(self) -> None:
        """Let go of works that were dropped and are complete by now; begin the thread."""
        if self._thread is None:
            self._begin()
        if self._drifting:
            _let_go(self._drifting, _freed)
        if self._adrift:
            _let_go(self._adrift, _retired)
        if self._ending:
            _let_go(self._ending, _ended)

    def end(self) -> None:
        """End the thread, before MPI is finalized."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
        lib.tc_watch_end()
        if self._thread is not None:
            self._thread.join()


_watch = _Watch()


def _let_go(kept: deque[Any], gone: Callable[[Any], bool]) -> None:
    """Let go of what is over, the oldest first, until a few that are under way were found.

    A start must not cost more the more calls are under way. What was found under way is looked at last the next time.
    """
    for _ in range(_LOOKS):
        over = True
        while over:
            try:
                oldest = kept.popleft()
            except IndexError:  # another thread's start was here, too
                return
            over = gone(oldest)
        kept.append(oldest)


def _retired(work: Work) -> bool:
    """Retire a work; False if it is under way."""
    if lib.tc_request_state(work.request) != 0:
        return False
    work.over()
    work.retire()
    return True


def end_queues(queues: tuple[Queue, ...], hold: Callable[[], Callable[[], None]]) -> None:
    """Let no work of a communicator start any more: it is about to be freed.

    If works are under way, ``hold`` keeps what carries their messages; what it returns is called by a later start, when
    they are complete.
    """
    if [queue for queue in queues if not queue.end()]:
        _watch.end_later(queues, hold())


def _ended(ending: tuple[tuple[Queue, ...], Callable[[], None]]) -> bool:
    """Call what is to be called when queues have nothing under way; False if they have."""
    queues, leave = ending
    if not all(queue.end() for queue in queues):
        return False
    leave()
    return True


def _in_main_thread() -> bool:
    """Return True in the thread in which signals are handled."""
    return threading.current_thread() is threading.main_thread()


def _freed(request: Any) -> bool:
    """Free a request of C; False if it is under way."""
    if lib.tc_request_free(request) != 0:
        return False
    _HELD.pop(_address(request), None)
    return True


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


@cache
def _functions() -> tuple[int, int, int]:
    """Return the addresses of C's functions that start, test and wait."""
    start, test, wait = (ffi.addressof(lib, f"tc_request_{name}") for name in ("start", "test", "wait"))
    return _address(start), _address(test), _address(wait)


def _text(status: int) -> str:
    return str(ffi.string(lib.tc_status_text(status)).decode())
