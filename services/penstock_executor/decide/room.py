"""What of an executor's cores, memory and GPUs is taken, and whether one more step fits.

An executor never begins a step that asks for more than is free: it keeps what it has taken in until there is room, and gives
back what would never fit, so that another executor of the target may take it.
"""

from dataclasses import dataclass, field

import msgspec

from penstock.contracts.resources import Offer, Resources, missing, size_of

NOTHING = Resources()
"""What fits everywhere, and is never given back."""


@dataclass
class Room:
    """What is free."""

    offer: Offer
    gpus: tuple[str, ...] = ()
    """Names of the GPUs."""
    _taken: dict[object, tuple[Resources, tuple[str, ...]]] = field(default_factory=dict)

    def never(self, asked: Resources) -> str:
        """Return what this executor lacks for a step for ever; empty: nothing."""
        return ", ".join(missing(asked, self.offer))

    def lacking(self, asked: Resources) -> str:
        """Return what is not free for a step at the moment; empty: it fits."""
        return ", ".join(missing(asked, self.free(), all_of=False))

    def free(self) -> Offer:
        """Return what is not taken."""
        asked = [one for one, _ in self._taken.values()]
        return msgspec.structs.replace(
            self.offer,
            cores=self.offer.cores - sum(one.cores for one in asked),
            memory_bytes=self.offer.memory_bytes - sum(size_of(a.memory, "memory") for a in asked),
            gpus=len(self._names()),
        )

    def take(self, key: object, asked: Resources) -> tuple[str, ...]:
        """Take what a step asks for, which fits; return the names of its GPUs."""
        names = self._names()[: asked.gpus]
        self._taken[key] = (asked, names)
        return names

    def leave(self, key: object) -> None:
        """Free what a step has taken, if it has."""
        self._taken.pop(key, None)

    def _names(self) -> tuple[str, ...]:
        taken = {name for _, names in self._taken.values() for name in names}
        return tuple(name for name in self.gpus if name not in taken)
