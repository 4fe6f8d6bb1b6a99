"""A mapping that forgets what was asked for longest ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most ``most`` values by key; a new one takes the place of the one that was used longest ago."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value kept for ``key``, from now on the one used last; None if there is none."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> V:
        """Keep ``value`` and return it."""
        if len(self._kept) >= self.most and key not in self._kept:
            self._kept.popitem(last=False)
        self._kept[key] = value
        return value

    def __len__(self) -> int:
        return len(self._kept)
