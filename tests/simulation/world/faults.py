"""What goes wrong, and how often. Each seed draws its own mix, and some get none at all."""

import random
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Faults:
    """Chances: of the first group per action, of the others per occasion."""

    crash: float = 0.012
    pause: float = 0.008
    cut: float = 0.006
    clock_jump: float = 0.004
    leap: float = 0.03
    """The world moves on by seconds while everybody is in the middle of something."""
    bus_away: float = 0.002
    work_lost: float = 0.002
    """The server is killed: its newest, unsynced work is gone, and everybody connects again."""
    store_away: float = 0.004
    bytes_lost: float = 0.001
    poison: float = 0.001
    """A stranger writes garbage where our messages are."""

    lost_request: float = 0.06
    lost_reply: float = 0.08
    lost_ack: float = 0.06
    duplicate: float = 0.04
    reorder: float = 0.3
    wire_again: float = 0.05
    """An effect fails on the wire and is tried again after those behind it."""
    pin_astray: float = 0.03
    bad_upload: float = 0.03
    user_kill: float = 0.02
    """The step's process is killed from outside: E_SIGNAL."""


AMBIENT = (
    "crash",
    "pause",
    "cut",
    "clock_jump",
    "leap",
    "bus_away",
    "work_lost",
    "store_away",
    "bytes_lost",
    "poison",
)
NAMES = tuple(f.name for f in fields(Faults))
NO_FAULTS = Faults(**dict.fromkeys(NAMES, 0.0))


def mix(chance: random.Random) -> Faults:
    """Return a swarm member's faults: none, one kind alone, or any of them, weaker and stronger."""
    roll = chance.random()
    if roll < 0.05:
        return NO_FAULTS
    if roll < 0.2:
        only = chance.choice(NAMES)
        return Faults(**{name: getattr(Faults, name) * 3 * (name == only) for name in NAMES})
    return Faults(
        **{name: getattr(Faults, name) * chance.choice([0, 0, 0.5, 1, 2]) for name in NAMES}
    )


@dataclass(frozen=True)
class Shape:
    """What else differs from seed to seed."""

    schedulers: int
    planners: int
    executors: int
    artifacts: int
    triggers: int
    partitions: int
    slots: int
    window: int
    ack_wait_s: float
    starts_max: int
    """Executors that may begin one attempt."""
    deliveries_max: int
    """Deliveries after which an executor does not even begin it."""
    store_checks: bool
    """The store compares what arrives with a checksum. One that several copies serve must: what one
    copy has verified, another may have granted anew after the store lost it."""
    part_steps_max: int
    commit_bytes_max: int
    cache: bool
    """Executors keep what they have made or fetched."""
    budget: int
    """Actions after which faults stop are 60 % of this."""


def shape(chance: random.Random) -> Shape:
    """Return a swarm member's shape."""
    artifacts = chance.choice([1, 1, 2])
    drawn = Shape(
        schedulers=2,
        planners=chance.choice([1, 2, 2]),
        executors=chance.choice([1, 2, 2, 3]),
        artifacts=artifacts,
        store_checks=artifacts > 1,
        triggers=chance.choice([1, 2, 2]),
        partitions=chance.choice([1, 2]),
        slots=chance.choice([1, 2, 3]),
        window=chance.choice([1, 2, 8]),
        ack_wait_s=chance.choice([6.0, 15.0, 15.0]),
        starts_max=chance.choice([2, 5, 5]),
        deliveries_max=0,
        part_steps_max=chance.choice([1, 2, 500]),
        commit_bytes_max=chance.choice([400, 1_500, 700_000, 700_000]),
        cache=chance.random() < 0.7,
        budget=chance.choice([600, 1_200, 2_000]),
    )
    return replace(drawn, deliveries_max=drawn.starts_max + 1)
