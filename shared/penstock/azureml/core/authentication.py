"""Ways to sign in to Azure, accepted and not used: whoever reaches the bus may use it."""

from typing import Any


class AbstractAuthentication:
    """Nobody is asked for anything."""

    def __init__(self, *given: Any, **named: Any) -> None:
        pass

    def get_authentication_header(self) -> dict[str, str]:
        """Return no header."""
        return {}


class InteractiveLoginAuthentication(AbstractAuthentication):
    """Accepted."""


class ServicePrincipalAuthentication(AbstractAuthentication):
    """Accepted."""


class MsiAuthentication(AbstractAuthentication):
    """Accepted."""


class AzureCliAuthentication(AbstractAuthentication):
    """Accepted."""
