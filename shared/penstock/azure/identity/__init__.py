"""Credentials of Azure's, accepted and not used: whoever reaches the bus may use it."""

from typing import Any


class _Credential:
    def __init__(self, *given: Any, **named: Any) -> None:
        pass

    def get_token(self, *scopes: str, **named: Any) -> None:
        """Return None: there is nothing to sign in to."""


class DefaultAzureCredential(_Credential):
    """Accepted."""


class InteractiveBrowserCredential(_Credential):
    """Accepted."""


class AzureCliCredential(_Credential):
    """Accepted."""


class ManagedIdentityCredential(_Credential):
    """Accepted."""


class ClientSecretCredential(_Credential):
    """Accepted."""


__all__ = [
    "AzureCliCredential",
    "ClientSecretCredential",
    "DefaultAzureCredential",
    "InteractiveBrowserCredential",
    "ManagedIdentityCredential",
]
