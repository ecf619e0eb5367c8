"""SDK v2's exceptions, each one of ours."""

from typing import ClassVar

from penstock.errors import Invalid, NotFound, PenstockError


class JobException(PenstockError):
    """A job that was followed has failed."""

    default_code: ClassVar[str] = "E_RUN_FAILED"


ValidationException = Invalid
ResourceNotFoundError = NotFound

__all__ = ["JobException", "ResourceNotFoundError", "ValidationException"]
