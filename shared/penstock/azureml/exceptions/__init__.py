"""SDK v1's exceptions; each is one of ours as well, so that code, place and hint are there."""

from typing import Any, ClassVar

from penstock.errors import Invalid, NotFound, PenstockError


class AzureMLException(PenstockError):
    """The base of all."""

    default_code: ClassVar[str] = "E_REFUSED"

    def __init__(self, exception_message: str = "", **known: Any) -> None:
        known.pop("inner_exception", None)
        super().__init__(exception_message, **known)


class UserErrorException(AzureMLException, Invalid):
    """What was asked cannot be done as it was written."""


class ExperimentExecutionException(AzureMLException):
    """A run could not be started, or not be followed."""


class ActivityFailedException(AzureMLException):
    """A run or step that was waited for has failed."""

    default_code: ClassVar[str] = "E_RUN_FAILED"


class ComputeTargetException(UserErrorException, NotFound):
    """There is no compute target of that name, or it cannot be made."""


class ModelNotFoundException(UserErrorException, NotFound):
    """There is no model of that name and version."""


class DatasetException(UserErrorException):
    """Data that is not there, or cannot be read."""


class RunEnvironmentException(AzureMLException):
    """`Run.get_context(allow_offline=False)` outside of a run."""


class SnapshotException(AzureMLException):
    """A source folder cannot be stored."""


class TrainingException(AzureMLException):
    """Kept for `except` clauses."""


class WebserviceException(AzureMLException):
    """Kept for `except` clauses: web services are no part of penstock."""


class ProjectSystemException(UserErrorException):
    """There is no such workspace."""


def unsupported(what: str, hint: str = "") -> UserErrorException:
    """Return the refusal of something that needs a service of Azure's."""
    return UserErrorException(f"{what} is not supported", code="E_UNSUPPORTED", hint=hint)


__all__ = [
    "ActivityFailedException",
    "AzureMLException",
    "ComputeTargetException",
    "DatasetException",
    "ExperimentExecutionException",
    "ModelNotFoundException",
    "ProjectSystemException",
    "RunEnvironmentException",
    "SnapshotException",
    "TrainingException",
    "UserErrorException",
    "WebserviceException",
    "unsupported",
]
