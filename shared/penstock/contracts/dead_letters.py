"""Dead letters: messages nobody could take in, kept with the reason until somebody decides.

| subject                   | who answers | question            | answer            |
|---------------------------|-------------|---------------------|-------------------|
| query.dead-letter.list    | scheduler   | DeadLettersQuestion | DeadLettersAnswer |
| query.dead-letter.show    | scheduler   | DeadLetterCommand   | DeadLetterView    |
| query.dead-letter.replay  | scheduler   | DeadLetterCommand   | DeadLetterView    |
| query.dead-letter.delete  | scheduler   | DeadLetterCommand   | DeadLetterView    |

`replay` puts a letter back where it came from, once, and `delete` drops it; both take it off the list.
"""

from penstock.contracts.base import Message, Strict

LISTED_MAX = 200
SHOWN_BYTES_MAX = 64 * 1024
"""How much of a body `show` answers."""


class DeadLettersQuestion(Strict):
    """List dead letters, newest first. `before`: the last id of the page before."""

    stream: str = ""
    """requests, inbox, timers or work; empty: all."""
    limit: int = 50
    before: int = 0


class DeadLetterCommand(Strict):
    """Show, replay or delete one letter."""

    id: int


class DeadLetter(Message):
    """One letter, without its body."""

    id: int
    stream: str
    """Where it came from: requests, inbox, timers, work."""
    subject: str
    code: str
    reason: str
    at: float
    """When it was set aside."""
    deliveries: int = 0
    """How often it had been delivered by then."""
    size_bytes: int = 0
    truncated: bool = False
    """Only its beginning was kept."""
    obstacle: str = ""
    """Why it cannot be replayed; empty: it can."""


class DeadLettersAnswer(Message):
    """A page of letters."""

    letters: tuple[DeadLetter, ...] = ()
    more: bool = False


class DeadLetterView(Message):
    """A letter with its body; what became of it when it was replayed."""

    letter: DeadLetter
    headers: dict[str, str] = {}
    body: str = ""
    """Text as it is; bytes that are no UTF-8 as backslash-x and two digits. At most SHOWN_BYTES_MAX of it."""
    answer: str = ""
    """replay: what was answered, such as the run."""
