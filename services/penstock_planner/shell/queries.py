"""Questions answered at once: what would run, and which pipelines there are."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from penstock.bus import Bus, Received, Subscription
from penstock.bus.buckets import Bucket
from penstock.clock import Clock
from penstock.contracts.cloudevents import unwrapped
from penstock.contracts.codec import encoded, error_body
from penstock.contracts.computes import ComputeCommand, ComputesAnswer, ComputeView
from penstock.contracts.queries import (
    DatastoreCommand,
    DatastoresAnswer,
    DatastoreView,
    LatestEntry,
    PipelineCommand,
    PipelinesAnswer,
    PipelineView,
    PlanForecast,
    Refusal,
    ReuseEntry,
)
from penstock.contracts.registry import AssetCommand, AssetsAnswer, AssetView
from penstock.contracts.requests import RunRequest
from penstock.contracts.subjects import Subjects
from penstock.errors import Invalid, PenstockError, Transient
from penstock.ids import checked_name
from penstock.trees.client import TreeClient
from penstock_planner.decide.forecast import Asked, Found, asked, completed, foresee, outlook_of
from penstock_planner.decide.plan import NAME_DEFAULT, Origin, Plan, checked
from penstock_planner.decide.reading import pipeline_of, read
from penstock_planner.shell.assets import Assets
from penstock_planner.shell.computes import Computes
from penstock_planner.shell.datastores import Datastores
from penstock_planner.shell.pipelines import Pipelines, is_set
from penstock_planner.shell.runs import plan_of, without_references

SERVICE = "penstock-planner"
QUEUE = "planner"
ANSWER_BYTES_MAX = 900 * 1024
STEPS_ANSWERED_MAX = 4_000
LISTED_MAX = 2_000

Answering = Callable[[bytes], Awaitable[object]]


class Queries:
    """The micro service of the planner."""

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        pipelines: Pipelines,
        trees: TreeClient,
        clock: Clock,
        *,
        datastores: Datastores,
        assets: Assets,
        computes: Computes,
    ) -> None:
        self.bus = bus
        self.names = names
        self.pipelines = pipelines
        self.trees = trees
        self.clock = clock
        self.datastores = datastores
        self.assets = assets
        self.computes = computes
        self.reuse = Bucket(bus, names.bucket("reuse"), ReuseEntry)
        self.latest = Bucket(bus, names.bucket("latest"), LatestEntry)

    async def start(self) -> Subscription:
        """Begin to answer."""
        answering: Mapping[str, Answering] = {
            "plan": self.plan,
            "pipeline.create": self.create,
            "pipeline.list": self.list,
            "pipeline.show": self.show,
            "compute.create": self.create_compute,
            "compute.list": self.list_computes,
            "compute.show": self.show_compute,
            "compute.delete": self.delete_compute,
            "datastore.create": self.create_datastore,
            "datastore.list": self.list_datastores,
            "datastore.show": self.show_datastore,
            "datastore.delete": self.delete_datastore,
            "asset.create": self.create_asset,
            "asset.list": self.list_assets,
            "asset.show": self.show_asset,
            "asset.archive": self.archive_asset,
            "asset.restore": self.restore_asset,
        }
        endpoints = {
            self.names.query(what): self._endpoint(answer) for what, answer in answering.items()
        }
        return await self.bus.serve(SERVICE, endpoints, queue=QUEUE)

    def _endpoint(self, answer: Answering) -> Callable[[Received], Awaitable[None]]:
        async def handle(message: Received) -> None:
            if not message.reply:
                return
            try:
                body = encoded(await answer(unwrapped(message.data, message.headers).data))
            except PenstockError as error:
                body = encoded(Refusal(error=error_body(error)))
            await self.bus.publish(message.reply, body)

        return handle

    # -- plan ------------------------------------------------------------------------------------
    async def plan(self, data: bytes) -> PlanForecast:
        """Return what would become of each step if this request were made now."""
        request = read(data, RunRequest, "request")
        resolved = await self.pipelines.resolved(request, float("inf"))
        resolved, request, said = await without_references(
            self.assets, resolved, request, float("inf")
        )
        places = await self.datastores.places(resolved.spec, request)
        origin = Origin(run="", version=resolved.version, places=places)
        plan = await plan_of(resolved, request, origin, self.pipelines.environments)
        plan = await self.computes.placed(plan)
        notes = [*said, *plan.notes]
        outlook = outlook_of(plan.steps, plan.head.reuse)
        nearer = list(outlook.steps)
        while questions := asked(nearer, outlook):
            nearer = foresee(outlook, await self._looked_up(plan, questions, notes))
        forecasts = completed(outlook)
        if len(forecasts) > STEPS_ANSWERED_MAX:
            notes.append(f"the first {STEPS_ANSWERED_MAX:,} of {len(forecasts):,} steps")
            forecasts = forecasts[:STEPS_ANSWERED_MAX]
        return PlanForecast(steps=forecasts, pipeline=plan.head.pipeline, notes=tuple(notes))

    async def _looked_up(
        self, plan: Plan, questions: list[Asked], notes: list[str]
    ) -> list[tuple[Asked, Found]]:
        entries = await self.reuse.get_many([question.fingerprint for question in questions])
        latest = await self.latest.get_many(
            [f"{plan.head.pipeline}.{question.step}" for question in questions]
        )
        trees = {tree.digest for entry in entries if entry for tree in entry.value.outputs.values()}
        try:
            stored = await self.trees.exist(trees) if trees else set()
        except Transient as error:
            note = f"outputs were not looked for: {error.message}"
            if note not in notes:
                notes.append(note)
            stored = trees
        found: list[tuple[Asked, Found]] = []
        for question, entry, before in zip(questions, entries, latest, strict=True):
            value = entry.value if entry else None
            gone = value is not None and any(
                tree.digest not in stored for tree in value.outputs.values()
            )
            known = before.value if before else None
            found.append((question, Found(None if gone else value, known, gone)))
        return found

    # -- pipelines -------------------------------------------------------------------------------
    async def create(self, data: bytes) -> PipelineView:
        """Register a pipeline."""
        command = read(data, PipelineCommand, "request")
        if not is_set(command.spec):
            raise Invalid("no spec", code="E_EMPTY", where="request.spec")
        resolved = await self.pipelines.given(command.spec)
        name = command.name or resolved.spec.name
        if name == NAME_DEFAULT:
            raise Invalid(
                "the pipeline has no name",
                code="E_ID",
                where="request.name",
                hint="write `name:` into the file, or give one with --name",
            )
        checked_name(name, "request.name")
        meant, _, _ = await without_references(self.assets, resolved, RunRequest(), float("inf"))
        places = await self.datastores.places(meant.spec, RunRequest())
        spec = msgspec.structs.replace(meant.spec, name=name)
        checked(spec, self.pipelines.environments, places)
        return await self.pipelines.create(name, resolved, command.who, self.clock.now())

    async def list(self, data: bytes) -> PipelinesAnswer:
        """Return every pipeline's latest version, or all versions of one."""
        command = _command(data)
        if command.name:
            name, _ = pipeline_of(command.name, "request.name")
            await self.pipelines.view(name, "latest", where="request.name")
            return PipelinesAnswer(
                pipelines=tuple((await self.pipelines.versions(name))[-LISTED_MAX:])
            )
        return PipelinesAnswer(pipelines=tuple((await self.pipelines.newest())[:LISTED_MAX]))

    async def show(self, data: bytes) -> PipelineView:
        """Return one version with its definition, when that fits into a message."""
        command = _command(data)
        name, version = pipeline_of(command.name, "request.name")
        if command.version:
            name, version = pipeline_of(f"{name}@{command.version}", "request.version")
        view = await self.pipelines.view(name, version, where="request.name")
        spec = await self.pipelines.spec(view.spec, view.name)
        full = msgspec.structs.replace(view, definition=spec)
        return full if len(encoded(full)) <= ANSWER_BYTES_MAX else view

    # -- compute targets -------------------------------------------------------------------------
    async def create_compute(self, data: bytes) -> ComputeView:
        """Register a compute target."""
        return await self.computes.create(read(data, ComputeCommand, "request"), self.clock.now())

    async def list_computes(self, data: bytes) -> ComputesAnswer:
        """Return all compute targets."""
        return await self.computes.list()

    async def show_compute(self, data: bytes) -> ComputeView:
        """Return one compute target."""
        return await self.computes.show(read(data, ComputeCommand, "request").name)

    async def delete_compute(self, data: bytes) -> ComputeView:
        """Forget a compute target."""
        return await self.computes.delete(read(data, ComputeCommand, "request").name)

    # -- datastores ------------------------------------------------------------------------------
    async def create_datastore(self, data: bytes) -> DatastoreView:
        """Register a datastore."""
        command = read(data, DatastoreCommand, "request")
        return await self.datastores.create(command, self.clock.now())

    async def list_datastores(self, data: bytes) -> DatastoresAnswer:
        """Return all datastores."""
        return await self.datastores.list()

    async def show_datastore(self, data: bytes) -> DatastoreView:
        """Return one datastore."""
        return await self.datastores.show(read(data, DatastoreCommand, "request").name)

    async def delete_datastore(self, data: bytes) -> DatastoreView:
        """Forget one datastore and return what it was."""
        return await self.datastores.delete(read(data, DatastoreCommand, "request").name)

    # -- the registry ----------------------------------------------------------------------------
    async def create_asset(self, data: bytes) -> AssetView:
        """Register a component, an environment, data or a model."""
        return await self.assets.create(read(data, AssetCommand, "request"), self.clock.now())

    async def list_assets(self, data: bytes) -> AssetsAnswer:
        """Return the newest version of each name of a kind, or all versions of one: the last that fit."""
        found = await self.assets.listed(read(data, AssetCommand, "request"))
        views = found.assets[-LISTED_MAX:]
        while len(encoded(AssetsAnswer(assets=views))) > ANSWER_BYTES_MAX:
            views = views[len(views) // 2 :]
        return AssetsAnswer(assets=views)

    async def show_asset(self, data: bytes) -> AssetView:
        """Return one version."""
        return await self.assets.show(read(data, AssetCommand, "request"))

    async def archive_asset(self, data: bytes) -> AssetsAnswer:
        """Hide a version, or all of a name."""
        return await self.assets.archive(read(data, AssetCommand, "request"), self.clock.now())

    async def restore_asset(self, data: bytes) -> AssetsAnswer:
        """Undo that."""
        return await self.assets.restore(read(data, AssetCommand, "request"))


def _command(data: bytes) -> PipelineCommand:
    return read(data, PipelineCommand, "request") if data.strip() else PipelineCommand()
