"""Engines: how the bytes of a plan move. ``local`` in one process; ``p2p`` as mpi4py messages."""
