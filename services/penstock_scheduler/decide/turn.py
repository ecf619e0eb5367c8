"""One turn of a partition: each fact is true as soon as it is recorded, and asks for its effects."""

from dataclasses import dataclass, field

from penstock_scheduler.effects import Effect, effects_of
from penstock_scheduler.state import Partition, evolve
from penstock_scheduler.transitions import Transition


@dataclass(slots=True)
class Turn:
    """What was decided since the last commit. Nothing in it counts before it is committed."""

    partition: Partition
    now: float
    transitions: list[Transition] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    touched: dict[str, None] = field(default_factory=dict)
    """Compute targets whose queue or window changed, in the order they did."""

    def record(self, transition: Transition) -> None:
        """Make a fact true, and note what it asks for."""
        evolve(self.partition, transition, self.now)
        self.transitions.append(transition)
        self.effects.extend(effects_of(self.partition, transition, self.now))

    def ask(self, *effects: Effect) -> None:
        """Ask for something that needs no fact, such as stopping an attempt nobody wants."""
        self.effects.extend(effects)

    def touch(self, target: str) -> None:
        """Note that a target may have something to offer."""
        self.touched[target] = None
