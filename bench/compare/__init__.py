"""The comparison: MPI libraries × placements × collectives × sizes × engines, on an emulated cluster or on one node."""
