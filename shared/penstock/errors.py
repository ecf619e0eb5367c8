"""Every error penstock raises on purpose, arranged by what to do next.

    PenstockError
    ├── Refused              tell whoever asked; trying again cannot help
    │   ├── Invalid          the request can never succeed as written
    │   ├── NotFound         the thing named does not exist
    │   └── NotAllowed       the caller lacks the permission
    ├── Transient            try again later
    │   ├── Conflict         somebody else changed it first
    │   ├── BusUnavailable   the message bus did not answer
    │   └── BlobUnavailable  the blob store did not answer
    └── Corrupt              set aside and wake somebody: data breaks its contract

Each carries four things a reader needs at three in the morning: a stable `code` (its page is
shared/docs/errors/<code>.md), `where` it was found, the message (what was found, what is
allowed), and a `hint` (what to do next). Adapters translate library errors into these; none of a
library's own errors is seen above the port.
"""

from typing import ClassVar


class PenstockError(Exception):
    """The base of all. `code`, `where`, `message` and `hint` are public and stable."""

    default_code: ClassVar[str] = "E_INTERNAL"

    def __init__(self, message: str, *, code: str = "", where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.where = where
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        place = f" {self.where}" if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.code}{place}: {self.message}{hint}"


class Refused(PenstockError):
    """Tell whoever asked; trying again cannot help."""

    default_code = "E_REFUSED"


class Invalid(Refused):
    """The request can never succeed as written."""

    default_code = "E_INVALID"


class NotFound(Refused):
    """The thing named does not exist."""

    default_code = "E_NOT_FOUND"


class NotAllowed(Refused):
    """The caller lacks the permission; the message names the subject or the path."""

    default_code = "E_NOT_ALLOWED"


class Transient(PenstockError):
    """Try again later; the message says what did not answer."""

    default_code = "E_TRANSIENT"


class Conflict(Transient):
    """Somebody else changed it first."""

    default_code = "E_CONFLICT"


class BusUnavailable(Transient):
    """The message bus did not answer."""

    default_code = "E_BUS"


class BlobUnavailable(Transient):
    """The blob store did not answer."""

    default_code = "E_STORE"


class Corrupt(PenstockError):
    """Data breaks its contract: set it aside and wake somebody."""

    default_code = "E_CORRUPT"
