"""Asking and wishing on the bus: questions to services, wishes that are one wish however often sent.

A wish (`request.*`) is stored before anybody reads it, so when the answer is late it is sent again
with the same idempotency key, and the run is still one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from penstock.bus import Bus, Stored
from penstock.contracts.codec import decoded, encoded, error_of
from penstock.contracts.queries import Refusal
from penstock.contracts.requests import ErrorBody, RunAnswer
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable, NotFound

ANSWER_S = 10.0
"""How long to wait for one answer."""
TRIES_MAX = 3
QUEUE_MAX = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One client's side of the public subjects."""

    bus: Bus
    names: Subjects

    async def ask(self, what: str, question: object, kind: type[T], who: str) -> T:
        """Return the answer of `who` (a service's name, for the error) to a question.

        Raises:
            Refused: what the service answered.
            BusUnavailable: E_NO_SERVICE, nobody answers such questions; E_TIMEOUT.
        """
        subject = self.names.query(what)
        for attempt in range(1, TRIES_MAX + 1):
            try:
                answer = await self.bus.request(subject, encoded(question), timeout_s=ANSWER_S)
            except NotFound as error:
                # A service that is just starting subscribes within moments.
                if attempt < TRIES_MAX:
                    await asyncio.sleep(0.2 * attempt)
                    continue
                raise BusUnavailable(
                    f"no {who} is running on this bus",
                    code="E_NO_SERVICE",
                    where=subject,
                    hint="type `penstock status` to see what runs",
                ) from error
            return answer_of(answer.data, kind)
        raise AssertionError(subject)

    async def wish(self, what: str, body: object) -> RunAnswer:
        """Send a wish until it is answered and return the answer. `body` has an idempotency key.

        Raises:
            Refused: what the planner answered.
            BusUnavailable: E_NO_PLANNER, no answer; the wish may be stored and be granted later.
        """
        subject = self.names.request(what)
        for _ in range(TRIES_MAX):
            with contextlib.suppress(BusUnavailable):
                answer = await self.bus.request(subject, encoded(body), timeout_s=ANSWER_S)
                return answer_of(answer.data, RunAnswer)
        raise BusUnavailable(
            f"no planner answered within {ANSWER_S * TRIES_MAX:.0f} s; the request is stored "
            "and will be granted once one runs",
            code="E_NO_PLANNER",
            where=subject,
            hint="type `penstock status` to see what runs",
        )

    async def followed(
        self,
        stream: str,
        subjects: Sequence[str],
        *,
        after: int = 0,
        new_only: bool = False,
        last_per_subject: bool = False,
        live: bool = True,
    ) -> AsyncIterator[Stored]:
        """Iterate over a stream's messages in order; `live` false ends with what is stored now.

        Reconnects resume after the last message seen. `stream` is a short name.
        """  # fmt: skip
        queue: asyncio.Queue[Stored | None] = asyncio.Queue(QUEUE_MAX)

        async def caught_up() -> None:
            await queue.put(None)

        subscription = await self.bus.follow(
            self.names.stream(stream),
            subjects,
            queue.put,
            after=after,
            new_only=new_only,
            last_per_subject=last_per_subject,
            on_caught_up=None if live else caught_up,
        )
        try:
            while (message := await queue.get()) is not None:
                yield message
        finally:
            await subscription.close()


def answer_of(data: bytes, kind: type[T]) -> T:
    """Return an answer as a `kind`.

    Raises:
        Refused: the answer is a refusal.
    """
    if data.startswith(b'{"error"'):
        raise error_of(decoded(data, Refusal).error)
    if data.startswith(b'{"code"'):  # a service's handler failed: the bare error
        raise error_of(decoded(data, ErrorBody))
    return decoded(data, kind)
