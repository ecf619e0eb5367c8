"""What is registered in a workspace, asked for and added to: pipelines, assets, datastores, compute targets."""

import msgspec

from penstock.contracts.computes import ComputeCommand, ComputesAnswer, ComputeView
from penstock.contracts.queries import (
    DatastoreCommand,
    DatastoresAnswer,
    DatastoreView,
    PipelineCommand,
    PipelinesAnswer,
    PipelineView,
)
from penstock.contracts.registry import AssetCommand, AssetsAnswer, AssetView
from penstock.errors import NotFound, Refused
from penstock.sdk.connection import Connection
from penstock.sdk.definition import Definition
from penstock.sdk.submissions import Submittable, definition_of, placed, who


class Registered(Connection):
    """Names of a workspace and what they mean."""

    async def register(self, what: Submittable, name: str = "") -> PipelineView:
        """Register a pipeline for others to run; equal content gives the same version."""
        from penstock.sdk.uploads import scanned_spec, spec_for_request

        talk = await self.open()
        definition = definition_of(what)
        if definition is None:
            raise NotFound(f"{what} is no file", where=str(what), hint="give a YAML file")
        found = await scanned_spec(definition, self.trees)
        spec = found.spec
        if name:
            spec = msgspec.structs.replace(spec, name=name)
        command = PipelineCommand(
            name=name or spec.name,
            spec=await spec_for_request(spec, self.trees),
            who=who(),
        )
        try:
            return await talk.ask("pipeline.create", command, PipelineView, "planner")
        except Refused as error:
            raise placed(error, definition) from error

    async def register_asset(self, command: AssetCommand, definition: Definition) -> AssetView:
        """Store what a definition names, and register it: see penstock.sdk.assets."""
        from penstock.sdk.assets import completed
        from penstock.sdk.uploads import scanned_spec

        talk = await self.open()
        found = await scanned_spec(definition, self.trees)
        wish = completed(command, found.spec)
        return await talk.ask("asset.create", wish, AssetView, "planner")

    async def asset(self, command: AssetCommand) -> AssetView:
        """Return a registered version."""
        talk = await self.open()
        return await talk.ask("asset.show", command, AssetView, "planner")

    async def assets(self, verb: str, command: AssetCommand) -> tuple[AssetView, ...]:
        """Return ("list"), hide ("archive") or bring back ("restore") registered versions."""
        talk = await self.open()
        return (await talk.ask(f"asset.{verb}", command, AssetsAnswer, "planner")).assets

    async def pipelines(self, name: str = "") -> tuple[PipelineView, ...]:
        """Return registered pipelines, or all versions of one."""
        talk = await self.open()
        command = PipelineCommand(name=name)
        return (await talk.ask("pipeline.list", command, PipelinesAnswer, "planner")).pipelines

    async def pipeline(self, name: str) -> PipelineView:
        """Return a registered pipeline, "n" or "n@v", with its definition when it fits a message."""
        talk = await self.open()
        return await talk.ask("pipeline.show", PipelineCommand(name=name), PipelineView, "planner")

    async def datastore(self, verb: str, command: DatastoreCommand) -> DatastoreView:
        """Register ("create"), return ("show") or forget ("delete") a datastore."""
        talk = await self.open()
        return await talk.ask(f"datastore.{verb}", command, DatastoreView, "planner")

    async def datastores(self) -> tuple[DatastoreView, ...]:
        """Return all datastores by name."""
        talk = await self.open()
        asked = DatastoreCommand()
        return (await talk.ask("datastore.list", asked, DatastoresAnswer, "planner")).datastores

    async def compute(self, verb: str, command: ComputeCommand) -> ComputeView:
        """Make ("create"), return ("show") or forget ("delete") a compute target."""
        talk = await self.open()
        return await talk.ask(f"compute.{verb}", command, ComputeView, "planner")

    async def computes(self) -> tuple[ComputeView, ...]:
        """Return all compute targets by name."""
        talk = await self.open()
        return (
            await talk.ask("compute.list", ComputeCommand(), ComputesAnswer, "planner")
        ).computes
