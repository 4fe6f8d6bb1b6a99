"""Algorithms: one file each, ranks and blocks only; :mod:`topocomm.algorithms.table` lists them all."""

from topocomm.algorithms.table import COLLECTIVES, TABLE, Algorithm, find, make_schedule

__all__ = ["COLLECTIVES", "TABLE", "Algorithm", "find", "make_schedule"]
