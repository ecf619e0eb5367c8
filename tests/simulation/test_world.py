"""All services in one world keep their promises, whatever repeats, reorders, vanishes or crashes.

More seeds: `make simulate SEEDS=200000`. One again: `python -m tests.simulation --replay SEED`.
"""

import pytest
from tests.simulation.batch import Tally, tallies
from tests.simulation.world.play import played

SEEDS = 5_000
"""In CI, on all cores; 200 of them with the quick tests."""

LANDED = (
    "asked again",
    "bad_upload",
    "bus_away",
    "bytes_lost",
    "carried out another's decision",
    "clock_jump",
    "crash of artifact",
    "crash of executor",
    "crash of planner",
    "crash of scheduler",
    "crash of trigger",
    "cut",
    "deposed",
    "dropped a copy",
    "duplicate",
    "given up after its starts",
    "given up unbegun",
    "leap",
    "looked before the commit",
    "lost a cursor's race",
    "lost_ack",
    "lost_reply",
    "lost_request",
    "pause",
    "pin_astray",
    "poison",
    "put back",
    "redelivered",
    "refused a commit",
    "refused a commit of a tree: E_DIGEST",
    "reorder",
    "reported together",
    "store_away",
    "takeover",
    "told together",
    "user_kill",
    "waited for the bus",
    "waited for the store",
    "wire_again",
    "work_lost",
)
"""Every kind of fault, and what faults lead to (I15)."""


def tallied(first: int, count: int, processes: int) -> Tally:
    total = Tally()
    for tally in tallies(first, count, processes):
        total.add(tally)
    return total


def test_every_promise_holds_under_two_hundred_seeds() -> None:
    assert tallied(0, 200, 1).broken == []


@pytest.mark.slow
def test_every_promise_holds_under_five_thousand_seeds_in_which_every_fault_lands() -> None:
    total = tallied(0, SEEDS, 0)
    assert total.broken == []
    assert total.seeds == SEEDS
    rare = {name: total.landed[name] for name in LANDED if total.landed[name] < 5}
    assert not rare, "a fault that does not land proves nothing"


def test_garbage_that_uses_up_its_deliveries_is_set_aside_and_its_run_ends() -> None:
    """The server delivers for ever, so what cannot be read needs no advisory to get off the queue."""
    worlds = [
        played(seed, emphasis={"lost_ack": 0.9, "pause": 0.03, "leap": 0.0})
        for seed in range(1, 50)
    ]
    assert not [broken for _, broken in worlds if broken]
    assert any(world.server.dead.get("work") for world, _ in worlds)


def test_a_seed_is_one_world() -> None:
    """Otherwise no seed could be replayed."""
    first, again = played(11, traced=True)[0], played(11, traced=True)[0]
    assert first.trace == again.trace
    assert first.trace
