"""What uv says when it cannot build an environment, told to whoever wrote the requirements."""

import re

MESSAGE_CHARACTERS_MAX = 1_500
_FRAME = re.compile(r"[\u00d7\u2500-\u25ff]+")
"""What uv draws around its words: boxes, arrows, a cross."""
_AWAY = (
    "error sending request",
    "failed to lookup address",
    "dns error",
    "connection refused",
    "connection reset",
    "operation timed out",
    "tcp connect error",
    "503 service unavailable",
    "502 bad gateway",
    "429 too many requests",
)
_UNKNOWN = re.compile(r"Because (\S+) was not found in the package registry")
_NO_VERSION = re.compile(r"there (?:is|are) no versions? of (\S+)")
_NO_WHEEL = re.compile(r"(\S+) has no (?:usable )?wheels|has no wheels with a matching Python")
_FAILED_BUILD = re.compile(r"Failed to build `?([^`\s]+)`?")


def index_is_away(text: str) -> bool:
    """Say whether the package index could not be reached, so that another try may do better."""
    return any(sign in text.lower() for sign in _AWAY)


def explained(text: str, python: str) -> tuple[str, str]:
    """Return the resolver's message on one line, and a hint."""
    lines = [_FRAME.sub(" ", line).strip() for line in text.splitlines()]
    lines = [
        line
        for line in lines
        if line and not re.match(r"(\d\d:){2}|Using |Creating |Activate ", line)
    ]
    message = re.sub(r"\s+", " ", " ".join(lines)).strip()
    if len(message) > MESSAGE_CHARACTERS_MAX:
        message = message[: MESSAGE_CHARACTERS_MAX - 1] + "…"
    return message or "uv ended without a word", _hint(text, python)


def _hint(text: str, python: str) -> str:
    plain = re.sub(r"\s+", " ", _FRAME.sub(" ", text))
    if index_is_away(text):
        return (
            "is the package index reachable from the executor? see UV_DEFAULT_INDEX, PIP_INDEX_URL"
        )
    if found := _UNKNOWN.search(plain):
        return f"is {found[1]!r} spelled right, and on the executor's package index?"
    if found := _FAILED_BUILD.search(plain):
        return (
            f"{found[1]!r} has no wheel for python {python} and could not be built from source: "
            "take a version that has one, or a docker target"
        )
    if found := _NO_WHEEL.search(plain):
        return f"no wheels for python {python}: take a version that has them"
    if found := _NO_VERSION.search(plain):
        return f"which versions there are: pip index versions {re.split(r'[<>=!~]', found[1])[0]}"
    return "the whole log is in the attempt's archive, environment.txt"
