"""The instant model: times of algorithms in closed form, from rounds, bytes, messages and shared links per level."""

from topocomm.model.instant.instant import Instant

__all__ = ["Instant"]
