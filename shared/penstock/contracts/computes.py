"""Compute targets: named queues of executors, registered so that steps may name them before one is there.

| subject        | who asks whom      | question       | answer         |
|----------------|--------------------|----------------|----------------|
| compute.create | anyone → planner   | ComputeCommand | ComputeView    |
| compute.list   | anyone → planner   | ComputeCommand | ComputesAnswer |
| compute.show   | anyone → planner   | ComputeCommand | ComputeView    |
| compute.delete | anyone → planner   | ComputeCommand | ComputeView    |

What a target can do at the moment is not registered: executors say it (contracts/work.py).
"""

from typing import Literal

from penstock.contracts.base import Message, Strict

DEFAULT = "default"


class Compute(Strict):
    """What executors of a target are to be: the settings that `penstock compute attach` starts one with."""

    kind: Literal["process", "docker"] = "process"
    slots: int = 0
    image: str = ""
    """docker: image of steps that name none."""
    network: Literal["none", "bridge"] = "none"
    cores: float = 0
    memory: str = ""
    labels: tuple[str, ...] = ()
    description: str = ""


class ComputeCommand(Strict):
    """create (with `compute`; one of that name is replaced), show, delete (by `name`), list."""

    name: str = ""
    compute: Compute | None = None
    who: str = ""


class ComputeView(Message):
    """A registered compute target: bucket `computes`, key = name."""

    name: str
    compute: Compute = Compute()
    created_at: float = 0
    who: str = ""


class ComputesAnswer(Message):
    """All compute targets by name; `default`, which every workspace has, among them."""

    computes: tuple[ComputeView, ...] = ()
