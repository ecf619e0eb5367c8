"""Specs and registered pipelines: where they are kept, and how a name becomes a spec."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from penstock.bus import Bus, Stored
from penstock.bus.buckets import Bucket, is_deleted
from penstock.contracts.artifacts import PREFIX
from penstock.contracts.codec import decoded
from penstock.contracts.queries import PipelineView
from penstock.contracts.requests import RunRequest
from penstock.contracts.spec import GitInfo, PipelineSpec, spec_bytes
from penstock.contracts.subjects import Subjects
from penstock.errors import Conflict, Corrupt, Invalid, NotFound
from penstock.runtime.crash import Crash, never
from penstock.trees.client import TreeClient
from penstock_planner.decide.environments import Environments
from penstock_planner.decide.problems import nearest
from penstock_planner.decide.reading import (
    SPEC_FILE,
    artifact_in,
    digest_and_bytes,
    pipeline_of,
    spec_of,
    stripped,
)
from penstock_planner.state import SPEC_KEPT_BYTES_MAX, StoredSpec

CACHED_MAX = 64
CACHED_BYTES_MAX = 256 * 1024
KNOWN_MAX = 10_000
LARGE_AT_ONCE_MAX = 2
SKEW_S = 2.0
"""Servers of a cluster may disagree by this much on what came first."""
RACES_MAX = 100
NULL = b"null"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A spec, and what is known of where it came from."""

    spec: PipelineSpec
    digest: str
    version: str = ""
    git: GitInfo | None = None
    tree: str = ""
    """Digest of the stored tree that holds it, when it came as one."""
    original: PipelineSpec | None = None
    """What is kept instead, when `spec` grew too large by what its references mean."""


class Pipelines:
    """The buckets `pipelines` and `specs`."""

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        trees: TreeClient,
        *,
        environments: Environments | None = None,
        crash: Crash = never,
    ) -> None:
        self.environments = environments or Environments()
        self.bus = bus
        self.crash = crash
        self.trees = trees
        self.views: Bucket[PipelineView] = Bucket(bus, names.bucket("pipelines"), PipelineView)
        self.specs: Bucket[StoredSpec] = Bucket(bus, names.bucket("specs"), StoredSpec)  # type: ignore[arg-type]
        self._large = asyncio.Semaphore(LARGE_AT_ONCE_MAX)
        self._cached: OrderedDict[str, PipelineSpec] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    # -- specs -----------------------------------------------------------------------------------
    async def resolved(self, request: RunRequest, at: float) -> Resolved:
        """Return the spec that a request means. "latest" is what was so at `at`.

        A request that is delivered again must give the same plan, so what was registered meanwhile
        does not count.

        Raises:
            Invalid: neither or both of `pipeline` and `spec`, or the spec is none.
            NotFound: no such pipeline, version or artifact.
        """
        inline = is_set(request.spec)
        if inline and request.pipeline:
            raise Invalid(
                "both pipeline and spec; allowed: one of them", code="E_REQUEST", where="request"
            )
        if inline:
            return await self.given(request.spec)
        if not request.pipeline:
            raise Invalid(
                "neither pipeline nor spec; allowed: one of them",
                code="E_REQUEST",
                where="request",
                hint='send {"pipeline": "<name>"} or {"spec": {"steps": …}}',
            )
        name, version = pipeline_of(request.pipeline)
        view = await self.view(name, version, at=at, where="request.pipeline")
        spec = await self.spec(view.spec, name)
        return Resolved(spec, view.spec, view.version, view.git)

    async def given(self, raw: msgspec.Raw) -> Resolved:
        """Return an inline spec, or one that is stored as an artifact."""
        tree = artifact_in(raw)
        spec = await self._read(tree) if tree else spec_of(bytes(raw))
        digest, _ = digest_and_bytes(spec)
        return Resolved(spec, digest, tree=tree)

    async def _read(self, tree: str) -> PipelineSpec:
        """Return the spec in a stored tree; few at a time, since one may take 64 MiB."""
        async with self._large:
            data = await self.trees.read(tree, SPEC_FILE)
            return await asyncio.to_thread(spec_of, data, stored=True)

    async def keep(self, resolved: Resolved) -> None:
        """Make sure that the bucket `specs` holds a spec."""
        if resolved.digest in self._known:
            return
        if (
            await self.specs.bus.last(self.specs.stream, self.specs.subject(resolved.digest))
            is None
        ):
            kept = stripped(resolved.original or resolved.spec)
            large = bool(resolved.tree) and len(spec_bytes(kept)) > SPEC_KEPT_BYTES_MAX
            value: StoredSpec = PREFIX + resolved.tree if large else kept
            await self.specs.put(resolved.digest, value, message_id=resolved.digest)
        self._known[resolved.digest] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def spec(self, digest: str, name: str) -> PipelineSpec:
        """Return a kept spec as the pipeline `name`; a stored tree may call it otherwise.

        Raises:
            NotFound: neither the spec nor the tree is kept any more.
        """
        cached = self._cached.get(digest)
        if cached is not None:
            self._cached.move_to_end(digest)
            return cached
        stored = await self.bus.last(self.specs.stream, self.specs.subject(digest))
        if stored is None:
            raise NotFound(f"the spec {digest[:12]}… is not kept any more", where="specs")
        value: StoredSpec = decoded(stored.data, StoredSpec)  # type: ignore[arg-type]
        if isinstance(value, str):
            read = await self._read(value.removeprefix(PREFIX))
            return msgspec.structs.replace(stripped(read), name=name)
        spec: PipelineSpec = value
        if len(stored.data) <= CACHED_BYTES_MAX:
            self._cached[digest] = spec
            if len(self._cached) > CACHED_MAX:
                self._cached.popitem(last=False)
        return spec

    # -- registered pipelines --------------------------------------------------------------------
    async def view(
        self, name: str, version: str, *, at: float = float("inf"), where: str = "name"
    ) -> PipelineView:
        """Return a registered version; "latest" is the newest one registered at `at` or before.

        Raises:
            NotFound: with the nearest known name.
        """
        latest = await self.views.get(f"{name}.latest")
        if latest is None:
            names = [view.name for view in await self.newest()]
            raise NotFound(
                f"no pipeline {name!r} is registered",
                where=where,
                hint=nearest(name, names) or "register it with: penstock pipeline create --file F",
            )
        if version != "latest":
            found = await self.views.get(f"{name}.{int(version)}")
            if found is None:
                raise NotFound(
                    f"pipeline {name!r} has no version {version}",
                    where=where,
                    hint=f"the newest is {latest.value.version}",
                )
            return found.value
        if latest.at <= at + SKEW_S:
            return latest.value
        number = int(latest.value.version)
        while number > 1:
            found = await self.views.get(f"{name}.{number}")
            if found is not None and found.at <= at + SKEW_S:
                return found.value
            number -= 1
        first = await self.views.get(f"{name}.1")
        return first.value if first else latest.value

    async def create(self, name: str, resolved: Resolved, who: str, now: float) -> PipelineView:
        """Register a spec under a name and return its version; equal content keeps its version.

        Two who register at once get two versions, or the same one for the same content.
        """
        spec = msgspec.structs.replace(resolved.spec, name=name)
        digest, _ = digest_and_bytes(spec)
        await self.keep(Resolved(spec, digest, tree=resolved.tree))
        for _ in range(RACES_MAX):
            known = await self.versions(name)
            for view in known:
                if view.spec == digest:
                    await self._make_latest(name, known[-1])
                    return view
            view = PipelineView(
                name=name,
                version=str(len(known) + 1),
                spec=digest,
                created_at=now,
                who=who,
                description=spec.description,
                git=resolved.spec.git,
            )
            try:
                await self.views.create(f"{name}.{view.version}", view)
            except Conflict:
                continue  # somebody took this version first: look again
            self.crash("planner.after-version")
            await self._make_latest(name, view)
            return msgspec.structs.replace(view, created=True)
        raise Conflict(f"{RACES_MAX} others registered {name!r} first", where="name")

    async def versions(self, name: str) -> list[PipelineView]:
        """Return every version of a pipeline, oldest first."""
        found: dict[int, PipelineView] = {}

        def take(stored: Stored) -> None:
            token = stored.subject.rpartition(".")[2]
            if token.isdigit() and not is_deleted(stored):
                found[int(token)] = decoded(stored.data, PipelineView)

        await self.bus.replay(self.views.stream, [self.views.subject(f"{name}.*")], take)
        return [found[number] for number in sorted(found)]

    async def newest(self) -> list[PipelineView]:
        """Return the latest version of every pipeline, by name."""
        found: dict[str, PipelineView] = {}

        def take(stored: Stored) -> None:
            if not is_deleted(stored):
                view = decoded(stored.data, PipelineView)
                found[view.name] = view

        await self.bus.replay(self.views.stream, [self.views.subject("*.latest")], take)
        return [found[name] for name in sorted(found)]

    async def _make_latest(self, name: str, view: PipelineView) -> None:
        """Move `<name>.latest` forward to `view`, never back."""
        key = f"{name}.latest"
        for _ in range(RACES_MAX):
            latest = await self.views.get(key)
            if latest is not None and int(latest.value.version) >= int(view.version):
                return
            try:
                await self.views.update(key, view, latest.revision if latest else 0)
            except Conflict:
                continue
            return
        raise Corrupt(f"{key!r} cannot be moved to {view.version}", where="pipelines")


def is_set(raw: msgspec.Raw) -> bool:
    """Say whether a raw field was given."""
    return bytes(raw).strip() not in (b"", NULL)
