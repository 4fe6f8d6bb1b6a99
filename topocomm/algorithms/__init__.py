"""Algorithms: one file each, ranks and blocks only; :mod:`topocomm.algorithms.table` lists them all."""

from topocomm.algorithms.entry import Algorithm
from topocomm.algorithms.table import TABLE, find, make_schedule, transfers

__all__ = ["TABLE", "Algorithm", "find", "make_schedule", "transfers"]
