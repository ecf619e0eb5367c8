"""`MLClient.compute`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from penstock.azure.ai.ml.entities import AmlCompute
from penstock.azure.ai.ml.exceptions import absence_told
from penstock.azure.ai.ml.polling import Done
from penstock.errors import Invalid, NotFound
from penstock.sdk import compute_targets as targets

if TYPE_CHECKING:
    from penstock.azure.ai.ml.client import MLClient


class Compute:
    """Operations on compute targets: those that are served, registered, or created by this program."""

    def __init__(self, owner: "MLClient") -> None:
        self._client = owner.client

    def begin_create_or_update(self, compute: Any, **unused: Any) -> Done:
        """Let a target be there, for this program; nothing is rented.

        The steps of one that no executor serves go to the default target; a note says so.

        Raises:
            Invalid: E_TYPE, no compute target.
        """
        if not isinstance(compute, AmlCompute):
            raise Invalid(
                f"{type(compute).__name__} is no compute target", code="E_TYPE", where="compute"
            )
        targets.made(self._client, compute.name)
        compute.provisioning_state = "Succeeded"
        return Done(compute)

    begin_update = begin_create_or_update

    def begin_delete(self, name: str, **unused: Any) -> Done:
        """Forget a target; its executors go on.

        Raises:
            NotFound: it is not registered.
        """
        with absence_told():
            targets.forgotten(self._client, name)
        return Done(None)

    def get(self, name: str) -> Any:
        """Return a compute target.

        Raises:
            NotFound: there is none.
        """
        if name not in targets.serving(self._client):
            raise NotFound(f"there is no compute target {name!r}", where=f"compute {name}")
        return _entity(name)

    def list(self, **unused: Any) -> Iterator[Any]:
        """Iterate over compute targets."""
        for name in targets.serving(self._client):
            yield _entity(name)


def _entity(name: str) -> AmlCompute:
    found = AmlCompute(name=name)
    found.provisioning_state = "Succeeded"
    return found
