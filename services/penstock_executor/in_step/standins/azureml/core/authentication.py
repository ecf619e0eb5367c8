"""Ways to sign in to Azure. There is nothing to sign in to."""

from __future__ import annotations

from typing import Any


class AbstractAuthentication:
    """Takes whatever it is given."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def get_authentication_header(self) -> dict[str, str]:
        """Return no header."""
        return {}


class InteractiveLoginAuthentication(AbstractAuthentication):
    """Asks nobody."""


class ServicePrincipalAuthentication(AbstractAuthentication):
    """Needs no secret."""


class MsiAuthentication(AbstractAuthentication):
    """Needs no identity."""


class AzureCliAuthentication(AbstractAuthentication):
    """Needs no command line."""
