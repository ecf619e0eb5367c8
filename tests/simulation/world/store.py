"""The object store: written once, away at times, and losing or garbling bytes at times."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tests.simulation.world.clockwork import Process, Work

from penstock.errors import BlobUnavailable

T = TypeVar("T")


@dataclass
class Store:
    """Objects by key. `lost_at`: when an object's bytes were lost, for the checks alone."""

    objects: dict[str, bytes] = field(default_factory=dict)
    lost_at: dict[str, float] = field(default_factory=dict)
    away_until: float = 0
    deleted: set[str] = field(default_factory=set)

    def put_once(self, key: str, data: bytes) -> bool:
        """Store an object; False if there is one under this key already."""
        if key in self.objects:
            return False
        self.objects[key] = data
        return True


def reached(process: Process, act: Callable[[Store], T], patience_s: float = 4.0) -> Work[T]:
    """Return what the store answers, asked again for a few seconds.

    Raises:
        BlobUnavailable: it did not answer.
    """
    world = process.world
    until = world.now + patience_s
    while True:
        yield None
        away = max(world.store.away_until, process.cut_until)
        if away <= world.now:
            return act(world.store)
        world.landed["waited for the store"] += 1
        if away > until:
            yield until
            raise BlobUnavailable("the store does not answer", where="store")
        yield away
