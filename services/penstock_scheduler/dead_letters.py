"""Dead letters, for whoever looks after them: listed, shown, put back or dropped.

A letter that is put back carries a message id made from it, so that two who replay it at once do it
once; then it is off the list. What happens to it there is its stream's business: a poison that still
is one comes back as a new letter.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.bus import MESSAGE_ID, Stored, dead
from penstock.contracts.codec import decoded
from penstock.contracts.dead_letters import (
    LISTED_MAX,
    SHOWN_BYTES_MAX,
    DeadLetter,
    DeadLetterCommand,
    DeadLettersAnswer,
    DeadLettersQuestion,
    DeadLetterView,
)
from penstock.contracts.requests import RunAnswer
from penstock.errors import BusUnavailable, Corrupt, Invalid, NotFound, Refused
from penstock_scheduler.tools import Tools

ANSWER_S = 5.0
Question = Callable[[Any], Awaitable[object]]


class DeadLetters:
    """Answers and deeds about the stream `dead`."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.stream = tools.names.stream("dead")

    def questions(self) -> dict[str, tuple[type[Any], Question]]:
        """Return what is asked under which name: the question's kind and who answers."""
        return {
            "dead-letter.list": (DeadLettersQuestion, self.list),
            "dead-letter.show": (DeadLetterCommand, self.show),
            "dead-letter.replay": (DeadLetterCommand, self.replay),
            "dead-letter.delete": (DeadLetterCommand, self.delete),
        }

    async def list(self, question: DeadLettersQuestion) -> DeadLettersAnswer:
        """Return a page of letters, newest first."""
        if not 1 <= question.limit <= LISTED_MAX:
            raise Invalid(
                f"{question.limit}; allowed: 1 to {LISTED_MAX}",
                code="E_LIMIT",
                where="query.dead-letter.list.limit",
            )
        found: list[DeadLetter] = []

        def take(stored: Stored) -> None:
            letter = letter_of(stored)
            if (not question.before or letter.id < question.before) and (
                question.stream in ("", letter.stream)
            ):
                found.append(letter)

        await self.tools.bus.replay(self.stream, [self.tools.names.dead()], take)
        page = found[: -question.limit - 1 : -1]
        return DeadLettersAnswer(letters=tuple(page), more=len(found) > len(page))

    async def show(self, command: DeadLetterCommand) -> DeadLetterView:
        """Return a letter with its body, or the beginning of it."""
        return view_of(await self._found(command.id))

    async def replay(self, command: DeadLetterCommand) -> DeadLetterView:
        """Put a letter back where it came from.

        Raises:
            Refused: E_NOT_REPLAYABLE. NotFound. BusUnavailable: it is still a dead letter.
        """
        stored = await self._found(command.id)
        letter = letter_of(stored)
        if letter.obstacle:
            raise Refused(
                letter.obstacle,
                code="E_NOT_REPLAYABLE",
                where=f"dead letter {letter.id}",
                hint=f"see it with: penstock dead-letters show {letter.id}",
            )
        message_id = f"replay.{letter.id}.{int(stored.at * 1000)}"
        headers = dead.own_headers(stored.headers)
        answer = ""
        if letter.stream == "requests":
            answer = await self._asked_again(letter, stored.data, headers, message_id)
        else:
            await self.tools.bus.append(letter.subject, stored.data, headers, message_id=message_id)
        await self.tools.bus.purge(self.stream, stored.subject)
        self.tools.log.info("replayed", letter=letter.id, subject=letter.subject)
        return DeadLetterView(letter=letter, answer=answer)

    async def delete(self, command: DeadLetterCommand) -> DeadLetterView:
        """Drop a letter."""
        stored = await self._found(command.id)
        await self.tools.bus.purge(self.stream, stored.subject)
        self.tools.log.info("dead letter dropped", letter=command.id, subject=stored.subject)
        return DeadLetterView(letter=letter_of(stored))

    async def _asked_again(
        self, letter: DeadLetter, data: bytes, headers: Any, message_id: str
    ) -> str:
        """Send a request again. Its stream acknowledges nothing: an answer, or finding it there, does."""
        bus, stream = self.tools.bus, self.tools.names.stream("requests")
        with contextlib.suppress(NotFound, Corrupt):
            try:
                sent = {**headers, MESSAGE_ID: message_id}
                received = await bus.request(letter.subject, data, sent, timeout_s=ANSWER_S)
                answer = decoded(received.data, RunAnswer)
                if answer.error is not None:
                    return f"{answer.error.code}: {answer.error.message}"
                return f"run {answer.run} {answer.state}"
            except BusUnavailable:
                pass
        last = await bus.last(stream, letter.subject)
        if last is None or last.headers.get(MESSAGE_ID) != message_id:
            raise BusUnavailable(
                "nobody has taken it in, and it is not known to be stored",
                code="E_NO_PLANNER",
                where=letter.subject,
                hint="start a planner and replay it again: it is still here",
            )
        return "stored; no planner has answered yet"

    async def _found(self, number: int) -> Stored:
        stored = await self.tools.bus.stored_at(self.stream, number) if number > 0 else None
        if stored is None or dead.SUBJECT not in stored.headers:
            raise NotFound(
                f"no dead letter {number}",
                where="query.dead-letter",
                hint="list them with: penstock dead-letters list",
            )
        return stored


def letter_of(stored: Stored) -> DeadLetter:
    """Return a letter without its body. Whoever may publish there may have written anything."""
    headers = stored.headers
    tokens = stored.subject.split(".")
    stream = tokens[2] if len(tokens) > 3 else ""  # noqa: PLR2004 - <workspace>.dead.<stream>.<letter>
    truncated = headers.get(dead.TRUNCATED, "")
    return DeadLetter(
        id=stored.sequence,
        stream=stream,
        subject=headers.get(dead.SUBJECT, ""),
        code=headers.get(dead.CODE, ""),
        reason=headers.get(dead.REASON, ""),
        at=stored.at,
        deliveries=_number(headers.get(dead.DELIVERIES, "")),
        size_bytes=_number(truncated) or len(stored.data),
        truncated=bool(truncated),
        obstacle=_obstacle(stored, stream),
    )


def view_of(stored: Stored) -> DeadLetterView:
    """Return a letter with its body as text."""
    return DeadLetterView(
        letter=letter_of(stored),
        headers=dict(dead.own_headers(stored.headers)),
        body=stored.data[:SHOWN_BYTES_MAX].decode("utf-8", errors="backslashreplace"),
    )


def _obstacle(stored: Stored, stream: str) -> str:
    """Return why a letter cannot be put back; only the streams that we take from take it back."""
    if dead.TRUNCATED in stored.headers:
        return "only its beginning was kept"
    if stream == "work":
        return "its attempt was reported as failed: run the step again with penstock run rerun"
    token = {"requests": "request", "inbox": "inbox", "timers": "due"}.get(stream)
    workspace = stored.subject.partition(".")[0]
    if token is None or not stored.headers.get(dead.SUBJECT, "").startswith(
        f"{workspace}.{token}."
    ):
        return "it did not come from a stream of this workspace"
    return ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
