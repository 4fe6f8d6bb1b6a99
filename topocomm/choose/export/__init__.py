"""Rules for the tuning mechanisms of MPI libraries, made of what was measured under them."""
