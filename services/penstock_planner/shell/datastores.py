"""Registered datastores: the bucket `datastores`, and what a plan has to know of it."""

import asyncio

from penstock.bus import Bus, Stored
from penstock.bus.buckets import Bucket, is_deleted
from penstock.contracts.codec import decoded
from penstock.contracts.data import DATASTORES
from penstock.contracts.queries import DatastoreCommand, DatastoresAnswer, DatastoreView
from penstock.contracts.requests import RunRequest
from penstock.contracts.spec import PipelineSpec
from penstock.contracts.subjects import Subjects
from penstock.errors import Invalid, NotFound
from penstock.ids import checked_name
from penstock.units import Seconds
from penstock_planner.decide.places import ANYWHERE, Places, checked_datastore, mentions_places
from penstock_planner.decide.problems import nearest

IN_THREAD_STEPS_MIN = 500
"""Larger specs are looked through in a thread, so that others are served meanwhile."""


class Datastores:
    """The bucket `datastores`. A datastore has no versions: registered again it is another place."""

    def __init__(self, bus: Bus, names: Subjects) -> None:
        self.bus = bus
        self.views: Bucket[DatastoreView] = Bucket(bus, names.bucket("datastores"), DatastoreView)

    async def places(self, spec: PipelineSpec, request: RunRequest) -> Places:
        """Return what a plan has to know; the bucket is read only for one that names a place."""
        if len(spec.steps) < IN_THREAD_STEPS_MIN:
            mentioned = mentions_places(spec, request.parameters)
        else:
            mentioned = await asyncio.to_thread(mentions_places, spec, request.parameters)
        if not mentioned:
            return ANYWHERE
        return Places({view.name: view.datastore for view in await self.registered()})

    async def registered(self) -> list[DatastoreView]:
        """Return what is registered, by name."""
        found: dict[str, DatastoreView] = {}

        def take(stored: Stored) -> None:
            name = self.views.key_of(stored)
            if is_deleted(stored):
                found.pop(name, None)
            else:
                found[name] = decoded(stored.data, DatastoreView)

        await self.bus.replay(self.views.stream, [self.views.subject("*")], take)
        return [found[name] for name in sorted(found)]

    async def create(self, command: DatastoreCommand, now: Seconds) -> DatastoreView:
        """Register a datastore, in place of one of that name.

        Raises:
            Invalid: what is wrong with it.
        """
        name = checked_name(command.name, "request.name")
        if command.datastore is None:
            raise Invalid("no datastore", code="E_EMPTY", where="request.datastore")
        others = {
            view.name: view.datastore for view in await self.registered() if view.name != name
        }
        checked_datastore(command.datastore, others)
        view = DatastoreView(
            name=name, datastore=command.datastore, created_at=now, who=command.who
        )
        await self.views.put(name, view)
        return view

    async def list(self) -> DatastoresAnswer:
        """Return all datastores."""
        views = {name: DatastoreView(name=name) for name in DATASTORES}
        views |= {view.name: view for view in await self.registered()}
        return DatastoresAnswer(datastores=tuple(views[name] for name in sorted(views)))

    async def show(self, name: str) -> DatastoreView:
        """Return one datastore.

        Raises:
            NotFound: with the nearest known name.
        """
        known = {view.name: view for view in (await self.list()).datastores}
        if name not in known:
            raise NotFound(
                f"no datastore {name[:63]!r}",
                where="request.name",
                hint=nearest(name, known) or "register it with: penstock datastore create",
            )
        return known[name]

    async def delete(self, name: str) -> DatastoreView:
        """Forget a registered datastore; its files stay where they are. Raises as `show`."""
        view = await self.show(name)
        await self.views.delete(name)
        return view
