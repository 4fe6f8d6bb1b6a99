"""Prove every algorithm for p = 1..128 exhaustively and on random placements up to 1024 ranks; keep what was proved.

    python -m bench.verify [COLLECTIVE …] [-j JOBS] [-p 1:128] [--random 12] [--max-ranks 1024]

The same as ``python -m topocomm verify`` with these arguments; the figures go to ``bench/results/verify.json``, of
collectives that are named to a file with their names behind ``verify``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench.record import keep
from topocomm.cli import verify


def main() -> int:
    parser = argparse.ArgumentParser(description=verify.HELP)
    verify.add_arguments(parser)
    parser.set_defaults(ranks="1:128", random=12, max_ranks=1024)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        args.json = str(Path(folder) / "proved.json")
        code = verify.run(args)
        figures = json.loads(Path(args.json).read_text(encoding="utf-8"))
    what = {"ranks": args.ranks, "random_placements": args.random, "max_ranks": args.max_ranks, "seed": args.seed}
    print(f"kept {keep('_'.join(['verify', *args.collective]), {**what, **figures})}")
    return code


if __name__ == "__main__":
    sys.exit(main())
