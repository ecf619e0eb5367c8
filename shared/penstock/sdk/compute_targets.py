"""Compute targets as scripts ask for them: those that are registered or served, and those that a script "creates".

Scripts for Azure ML look for a cluster and create it when it is missing. Registered, a target that no executor
serves would keep its steps waiting for ever; so it is known in this program only, and its steps go where the
planner sends those of targets that nobody has made: to `default`.
"""

import sys

from penstock.contracts.computes import DEFAULT, ComputeCommand
from penstock.ids import checked_name
from penstock.sdk.client import Client
from penstock.sdk.submissions import who

_made: set[tuple[str, str]] = set()
"""(workspace, target): those that this program has created."""


def serving(client: Client) -> dict[str, int]:
    """Return how many executors serve each target that there is, for this program."""
    found = {view.name: 0 for view in client.background.call(client.asynchronous.computes())}
    found |= {name: 0 for workspace, name in _made if workspace == client.workspace}
    for executor in client.executors():
        for name in executor.targets:
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def made(client: Client, name: str) -> int:
    """Let a target be there, for this program, and say where its steps go; return how many executors serve it.

    Raises:
        Invalid: E_ID, no name of a target.
    """
    checked_name(name, "compute target")
    known = serving(client)
    if name not in known:
        _made.add((client.workspace, name))
        print(  # noqa: T201 - what scripts print of a cluster's creation as well
            f"note: no executor serves {name!r}, so its steps go to {DEFAULT!r}; make it with: "
            f"penstock compute create {name}, and penstock compute attach {name}",
            file=sys.stderr,
        )
    return known.get(name, 0)


def forgotten(client: Client, name: str) -> None:
    """Forget a target; its executors go on.

    Raises:
        Refused: E_NOT_FOUND, it is not registered.
    """
    if (client.workspace, name) in _made:
        _made.discard((client.workspace, name))
        return
    command = ComputeCommand(name=name, who=who())
    client.background.call(client.asynchronous.compute("delete", command))
