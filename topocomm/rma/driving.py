"""Waits that drive MPI, in contexts over a communicator of MPI's.

Who waits for a put makes no call of MPI. The rank that is to put may wait before for a message of the program to this
one, and long messages move only while both of their ranks are in MPI: so waits, and tests in vain, probe for messages.
"""

from __future__ import annotations

from functools import cache

from mpi4py import MPI

from topocomm.library import address, handle
from topocomm.rma._lib import ffi, lib
from topocomm.rma.handles import Owner
from topocomm.rma.leaving import OPEN

__all__ = ["drive_mpi"]


def drive_mpi(context: Owner, comm: MPI.Comm) -> None:
    """Let waits and tests of a context that is not closed drive MPI, until MPI ends. Local.

    Below ``MPI_THREAD_MULTIPLE`` only those in this thread do, if it is MPI's main thread. ``comm`` is probed, and must
    live as long as the context, where MPI_Init was not called.
    """
    iprobe, initialized = address("MPI_Iprobe"), MPI.Is_initialized()
    everywhere = initialized and MPI.Query_thread() == MPI.THREAD_MULTIPLE
    if iprobe is None or (initialized and not (everywhere or MPI.Is_thread_main())):
        return
    if initialized:
        _stop_in_time()
    probe = _probe(iprobe, handle(MPI.COMM_WORLD if initialized else comm))  # MPICH moves nothing for COMM_SELF
    lib.tc_context_hook(context.handle, ffi.addressof(lib, "tc_mpi_progress"), probe, everywhere)


@cache
def _probe(iprobe: int, comm: int) -> object:
    """Return the facts for C, which are kept."""
    anything = {"any_source": MPI.ANY_SOURCE, "any_tag": MPI.ANY_TAG}
    return ffi.new("tc_probe *", {"iprobe": iprobe, "handle": comm, **anything})


@cache
def _stop_in_time() -> None:
    """Let no context drive MPI once it is finalized."""
    key = MPI.Comm.Create_keyval(delete_fn=lambda *_: _stop())
    MPI.COMM_SELF.Set_attr(key, None)  # deleted first of all when MPI is finalized


def _stop() -> None:
    for context in list(OPEN):
        lib.tc_context_hook(context.handle, ffi.NULL, ffi.NULL, 0)
