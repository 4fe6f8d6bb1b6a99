"""The transports of a context, or those that this process would have alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from topocomm.rma import errors
from topocomm.rma.context import Context
from topocomm.rma.transports import Capability, offered

__all__ = ["Capability", "capabilities", "report"]


class _Alone:
    rank = 0
    size = 1

    def allgather(self, item: object) -> list[object]:
        return [item]


def _mpi_runs() -> bool:
    """Return True while MPI runs: its libfabric is loaded, and the one that contexts of this process use."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and bool(mpi.Is_initialized()) and not mpi.Is_finalized()


def _in_a_child() -> list[Capability]:
    """Ask in another process: loading libfabric here could hide the one that an MPI library brings along."""
    code = (
        "import dataclasses, json, sys; del sys.path[0]; "
        "from topocomm.rma.capability import _Alone, Context, capabilities; "
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
    """List the transports of ``context``, or those this process would have alone; absent ones say why."""
    if context is None and _mpi_runs():
        with Context(_Alone(), transports=("shm", "ofi")) as alone:
            return capabilities(alone)
    if context is None:
        return _in_a_child()
    context.usable("capabilities")
    return offered(context.handle)


def report(context: Context | None = None) -> str:
    """Write the capabilities of ``context``, or of this process alone, as a table for people."""
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
