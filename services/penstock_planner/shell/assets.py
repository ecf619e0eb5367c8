"""The registry: the bucket `assets`, and what the references of a spec meant when the run was asked for."""

import re
from collections.abc import Mapping

import msgspec

from penstock.bus import Bus, Stored
from penstock.bus.buckets import Bucket, is_deleted
from penstock.contracts.codec import decoded
from penstock.contracts.components import NESTING_MAX
from penstock.contracts.registry import (
    LATEST,
    VERSION_PATTERN,
    VERSIONS_MAX,
    AssetCommand,
    AssetKind,
    AssetsAnswer,
    AssetView,
    content_digest,
    is_version,
)
from penstock.contracts.spec import STEPS_MAX, PipelineSpec, Scalar
from penstock.contracts.subjects import Subjects
from penstock.errors import Conflict, Invalid, NotFound
from penstock.ids import checked_name
from penstock.units import Seconds
from penstock_planner.decide.problems import nearest
from penstock_planner.decide.references import (
    Looked,
    checked_asset,
    notes_of,
    parameters_with,
    refuse_unknown,
    spec_with,
    steps_in,
    wanted_in,
)

SKEW_S = 2.0
"""As in pipelines.py: clocks of a cluster may disagree by this much on what came first."""
RACES_MAX = 100
_NUMBER = re.compile(r"[0-9]{1,15}")


class Resolution(msgspec.Struct, frozen=True):
    """A spec and parameters without references, and what is worth a line of the answer."""

    spec: PipelineSpec
    parameters: dict[str, Scalar]
    notes: tuple[str, ...] = ()


class Assets:
    """The bucket `assets`."""

    def __init__(self, bus: Bus, names: Subjects) -> None:
        self.bus = bus
        self.views: Bucket[AssetView] = Bucket(bus, names.bucket("assets"), AssetView)

    # -- what a run means ------------------------------------------------------------------------
    async def resolved(
        self, spec: PipelineSpec, parameters: Mapping[str, Scalar], at: float
    ) -> Resolution:
        """Return a spec with what its references meant at `at` in their places.

        A component may use components, so this is done until nothing is left to look up.

        Raises:
            Invalid: E_REF with the nearest name, or components that contain themselves.
        """
        found: dict[Looked, AssetView | None] = {}
        notes: dict[str, None] = {}
        given = dict(parameters)
        for _ in range(NESTING_MAX):
            wanted = wanted_in(spec, given)
            if not wanted:
                return Resolution(spec, given, tuple(notes))
            for looked in wanted:
                if looked not in found:
                    found[looked] = await self._meant(looked, at)
            await self._refuse_unknown(wanted, found)
            before = (spec, given)
            notes |= dict.fromkeys(notes_of(wanted, found))
            spec, given = spec_with(spec, found), parameters_with(given, found)
            if (spec, given) == before:
                return Resolution(spec, given, tuple(notes))
            if steps_in(spec) > STEPS_MAX:
                break
        raise Invalid(
            f"components within components without an end; allowed: {NESTING_MAX} deep",
            code="E_CYCLE",
            where="steps",
            hint="does a component use itself?",
        )

    async def _meant(self, looked: Looked, at: float) -> AssetView | None:
        for kind in looked.kinds:
            versions = await self.versions(kind, looked.name, at=at)
            if looked.version == LATEST:
                usable = [v for v in versions if not v.archived_at or v.archived_at > at]
                if usable:
                    return usable[-1]
                continue
            for view in versions:
                if view.version == looked.version:
                    return view
        return None

    async def _refuse_unknown(
        self, wanted: Mapping[Looked, str], found: Mapping[Looked, AssetView | None]
    ) -> None:
        unknown = {w: place for w, place in wanted.items() if found[w] is None and w.needed}
        if not unknown:
            return
        kinds = {kind for looked in unknown for kind in looked.kinds}
        known = {kind: await self.newest(kind) for kind in kinds}
        versions: dict[Looked, list[str]] = {}
        for looked in unknown:
            for kind in looked.kinds:
                versions.setdefault(looked, []).extend(
                    view.version for view in await self.versions(kind, looked.name)
                )
        refuse_unknown(unknown, known, versions)

    # -- commands --------------------------------------------------------------------------------
    async def create(self, command: AssetCommand, now: Seconds) -> AssetView:
        """Register a version and return it; the same content under the same name is the same version.

        Raises:
            Invalid: what is wrong with it; E_EXISTS, the version is there with another content.
        """
        name = checked_name(command.name, "request.name")
        checked_asset(command)
        content = content_digest(command)
        for _ in range(RACES_MAX):
            known = await self.versions(command.kind, name)
            same = [view for view in known if view.content == content]
            if not command.version and same:
                return same[-1]
            taken = {view.version: view for view in known}
            if command.version in taken:
                if taken[command.version].content == content:
                    return taken[command.version]
                raise Invalid(
                    f"{command.kind} {name!r} has a version {command.version} with another content",
                    code="E_EXISTS",
                    where="request.version",
                    hint="versions never change: give another one, or none to have the next number",
                )
            if len(known) >= VERSIONS_MAX:
                raise Invalid(
                    f"{len(known):,} versions; allowed: {VERSIONS_MAX:,}",
                    code="E_LIMIT",
                    where="request.name",
                )
            last = known[-1].created_at if known else 0.0
            view = AssetView(
                kind=command.kind,
                name=name,
                version=command.version or next_version(taken),
                content=content,
                created_at=max(now, last + 0.001),  # the order of versions is that of these
                who=command.who,
                description=command.description,
                display_name=command.display_name,
                tags=command.tags,
                git=command.git,
                component=command.component,
                environment=command.environment,
                data=command.data,
            )
            try:
                await self.views.create(_key(view), view)
            except Conflict:
                continue  # somebody took this version first: look again
            return msgspec.structs.replace(view, created=True)
        raise Conflict(f"{RACES_MAX} others registered {name!r} first", where="name")

    async def show(self, command: AssetCommand) -> AssetView:
        """Return a version, archived or not; without one the newest that is not archived.

        Raises:
            NotFound: with the nearest known name.
        """
        kind, name = command.kind, checked_name(command.name, "request.name")
        known = await self.versions(kind, name)
        if not known:
            names = [view.name for view in await self.newest(kind)]
            raise NotFound(
                f"no {kind} {name!r} is registered",
                where="request.name",
                hint=nearest(name, names)
                or f"register it with: penstock {kind} create --file FILE",
            )
        if command.version not in ("", LATEST):
            for view in known:
                if view.version == command.version:
                    return view
        usable = [view for view in known if not view.archived_at]
        if command.version in ("", LATEST) and usable:
            return usable[-1]
        shown = ", ".join(view.version for view in known[-10:])
        raise NotFound(
            f"{kind} {name!r} has no version {command.version!r}"
            if command.version not in ("", LATEST)
            else f"all versions of {kind} {name!r} are archived",
            where="request.version",
            hint=f"it has: {shown}",
        )

    async def archive(self, command: AssetCommand, now: Seconds) -> AssetsAnswer:
        """Hide a version, or without one all of them, from lists and from `latest`."""
        return await self._marked(command, now)

    async def restore(self, command: AssetCommand) -> AssetsAnswer:
        """Undo `archive`."""
        return await self._marked(command, Seconds(0.0))

    async def _marked(self, command: AssetCommand, archived_at: float) -> AssetsAnswer:
        if command.version:
            chosen = [await self.show(command)]
        else:
            chosen = await self.versions(
                command.kind, checked_name(command.name, "request.name")
            ) or [await self.show(command)]
        marked = []
        for view in chosen:
            changed = view
            if bool(view.archived_at) != bool(archived_at):
                changed = msgspec.structs.replace(view, archived_at=archived_at)
                await self.views.put(_key(view), changed)
            marked.append(_bare(changed))
        return AssetsAnswer(assets=tuple(marked))

    async def listed(self, command: AssetCommand) -> AssetsAnswer:
        """Return every name's newest version, or all versions of one name."""
        if command.name:
            name = checked_name(command.name, "request.name")
            views = await self.versions(command.kind, name)
            if not views:
                await self.show(command)  # says what there is instead
        else:
            views = await self.newest(command.kind, archived=command.archived)
        return AssetsAnswer(
            assets=tuple(_bare(v) for v in views if command.archived or not v.archived_at)
        )

    # -- reading ---------------------------------------------------------------------------------
    async def versions(
        self, kind: AssetKind, name: str, *, at: float = float("inf")
    ) -> list[AssetView]:
        """Return the versions of a name that were registered at `at` or before, oldest first."""
        found = await self._read(f"{kind}.{name}.*") if _is_token(name) else []
        return [view for view in found if view.created_at <= at + SKEW_S]

    async def newest(self, kind: AssetKind, *, archived: bool = False) -> list[AssetView]:
        """Return the newest version of every name, by name."""
        found = {
            view.name: view
            for view in await self._read(f"{kind}.*.*")
            if archived or not view.archived_at
        }
        return [found[name] for name in sorted(found)]

    async def _read(self, key: str) -> list[AssetView]:
        found: dict[str, AssetView] = {}

        def take(stored: Stored) -> None:
            if is_deleted(stored):
                found.pop(stored.subject, None)
            else:
                found[stored.subject] = decoded(stored.data, AssetView)

        await self.bus.replay(self.views.stream, [self.views.subject(key)], take)
        return sorted(found.values(), key=lambda view: (view.created_at, view.version))


def next_version(taken: Mapping[str, object]) -> str:
    """Return the number after the largest one."""
    numbers = [int(version) for version in taken if _NUMBER.fullmatch(version)]
    return str(max(numbers, default=0) + 1)


def _key(view: AssetView) -> str:
    assert is_version(view.version), VERSION_PATTERN  # noqa: S101 - checked_asset
    return f"{view.kind}.{view.name}.{view.version.replace('.', '~')}"


def _is_token(name: str) -> bool:
    try:
        checked_name(name, "name")
    except Invalid:
        return False
    return True


def _bare(view: AssetView) -> AssetView:
    """Return a view as it stands in a list."""
    return msgspec.structs.replace(view, component=None, environment=None)
