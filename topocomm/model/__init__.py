"""Models: what a schedule costs on a machine, and what no schedule can do better. Knows no MPI."""

from topocomm.model.bounds import bytes_across, bytes_between
from topocomm.model.traffic import Messages, Traffic, list_messages

__all__ = ["Messages", "Traffic", "bytes_across", "bytes_between", "list_messages"]
