"""Is equal work done, or in flight? Read, ask the artifact service, claim: three actions, as lookups.py."""

from typing import TYPE_CHECKING

from tests.simulation.world.artifact import asked
from tests.simulation.world.clockwork import Work, call

from penstock.contracts.artifacts import ExistAnswer, ExistRequest
from penstock.contracts.queries import ReuseEntry
from penstock.errors import Conflict, PenstockError
from penstock_scheduler.decide import LookedUp
from penstock_scheduler.effects import LookUp

if TYPE_CHECKING:
    from tests.simulation.world.term import Term

EXIST_WAIT_S = 30.0


def look_up(term: "Term", look: LookUp) -> Work[None]:
    """Look, and put the answer to the inputs."""
    term.put((yield from looked(term, look)))


def looked(term: "Term", look: LookUp) -> Work[LookedUp]:
    """Return what is found, once somebody else does not change the entry meanwhile."""
    process, server = term.process, term.world.server
    while True:
        revision, entry = yield from call(process, lambda: server.value("reuse", look.fingerprint))
        _, latest = yield from call(process, lambda: server.value("latest", look.latest))
        done = entry is not None and bool(entry.ended_at)
        exists, unsure = False, False
        if look.claim and done:
            digests = tuple(tree.digest for tree in entry.outputs.values())
            try:
                request = ExistRequest(digests=digests)
                answer = yield from asked(process, "exist", request, EXIST_WAIT_S)
                assert isinstance(answer, ExistAnswer)
                exists = set(answer.digests) >= set(digests)
            except PenstockError:
                unsure = True
        claimed = False
        mine = entry is not None and (entry.run, entry.step) == (look.run, look.step)
        if not look.claim:
            entry = None
        elif entry is not None and not done and mine:
            entry, claimed = None, True
        elif _claimable(entry, look, exists):
            claim = ReuseEntry(run=look.run, step=look.step)
            try:
                yield from call(
                    process, server.put_value, "reuse", look.fingerprint, claim, revision
                )
            except Conflict:
                continue
            entry, claimed = entry if done else None, True
        return LookedUp(
            run=look.run,
            step=look.step,
            look=look.look,
            fingerprint=look.fingerprint,
            entry=entry,
            exists=exists,
            unsure=unsure,
            claimed=claimed,
            latest=latest,
        )


def _claimable(entry: ReuseEntry | None, look: LookUp, exists: bool) -> bool:
    if entry is None:
        return True
    if entry.ended_at:
        return not exists
    return look.stale == (entry.run, entry.step)
