"""Errors by the names that scripts catch."""


class AzureMLException(Exception):
    """Anything that a stand-in has to say no to."""


class UserErrorException(AzureMLException):
    """The call cannot be right."""


class RunEnvironmentException(AzureMLException):
    """There is no run around this code."""


class WebserviceException(AzureMLException):
    """A model, or a service of one, is not there."""


class ModelNotFoundException(WebserviceException):
    """There is no such model."""


class ComputeTargetException(AzureMLException):
    """There is no such compute target."""


class ProjectSystemException(AzureMLException):
    """There is no such workspace."""


class ExperimentExecutionException(AzureMLException):
    """A run has failed."""
