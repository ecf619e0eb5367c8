"""Collecting everything that is wrong with a request, so that its author hears all of it at once."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from penstock.errors import Invalid
from penstock.ids import did_you_mean

LISTED_MAX = 20
"""Problems written out in one refusal; further ones are only counted."""
KNOWN_MAX = 2_000
"""Names searched for a nearest one: looking through more would let a request burn our time."""
SHOWN_MAX = 60
PLACE_MAX = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: stable code, place, what was found and what is allowed, what to do."""

    code: str
    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f" {self.where}" if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.code}{place}: {self.message}{hint}"


@dataclass(slots=True)
class Problems:
    """The problems found so far, in the order they were found."""

    listed: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, code: str, where: str, message: str, hint: str = "") -> None:
        """Note a problem."""
        self.count += 1
        if len(self.listed) < LISTED_MAX:
            self.listed.append(Problem(code, where[:PLACE_MAX], message, hint))

    def add_unknown(
        self, code: str, where: str, message: str, word: str, known: Collection[str]
    ) -> None:
        """Note a reference to something that does not exist, with the nearest thing that does."""
        hint = nearest(word, known) if self.count < LISTED_MAX else ""
        self.add(code, where, message, hint or _choice(known))

    def refuse(self) -> None:
        """Raise Invalid if there are problems: the first one, the others listed in its message."""
        if not self.listed:
            return
        first, others = self.listed[0], self.listed[1:]
        if not others:
            raise Invalid(first.message, code=first.code, where=first.where, hint=first.hint)
        lines = [first.message + (f" ({first.hint})" if first.hint else ""), "also:"]
        lines += [f"  {problem}" for problem in others]
        if self.count > len(self.listed):
            lines.append(f"  and {self.count - len(self.listed):,} more")
        raise Invalid(
            "\n".join(lines),
            code=first.code,
            where=first.where,
            hint=f"{self.count:,} problems in all",
        )


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest known word (its case first), or an empty text."""
    candidates = [name for name, _ in zip(known, range(KNOWN_MAX), strict=False)]
    for name in candidates:
        if name.lower() == word.lower() and name != word:
            return f"did you mean {name!r}?"
    return did_you_mean(word[:SHOWN_MAX], candidates)


def shown(value: object) -> str:
    """Return a value as a message quotes it: one line, never long."""
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def _choice(known: Collection[str]) -> str:
    few = 8
    if not known or len(known) > few:
        return ""
    return f"known: {', '.join(sorted(known))}"
