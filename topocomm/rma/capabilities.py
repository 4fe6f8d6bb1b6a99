"""What each transport and NIC really offers here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topocomm.rma import errors
from topocomm.rma._lib import check, ffi, lib

if TYPE_CHECKING:
    from topocomm.rma.context import Context
    from topocomm.rma.options import Settings

__all__ = ["Capability", "capabilities", "report"]


@dataclass(frozen=True)
class Capability:
    """One transport, or one NIC of it.

    ``notify_bits``: of immediate data; ``value_bits``: of those, left for the value of an identified notification;
    ``native``: notified by the medium itself, not by messages; ``auto_progress``: the target need not call in;
    ``ordered``: the medium promises order (never relied upon); ``max_message`` in bytes.
    """

    transport: str
    provider: str
    nic: str
    present: bool
    notify_bits: int
    value_bits: int
    native: bool
    auto_progress: bool
    ordered: bool
    max_message: int
    note: str


def why_absent(handle: Any, settings: Settings) -> str:
    """Why a context opened with ``settings``, or not opened (NULL), has no libfabric; empty if it has."""
    options = settings.options
    probe = ffi.new("tc_options *", options[0])
    probe.transports, probe.progress_thread = lib.TC_SHM | lib.TC_OFI, 0
    opened = ffi.new("tc_context **", handle)
    if not handle:
        check(lib.tc_context_open(probe, opened), "looking for libfabric")
    try:
        return "; ".join(c.note for c in _list(opened[0]) if c.transport == "ofi" and not c.present)
    finally:
        if not handle:
            lib.tc_context_close(opened[0])


class _Alone:
    rank = 0
    size = 1

    def allgather(self, item: object) -> list[object]:
        return [item]


def _mpi_runs() -> bool:
    """Then its libraries are loaded, and libfabric is the one that contexts of this process use."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and bool(mpi.Is_initialized()) and not mpi.Is_finalized()


def _in_a_child() -> list[Capability]:
    """Asked in another process: loading libfabric here could hide the one that an MPI library brings along."""
    code = (
        "import dataclasses, json, sys; del sys.path[0]; "
        "from topocomm.rma.capabilities import _Alone, capabilities; "
        "from topocomm.rma.context import Context; "
        "print(json.dumps([dataclasses.asdict(c) for c in capabilities(Context(_Alone(), transports=('shm', 'ofi')))]))"
    )
    paths = os.pathsep.join(p for p in sys.path if p)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    if run.returncode:
        raise errors.RmaError(f"capabilities: the process looking for transports failed: {run.stderr.strip()[-300:]}")
    return [Capability(**entry) for entry in json.loads(run.stdout)]


def capabilities(context: Context | None = None) -> list[Capability]:
    """The transports of ``context``, or those this process would have alone; absent ones say why."""
    if context is None and _mpi_runs():
        from topocomm.rma.context import Context

        with Context(_Alone(), transports=("shm", "ofi")) as alone:
            return capabilities(alone)
    if context is None:
        return _in_a_child()
    context.usable("capabilities")
    return _list(context.handle)


def _list(handle: Any) -> list[Capability]:
    room, count = ffi.new("tc_capability[]", 3 + lib.TC_MAX_RAILS), ffi.new("uint32_t *")
    check(lib.tc_capabilities(handle, room, 3 + lib.TC_MAX_RAILS, count), "capabilities")
    return [_read(entry) for entry in room[0 : count[0]]]


def _read(c: object) -> Capability:
    def word(name: str) -> str:
        return str(ffi.string(getattr(c, name)).decode())

    def flag(name: str) -> bool:
        return bool(getattr(c, name))

    def number(name: str) -> int:
        return int(getattr(c, name))

    return Capability(
        word("transport"), word("provider"), word("nic"), flag("present"), number("notify_bits"), number("value_bits"),
        flag("native"), flag("auto_progress"), flag("ordered"), number("max_message"), word("note"),
    )  # fmt: skip


def report(context: Context | None = None) -> str:
    """The capabilities of ``context``, or of this process alone, as a table for people."""
    lines = [
        f"{'transport':10}{'provider':22}{'nic':14}{'notify':>7}{'value':>7}  {'kind':10}{'progress':10}{'order':7}note"
    ]
    for c in capabilities(context):
        if not c.present:
            lines.append(f"{c.transport:10}{'absent':22}{'':14}{'-':>7}{'-':>7}  {'-':10}{'-':10}{'-':7}{c.note}")
            continue
        kind = "native" if c.native else "emulated"
        drive = "auto" if c.auto_progress else "on wait"
        order = "yes" if c.ordered else "no"
        numbers = f"{c.notify_bits:7}{c.value_bits:7}"
        lines.append(f"{c.transport:10}{c.provider:22}{c.nic:14}{numbers}  {kind:10}{drive:10}{order:7}{c.note}")
    return "\n".join(lines)
