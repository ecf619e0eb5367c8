"""A simulation that notices nothing proves nothing: every planted bug is found, and soon."""

import pytest
from tests.simulation.world.mutants import ALL, OTHERS, TWELVE, seeds_needed

SEEDS_MAX = 400


def test_the_twelve_are_the_twelve() -> None:
    names = {mutant.name for mutant in TWELVE}
    assert names == {
        "ack_first",
        "cache_on_failure",
        "commit_before_upload",
        "lease_by_local_clock",
        "no_cas",
        "no_dedupe_id",
        "no_fence",
        "no_reconcile",
        "stale_cache",
        "swallow_decode_error",
        "tick_by_local_time",
        "unbounded_retry",
    }
    assert len(ALL) == len(TWELVE) + len(OTHERS)


@pytest.mark.parametrize("name", ALL)
def test_a_planted_bug_is_found(name: str) -> None:
    mutant = ALL[name]
    count, found = seeds_needed(mutant, SEEDS_MAX)
    assert count, f"{mutant.bug}: not noticed in {SEEDS_MAX} seeds"
    assert "AssertionError" not in found
    assert "AttributeError" not in found
