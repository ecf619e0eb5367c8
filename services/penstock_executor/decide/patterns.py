"""Which files of a listing a location means: all below a folder, or what a pattern matches.

a/b              the folder or the file a/b
a/b/*.csv        files of a/b whose names end so; in the tree they are x.csv, y.csv
a/**/part-?      at any depth below a
"""

import re
from functools import lru_cache

_MAGIC = re.compile(r"[*?]")


def split(path: str) -> tuple[str, str]:
    """Return a path as the folder that it certainly lies in and the pattern below it; "" for none."""
    parts = path.split("/") if path else []
    for number, part in enumerate(parts):
        if _MAGIC.search(part):
            return "/".join(parts[:number]), "/".join(parts[number:])
    return path, ""


def matches(path: str, pattern: str) -> bool:
    """Say whether a path below the folder matches: `*` and `?` within one name, `**` any number of folders."""
    return _expression(pattern).fullmatch(path) is not None


@lru_cache(maxsize=64)
def _expression(pattern: str) -> re.Pattern[str]:
    pieces: list[str] = []
    parts = pattern.split("/")
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            pieces.append(".*" if last else "(?:[^/]+/)*")
            continue
        name = "".join(
            "[^/]*" if character == "*" else "[^/]" if character == "?" else re.escape(character)
            for character in part
        )
        pieces.append(name if last else f"{name}/")
    return re.compile("".join(pieces), re.DOTALL)
