"""What a program calls: collectives, sizes and how often, written to a file when a process ends (``TOPOCOMM_RECORD``).

Rank 0 of every communicator counts. The process that is rank 0 of the world writes the file that was named, others
write beside it, the rank added to the name. ``python -m topocomm explain --trace FILE …`` reads them.
"""

from __future__ import annotations

import atexit
import json
import os
import sys

from mpi4py import MPI

from topocomm.choose.trace import FORMAT, VERSION
from topocomm.comm.call import Call
from topocomm.topology import Topology

__all__ = ["MOST_CALLS", "Record", "record_of"]

MOST_CALLS = 4096
"""Different calls that are counted by their exact size; further ones are counted by the nearest half power of two."""

_Counted = tuple[str, str, int, int, bool, str]
"""Topology by signature, collective, bytes of the whole vector, root, commutative, what serves it."""


class Record:
    """The calls of one process, counted."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._count: dict[_Counted, int] = {}
        self._topologies: dict[str, Topology] = {}

    def add(self, call: Call, where: Topology, size: int, algorithm: str) -> None:
        """Count a call by ``size`` ranks that sit there."""
        from topocomm.choose.modelled import rounded

        self._topologies.setdefault(where.signature, where)
        rest = call.root, call.traits.commutative, algorithm
        key = where.signature, call.collective, call.nbytes(size), *rest
        if key not in self._count and len(self._count) >= MOST_CALLS:
            key = where.signature, call.collective, rounded(call.nbytes(size)), *rest
        self._count[key] = self._count.get(key, 0) + 1

    def document(self) -> dict[str, object]:
        """Return what is written: each topology once, and one row a different call."""
        names = list(self._topologies)
        places = [{"levels": list(t.levels), "ranks": t.labels.tolist()} for t in self._topologies.values()]
        calls = [[names.index(key[0]), *key[1:], count] for key, count in self._count.items()]
        return {"format": FORMAT, "version": VERSION, "topologies": places, "calls": calls}

    def write(self) -> None:
        """Write the file in one step; where that fails, say so."""
        if not self._count:
            return
        try:
            with open(f"{self.path}.new", "w", encoding="utf-8") as out:
                json.dump(self.document(), out)
            os.replace(f"{self.path}.new", self.path)
        except (OSError, TypeError) as e:
            print(f"topocomm: cannot write TOPOCOMM_RECORD={self.path}: {e}", file=sys.stderr, flush=True)


_records: dict[str, Record] = {}


def record_of(path: str | None, comm: MPI.Intracomm) -> Record | None:
    """Return the record of this process if it counts for ``comm``; None if not, or if nothing is recorded."""
    if path is None or comm.Get_rank() != 0:
        return None
    rank = MPI.COMM_WORLD.Get_rank() if MPI.Is_initialized() else os.getpid()
    mine = f"{path}.{rank}" if rank else path
    if mine not in _records:
        _records[mine] = Record(mine)
        atexit.register(_records[mine].write)
    return _records[mine]
