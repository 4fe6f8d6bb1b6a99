"""The drop-in communicator: mpi4py's calls with mpi4py's arguments. Importing it imports mpi4py."""

from topocomm.comm.comm import Cartcomm, Comm, Distgraphcomm, Graphcomm, Intercomm

__all__ = ["Cartcomm", "Comm", "Distgraphcomm", "Graphcomm", "Intercomm"]
