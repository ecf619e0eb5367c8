"""Dead letters, as a client asks for them."""

from typing import Literal

from penstock.contracts.dead_letters import (
    LISTED_MAX,
    DeadLetter,
    DeadLetterCommand,
    DeadLettersAnswer,
    DeadLettersQuestion,
    DeadLetterView,
)
from penstock.sdk.conversation import Conversation

Deed = Literal["show", "replay", "delete"]


async def listed(talk: Conversation, *, stream: str = "", limit: int = 0) -> list[DeadLetter]:
    """Return letters, newest first; `limit` 0: all of them."""
    letters: list[DeadLetter] = []
    while True:
        room = limit - len(letters) if limit else LISTED_MAX
        question = DeadLettersQuestion(
            stream=stream,
            limit=min(room, LISTED_MAX),
            before=letters[-1].id if letters else 0,
        )
        page = await talk.ask("dead-letter.list", question, DeadLettersAnswer, "scheduler")
        letters += page.letters
        if not page.more or not page.letters or (limit and len(letters) >= limit):
            return letters


async def done(talk: Conversation, deed: Deed, number: int) -> DeadLetterView:
    """Show, replay or delete a letter, and return it."""
    command = DeadLetterCommand(id=number)
    return await talk.ask(f"dead-letter.{deed}", command, DeadLetterView, "scheduler")
