"""What a data path means: a stored tree, or a place elsewhere whose data a step has to bring in.

artifact:<digest>                        stored
https://…  azureml://datastores/…        pending: the plan gets an import step (decide/transfers.py)
anything below a datastore's alias       the same, on that datastore
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from penstock.contracts.artifacts import PREFIX
from penstock.contracts.data import (
    DATASTORES,
    Datastore,
    Location,
    behind_alias,
    location_of,
    remote_scheme,
)
from penstock.contracts.plans import Bound
from penstock.contracts.spec import Input, Output, PipelineSpec, Scalar
from penstock.errors import Invalid
from penstock_planner.decide.problems import Problems, shown
from penstock_planner.decide.values import artifact_of

NO_DIGEST = "0" * 64
ALIASES_MAX = 20


class Pending(Bound, frozen=True, kw_only=True):
    """Data that is not stored yet. Only the planner knows such a thing: plans have import steps."""

    location: Location
    hint: str = ""
    """What the import step may be called after."""


@dataclass(frozen=True, slots=True)
class Places:
    """The datastores of the workspace."""

    datastores: Mapping[str, Datastore] = field(default_factory=dict)

    def bound(self, kind: str, text: str, where: str, problems: Problems, hint: str = "") -> Bound:
        """Return the data that a path names; what is wrong with it goes to the problems."""
        digest = artifact_of(text)
        if digest:
            return Bound(type=kind, artifact=digest)
        location = self.location(text, where, problems)
        if location is None:
            return Bound(type=kind, artifact=NO_DIGEST)
        return Pending(type=kind, location=location, hint=hint)

    def location(self, text: str, where: str, problems: Problems) -> Location | None:
        """Return where a text says that data lies; None: nowhere, which has been told."""
        try:
            plain = location_of(text, where=where)  # refuses secrets, below an alias too
            aliases = [(alias, n) for n, d in self.datastores.items() for alias in d.aliases]
            location = behind_alias(text, aliases, where=where) or plain
        except Invalid as error:
            problems.add(error.code, where, error.message, error.hint)
            return None
        if location is None:
            _tell(text, where, problems)
        elif location.datastore:
            return self._rooted(location, where, problems)
        return location

    def _rooted(self, location: Location, where: str, problems: Problems) -> Location | None:
        name = location.datastore
        known = self.datastores.get(name)
        if known is None and name not in DATASTORES:
            problems.add_unknown(
                "E_REF",
                where,
                f"no datastore {shown(name)}",
                name,
                (*DATASTORES, *self.datastores),
            )
            return None
        root = known.url if known else ""
        return Location(datastore=name, root=root, path=location.path)


ANYWHERE = Places()
"""Only what every workspace has."""


def mentions_places(spec: PipelineSpec, parameters: Mapping[str, Scalar]) -> bool:
    """Say whether anything in a request may be a place outside of the store."""
    texts: list[object] = list(parameters.values())
    specs = [spec]
    for each in specs:  # grows while it is walked
        texts += each.inputs.values()
        texts += each.outputs.values()
        for step in each.steps.values():
            texts += step.inputs.values()
            texts += step.outputs.values()
            if step.pipeline is not None:
                specs.append(step.pipeline)
    return any("://" in _path_of(text) for text in texts)


def _path_of(value: object) -> str:
    if isinstance(value, Input):
        return f"{value.path} {value.value} {value.default}"
    return value.path if isinstance(value, Output) else value if isinstance(value, str) else ""


def checked_datastore(datastore: Datastore, others: Mapping[str, Datastore]) -> None:
    """Refuse a datastore that cannot be, that holds a secret, or that another one stands for already.

    Raises:
        Invalid: E_PATH, E_DUPLICATE, E_LIMIT.
    """
    for url, where in (
        (datastore.url, "request.datastore.url"),
        *((alias, "request.datastore.aliases") for alias in datastore.aliases),
    ):
        parts = urlsplit(url)
        if url and not parts.scheme:
            raise Invalid(
                f"{shown(url)} is no URL; allowed: file:///folder, s3://bucket/prefix, …",
                code="E_PATH",
                where=where,
            )
        if parts.password or "sig=" in parts.query.lower() or "signature=" in parts.query.lower():
            raise Invalid(
                "a URL with a secret in it",
                code="E_PATH",
                where=where,
                hint="credentials go into the executor's datastores_file",
            )
    if len(datastore.aliases) > ALIASES_MAX:
        raise Invalid(
            f"{len(datastore.aliases)}; allowed: {ALIASES_MAX}",
            code="E_LIMIT",
            where="request.datastore.aliases",
        )
    for name, other in others.items():
        taken = set(datastore.aliases) & set(other.aliases)
        if taken:
            raise Invalid(
                f"{min(taken)!r} means datastore {name!r} already",
                code="E_DUPLICATE",
                where="request.datastore.aliases",
            )


def is_data(bound: Bound) -> bool:
    """Say whether an input is files: stored, made by a step, or still to be brought in."""
    return bool(bound.step or bound.artifact) or isinstance(bound, Pending)


def _tell(text: str, where: str, problems: Problems) -> None:
    if text.startswith("azureml:"):
        problems.add("E_REF", where, f"{shown(text)} is not registered, and no path on a datastore")
        return
    scheme = remote_scheme(text)
    if scheme:
        problems.add(
            "E_PATH",
            where,
            f"{shown(text.partition('?')[0])}: {scheme}: is reached through a datastore only",
            "register one with this address among its aliases, or write azureml://datastores/D/paths/P",
        )
        return
    problems.add(
        "E_PATH",
        where,
        f"{shown(text)} is not stored; allowed: {PREFIX}<64 hexadecimal digits>, https:, "
        "azureml://datastores/D/paths/P",
        "the command line and the SDK upload local paths at submission",
    )
