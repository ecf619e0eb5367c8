"""`MLClient.compute`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from penstock.azure.ai.ml.entities import AmlCompute
from penstock.errors import NotFound

if TYPE_CHECKING:
    from penstock.azure.ai.ml.client import MLClient


class Compute:
    """Operations on compute targets: those that executors serve."""

    def __init__(self, owner: "MLClient") -> None:
        self._owner = owner

    def get(self, name: str) -> Any:
        """Return a compute target.

        Raises:
            NotFound: no executor serves it.
        """
        if name not in self._served():
            raise NotFound(f"no executor serves {name!r}", where=f"compute {name}")
        return AmlCompute(name=name)

    def list(self, **unused: Any) -> Iterator[Any]:
        """Iterate over compute targets."""
        for name in sorted(self._served()):
            yield self.get(name)

    def _served(self) -> set[str]:
        return {name for one in self._owner.client.executors() for name in one.targets}
