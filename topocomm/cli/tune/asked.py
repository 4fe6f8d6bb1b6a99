"""The arguments of a tuning session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from topocomm.algorithms.table import TABLE, parse_name

__all__ = ["TuneOptions"]


@dataclass(frozen=True)
class TuneOptions:
    """The checked arguments; ``algorithms`` empty: the topology-aware ones, with the textbook forms if ``textbook``."""

    collectives: tuple[str, ...]
    sizes: tuple[int, ...]
    algorithms: tuple[str, ...]
    textbook: bool
    ordered: bool
    topology: str | None
    save: Path | None
    resume: bool
    seconds: float | None
    repetitions: int | None

    def names(self, collective: str) -> list[str]:
        """Name the algorithms to measure beside native, whether they can run or not."""
        if self.algorithms:
            return [name for name in self.algorithms if parse_name(name)[0] in TABLE[collective]]
        return [name for name, entry in TABLE[collective].items() if self.textbook or not entry.baseline]
