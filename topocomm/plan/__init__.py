"""Programs: one rank's part of a schedule as flat steps, the same for all sizes, buffers and engines. No MPI."""
