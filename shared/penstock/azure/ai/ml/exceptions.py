"""SDK v2's exceptions, each one of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from penstock.errors import Invalid, NotFound, PenstockError, Refused


class JobException(PenstockError):
    """A job that was followed has failed."""

    default_code: ClassVar[str] = "E_RUN_FAILED"


ValidationException = Invalid
ResourceNotFoundError = NotFound


@contextmanager
def absence_told() -> Iterator[None]:
    """Raise what a service answered when there is no such thing as scripts expect it.

    Raises:
        NotFound: in place of any refusal of that code.
    """
    try:
        yield
    except Refused as error:
        if error.code != NotFound.default_code or isinstance(error, NotFound):
            raise
        raise NotFound(error.message, where=error.where, hint=error.hint) from error


__all__ = ["JobException", "ResourceNotFoundError", "ValidationException", "absence_told"]
