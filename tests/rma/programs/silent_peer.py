"""Rank 1's host vanishes without a word while rank 0 waits for it; rank 0 must name it.

Arguments: folder, rank, and whether rank 0 has waited for rank 1 before (0/1). The test cuts the link once the file
"cut" is asked for, and answers with the file "silent".
"""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filecomm import FileComm

from topocomm import rma

LIMIT = (8.5, 5.5)  # seconds: connecting in vain, or probing a connection there is


def main() -> None:
    folder, rank, known = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    context = rma.Context(FileComm(folder, rank, 2), transports=["ofi"], provider="tcp", nics=["wire"], timeout=30)
    memory, signal = context.allocate((2, 8)), context.signal()
    target = context.exchange({1 - rank: [memory.block(memory.array[0], signal, 1 - rank, tag=6)]})[1 - rank][0]
    plan = context.plan("remote")
    plan.put(np.ones(8), target)
    plan.start()
    signal.wait()
    plan.wait()
    signal.rearm()
    context.comm.allgather("there and back")
    if rank == 1:
        time.sleep(60)  # until the test ends it
    if known:
        with pytest.raises(rma.WaitTimeout, match="rank 1 tag 6"):
            signal.wait(0.3)
    Path(folder, "cut").touch()
    while not Path(folder, "silent").exists():
        time.sleep(0.001)
    start = time.monotonic()
    with pytest.raises(rma.PeerLost, match="rank 1") as caught:
        signal.wait()
    assert caught.value.rank == 1
    assert time.monotonic() - start < LIMIT[known], time.monotonic() - start
    with pytest.raises(rma.PeerLost, match="rank 1"):
        plan.start()
    context.close()
    print(f"passed after {time.monotonic() - start:.1f} s", flush=True)


main()
