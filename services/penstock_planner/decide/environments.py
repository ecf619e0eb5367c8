"""What a step runs in: an environment as it stands, or the one that a name means.

A registered environment comes first, then the tables of curated names (penstock/environments).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.contracts.spec import EnvironmentSpec
from penstock.environments.lookups import Tables, curated, nearest_names
from penstock_planner.decide.problems import Problems, shown


@dataclass(frozen=True, slots=True)
class Environments:
    """What names may mean."""

    tables: Tables = field(default_factory=Tables)
    registered: Mapping[str, EnvironmentSpec] = field(default_factory=dict)
    """By the text that refers to it, such as `azureml:sklearn@latest`."""


def environment_of(
    text: str, known: Environments, where: str, problems: Problems
) -> EnvironmentSpec | None:
    """Return what a reference means; None for an empty one, and for an unknown one, which is told."""
    if not text:
        return None
    found = known.registered.get(text) or curated(text, known.tables)
    if found is None:
        near = nearest_names(text, known.tables, known.registered)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        problems.add(
            "E_ENVIRONMENT",
            where,
            f"no environment {shown(text)}; allowed: a registered one, a curated name, or its "
            "content: image, conda, pip, python",
            f"{hint}register it with: penstock environment create --file FILE; or leave it out, "
            "which is the executor's own interpreter",
        )
    return found
