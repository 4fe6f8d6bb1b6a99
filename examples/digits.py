"""Distributed training on real data: scikit-learn's handwritten digits, softmax regression, gradients by Allreduce.

    mpiexec -n 4 python examples/digits.py

Every rank holds its share of the 1797 images; the gradient of each step is summed over the ranks. All ranks get the
same bits, so their weights never drift apart. Needs scikit-learn for the data.
"""

import numpy as np
from mpi4py import MPI
from sklearn.datasets import load_digits

import topocomm

comm = topocomm.Comm(MPI.COMM_WORLD)

images, labels = load_digits(return_X_y=True)
images = np.hstack((images / 16.0, np.ones((len(images), 1))))
shuffled = np.random.default_rng(0).permutation(len(images))
train, test = shuffled[:1500], shuffled[1500:]
mine = train[comm.rank :: comm.size]
X, Y = images[mine], np.eye(10)[labels[mine]]

weights = np.zeros((X.shape[1], 10))
velocity = np.zeros_like(weights)
gradient = np.empty_like(weights)
for _ in range(200):
    scores = X @ weights
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    comm.Allreduce(X.T @ (chances - Y), gradient)
    velocity = 0.9 * velocity - 0.5 / len(train) * gradient
    weights += velocity

first = weights.copy()
comm.Bcast(first)
assert (first == weights).all(), "ranks drifted apart"
accuracy = float((np.argmax(images[test] @ weights, axis=1) == labels[test]).mean())
if comm.rank == 0:
    print(f"{comm.size} ranks: {accuracy:.1%} of {len(test)} unseen digits read correctly")
assert accuracy > 0.9
