"""Asking the artifact service, patiently."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from penstock.bus import Bus
from penstock.contracts.artifacts import FetchAnswer, FetchRequest, Grant, Problem
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.requests import ErrorBody
from penstock.contracts.subjects import Subjects
from penstock.errors import (
    BlobUnavailable,
    BusUnavailable,
    Corrupt,
    NotFound,
    PenstockError,
    Refused,
    Transient,
)

ASK_S = 6.0
ASK_S_MAX = 60.0
"""An answer that does not come (its service was killed) is asked for again, and waited for longer:
a service may have a hundred thousand objects to look at."""
DELAY_S_MAX = 2.0
_PASSING = frozenset({"E_STORE", "E_STORE_FULL", "E_TIMEOUT", "E_BUS", "E_CONFLICT", "E_VERIFYING"})

R = TypeVar("R")


class ArtifactService:
    """The artifact service as its clients see it. Waits up to `patience_s` while it is away."""

    def __init__(self, bus: Bus, names: Subjects, patience_s: float) -> None:
        self.bus = bus
        self.names = names
        self.patience_s = patience_s

    async def ask(self, verb: str, request: object, kind: type[R]) -> R:
        """Return the service's answer.

        Raises:
            NotFound, Refused: what the service says.
            BusUnavailable, BlobUnavailable: no service, or none with a store, within `patience_s`.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.patience_s
        subject = self.names.artifact(verb)
        delay_s, timeout_s = 0.05, ASK_S
        while True:
            try:
                answer = await self.bus.request(subject, encoded(request), timeout_s=timeout_s)
                problem = decoded(answer.data, Problem).error
                if problem is None:
                    return decoded(answer.data, kind)
                raise _raised(problem)
            except NotFound as error:
                if error.code != "E_NO_RESPONDER":
                    raise
                failure: PenstockError = BusUnavailable(
                    "no artifact service answers",
                    code="E_NO_RESPONDER",
                    where=subject,
                    hint="is `penstock serve artifact` running?",
                )
            except Transient as error:
                failure = error
                if error.code == "E_TIMEOUT":
                    timeout_s = min(ASK_S_MAX, timeout_s * 2)
                if error.code == "E_VERIFYING":  # it is at work: patience begins anew
                    until, delay_s = loop.time() + self.patience_s, 0.05
            if loop.time() + delay_s > until:
                raise failure
            await asyncio.sleep(delay_s)
            delay_s = min(DELAY_S_MAX, delay_s * 2)

    async def grants(
        self, digest: str, paths: Sequence[str], keys: set[str]
    ) -> AsyncIterator[list[Grant]]:
        """Iterate over pages of grants to read those objects of a tree whose keys are given."""
        left = set(keys)
        after = ""
        while left:
            request = FetchRequest(digest=digest, paths=tuple(paths), after=after)
            answer = await self.ask("fetch", request, FetchAnswer)
            page = [grant for grant in answer.grants if grant.key in left]
            left -= {grant.key for grant in page}
            if page:
                yield page
            if not answer.more or not answer.grants:
                break
            after = answer.grants[-1].key
        if left:
            raise Corrupt(f"no grant came for {min(left)}", where=f"artifact:{digest[:12]}")


def _raised(problem: ErrorBody) -> PenstockError:
    """Return a refusal as an error of the kind that says what to do next."""
    kind: type[PenstockError] = Refused
    if problem.code in _PASSING:
        kind = BlobUnavailable
    elif problem.code == "E_NOT_FOUND":
        kind = NotFound
    return kind(problem.message, code=problem.code, where=problem.where, hint=problem.hint)
