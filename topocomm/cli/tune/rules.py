"""Merging tuning files, and exporting them to the rule files of MPI libraries. No MPI."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from topocomm.choose.export import mpich, openmpi
from topocomm.choose.measured import Tuning, dumps_tuning, merge, read_tuning
from topocomm.choose.measured.files import write_text
from topocomm.choose.measured.spans import entries_of, spans_of
from topocomm.cli.console import log
from topocomm.errors import Error

__all__ = ["export", "merge_files"]


def merge_files(paths: Sequence[str], save: Path | None) -> int:
    """Merge into ``save``, logging every conflict; 0. Raises Error for a malformed or unwritable file."""
    if save is None:
        raise Error("--merge writes to the file of --save; say which")

    def both(a: Tuning, b: Tuning) -> Tuning:
        merged, conflicts = merge(a, b)
        for conflict in conflicts:
            log(conflict)
        return merged

    tunings = [read_tuning(path) for path in paths]
    merged = reduce(both, tunings)
    write_text(save, dumps_tuning(merged))
    print(f"{save}: {len(merged.entries)} entries from {len(paths)} files")
    return 0


def export(args: argparse.Namespace) -> int:
    """Write rules for an MPI library, logging what has no equivalent; 0. Raises Error."""
    if not args.source or not args.output:
        raise Error("--export needs --from TUNING and --output FILE")
    for_mpich = args.export == "mpich"
    if for_mpich and args.commutative:
        raise Error("mpich takes no --commutative: its rules ask whether an operation is")
    if for_mpich != bool(args.base):
        raise Error(
            "mpich needs --base, its library libmpi.so.12: what was not tuned keeps the rules compiled into it"
            if for_mpich
            else f"{args.export} takes no --base: what was not tuned is left to the library"
        )
    name = mpich.NAME if for_mpich else openmpi.NAME
    library = args.mpi_library or name
    if not library.startswith(name):
        raise Error(f"--mpi-library {library!r} is not {name}, whose rules are to be written")
    entries = entries_of(read_tuning(args.source), library, args.signature)
    same = mpich.EQUIVALENTS if for_mpich else openmpi.equivalents(args.commutative)
    spans, remarks = spans_of(entries, same)
    for remark in remarks:
        log(remark)
    if for_mpich:
        text = mpich.selection(mpich.compiled_in(args.base), spans)
    else:
        text = openmpi.json_rules(spans) if args.export == "openmpi-json" else openmpi.classic_rules(spans)
    found = [span for by_ranks in spans.values() for group in by_ranks.values() for span in group]
    if not found:
        raise Error(
            f"{args.source}: none of {len(entries)} points gives a rule; measure textbook forms, too (tune --all)"
        )
    write_text(args.output, text)
    print(f"{args.output}: {len(found)} rules for {', '.join(spans) or 'no collective'} from {len(entries)} points")
    return 0
