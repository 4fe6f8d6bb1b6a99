"""What was measured: tuning files, the choice among measured algorithms, and the MPI libraries' own rule files."""

from topocomm.choose.measured.files import (
    Entry,
    Timing,
    Tuning,
    class_of,
    dumps_tuning,
    merge,
    parse_tuning,
    per_rank,
    read_tuning,
)

__all__ = [
    "Entry",
    "Timing",
    "Tuning",
    "class_of",
    "dumps_tuning",
    "merge",
    "parse_tuning",
    "per_rank",
    "read_tuning",
]
