"""Algorithms: one file each, ranks and blocks only; :mod:`topocomm.algorithms.table` lists them all."""

from topocomm.algorithms.table import TABLE, Algorithm, find, make_schedule

__all__ = ["TABLE", "Algorithm", "find", "make_schedule"]
