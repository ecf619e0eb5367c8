"""Keys of objects: what may be one, and the refusal of everything else."""

import re

from penstock.errors import Invalid

KEY_BYTES_MAX = 512
_KEY = re.compile(r"[a-z0-9-][a-z0-9.-]*(?:/[a-z0-9-][a-z0-9.-]*)*")


def checked_key(key: str) -> str:
    """Return `key` if it may name an object.

    Raises:
        Invalid: E_KEY. Nothing that could leave a directory or be rewritten by a server is a key.
    """
    if len(key) > KEY_BYTES_MAX or ".." in key or _KEY.fullmatch(key) is None:
        raise Invalid(
            f"{key[:80]!a} is no key; allowed: parts of a-z, 0-9, '-' and '.', joined by '/'",
            code="E_KEY",
            where="store",
        )
    return key
