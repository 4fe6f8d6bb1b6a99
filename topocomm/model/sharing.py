"""Max-min fair sharing of links: no message can have more without another that has less having less still.

Progressive filling, but all links are filled at once that are the tightest for every message on them. Such a link
keeps its share: other links only ever get looser when messages are settled. So the result is the textbook one, in a
few passes over arrays.

Source: D. Bertsekas, R. Gallager: Data networks, 2nd ed. (1992), §6.5.2.
"""

from __future__ import annotations

import numpy as np

from topocomm.arrays import IntArray
from topocomm.model.network import FloatArray

__all__ = ["fair_rates"]

_EQUAL = 1 + 1e-9


def fair_rates(routes: IntArray, capacity: FloatArray) -> FloatArray:
    """The rate of each message (bytes/s): ``routes[i]`` are its links, ``capacity`` theirs (bytes/s).

    A link of infinite capacity is no constraint; a message over such links only gets an infinite rate.
    """
    links = len(capacity)
    rate = np.empty(len(routes))
    left = capacity.astype(float)
    todo = np.arange(len(routes))
    while len(todo):
        flat = routes.ravel()
        count = np.bincount(flat, minlength=links)
        share = np.full(links, np.inf)
        np.divide(left, count, out=share, where=count > 0)
        on_route = share[routes]
        mine = on_route.min(axis=1)
        agree = np.bincount(flat, weights=(on_route <= mine[:, None] * _EQUAL).ravel(), minlength=links)
        full = agree == count
        settled = (full[routes] & (on_route <= mine[:, None] * _EQUAL)).any(axis=1)
        rate[todo[settled]] = mine[settled]
        taken = np.where(np.isfinite(mine[settled]), mine[settled], 0.0)
        used = np.bincount(routes[settled].ravel(), weights=np.repeat(taken, routes.shape[1]), minlength=links)
        left = np.maximum(left - used, 0.0)
        todo, routes = todo[~settled], routes[~settled]
    return rate
