"""Identifiers: distinct types, the one pattern for names, and ids derived from what caused them.

A derived id is the same whenever it is derived from the same parts, so doing a thing twice gives
it the same name twice and the bus drops the copy.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NewType

from blake3 import blake3

from penstock.errors import Invalid
from penstock.units import Seconds

RunId = NewType("RunId", str)
PipelineName = NewType("PipelineName", str)
StepName = NewType("StepName", str)
Digest = NewType("Digest", str)
"""Lower-case hex BLAKE3-256 of some bytes (64 characters)."""

PARTITIONS = 16
"""Partitions of the run log; fixed for the life of a workspace."""

NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_NAME = re.compile(NAME_PATTERN)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RUN = re.compile(r"[0-9a-z]{15}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_EPOCH_S = 1_577_836_800  # 2020-01-01T00:00:00Z


def digest_of(data: bytes) -> Digest:
    """Return the BLAKE3-256 digest of `data`."""
    return Digest(blake3(data).hexdigest())


def is_digest(text: str) -> bool:
    """Say whether `text` has the shape of a digest."""
    return _DIGEST.fullmatch(text) is not None


def derived_id(*parts: str, length: int = 26) -> str:
    """Return `length` base-32 characters (5 bits each) that depend on all `parts` and their borders."""
    number = int.from_bytes(blake3("\x00".join(parts).encode()).digest(), "big")
    return _base32(number, length)


def run_id(at: Seconds, *parts: str) -> RunId:
    """Return a run id that sorts by time: 7 characters of whole seconds, then 8 derived ones (40 bits)."""
    return RunId(_base32(max(0, int(at) - _EPOCH_S), 7) + derived_id(*parts, length=8))


def run_time(run: RunId) -> Seconds:
    """Return the moment (whole seconds) that is written in a run id."""
    number = 0
    for character in run[:7]:
        number = number * 32 + _ALPHABET.index(character)
    return Seconds(float(number + _EPOCH_S))


def is_run_id(text: str) -> bool:
    """Say whether `text` has the shape of a run id."""
    return _RUN.fullmatch(text) is not None and all(c in _ALPHABET for c in text)


def partition_of(run: str) -> int:
    """Return the partition, 0 to PARTITIONS - 1, that owns a run."""
    return blake3(run.encode()).digest()[0] % PARTITIONS


def is_name(text: str) -> bool:
    """Say whether `text` may name a pipeline, a step, an input, an output, a target or a schedule."""
    return _NAME.fullmatch(text) is not None


def checked_name(text: str, where: str) -> str:
    """Return `text` if it may be a name.

    Raises:
        Invalid: E_ID. Dots, wildcards and blanks would change a subject, slashes a path.
    """
    if not is_name(text):
        shown = text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004 - one line on a terminal
        raise Invalid(
            f"{shown!r} is not a name; allowed: letters, digits, '_' and '-', at most 63, "
            "not beginning with '-'",
            code="E_ID",
            where=where,
        )
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest known word, or an empty text."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def _base32(number: int, length: int) -> str:
    characters = []
    for _ in range(length):
        number, index = divmod(number, 32)
        characters.append(_ALPHABET[index])
    return "".join(reversed(characters))
