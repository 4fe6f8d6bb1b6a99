"""An existing mpi4py program: conjugate gradients for a dense symmetric system, rows spread over the ranks.

It knows nothing of topocomm. Unchanged, it runs on topocomm's collectives like this:

    mpiexec -n 4 python -m topocomm run examples/cg.py
"""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rows = 32  # per rank
n = rows * comm.size

full = np.random.default_rng(1).standard_normal((n, n))
full = full @ full.T + n * np.eye(n)
A = full[comm.rank * rows : (comm.rank + 1) * rows].copy()
b = np.ones(rows)


def dot(u: np.ndarray, v: np.ndarray) -> float:
    """The dot product of two spread vectors."""
    total = np.array(u @ v)
    comm.Allreduce(MPI.IN_PLACE, total)
    return float(total)


def matvec(v: np.ndarray) -> np.ndarray:
    """A times a spread vector."""
    whole = np.empty(n)
    comm.Allgather(v, whole)
    return A @ whole


x, r = np.zeros(rows), b.copy()
p, rr = r.copy(), dot(r, r)
iterations = 0
while rr > 1e-20 and iterations < 200:
    Ap = matvec(p)
    alpha = rr / dot(p, Ap)
    x += alpha * p
    r -= alpha * Ap
    rr, old = dot(r, r), rr
    p = r + rr / old * p
    iterations += 1

residual = np.sqrt(dot(matvec(x) - b, matvec(x) - b))
if comm.rank == 0:
    print(f"{type(comm).__module__}.{type(comm).__name__}: {iterations} iterations, residual {residual:.1e}")
assert residual < 1e-8
