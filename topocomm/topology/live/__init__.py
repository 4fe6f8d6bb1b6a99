"""Topology of a running job: asks the communicator, its nodes and the links between them. The only part of the room
that knows MPI."""
