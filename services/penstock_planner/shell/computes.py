"""Compute targets: the bucket `computes`, and the targets that executors say they serve."""

import asyncio
import contextlib

from penstock.bus import Bus, Received, Stored
from penstock.bus.buckets import Bucket, is_deleted
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.computes import DEFAULT, ComputeCommand, ComputesAnswer, ComputeView
from penstock.contracts.queries import ExecutorsQuestion
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import ExecutorPresence
from penstock.errors import Corrupt, Invalid, NotFound
from penstock.ids import checked_name
from penstock.units import Seconds
from penstock_planner.decide.computes import Rule, checked_compute, named, placed
from penstock_planner.decide.plan import Plan
from penstock_planner.decide.problems import nearest

HEARD_S = 60.0
"""How long a target counts as served after an executor has said so."""
ANSWER_S = 0.3


class Computes:
    """The bucket `computes`. A target has no versions: registered again it is another one."""

    def __init__(self, bus: Bus, names: Subjects, rule: Rule) -> None:
        self.bus = bus
        self.names = names
        self.rule = rule
        self.views: Bucket[ComputeView] = Bucket(bus, names.bucket("computes"), ComputeView)
        self._heard: dict[str, float] = {}

    async def start(self) -> None:
        """Begin to hear which targets are served."""
        await self.bus.subscribe(self.names.presence(), self._on_presence)

    async def placed(self, plan: Plan) -> Plan:
        """Return a plan whose steps go to targets that there are. Raises as `decide.computes.placed`."""
        unknown = named(plan) - {DEFAULT} - self._served()
        if not unknown or self.rule == "wait":
            return plan
        known = {view.name for view in await self.registered()}
        if unknown - known:
            await self.bus.publish(self.names.query("executors"), encoded(ExecutorsQuestion()))
            await asyncio.sleep(ANSWER_S)
        return placed(plan, known | self._served(), self.rule)

    def _served(self) -> set[str]:
        now = asyncio.get_running_loop().time()
        return {target for target, at in self._heard.items() if now - at < HEARD_S}

    async def _on_presence(self, message: Received) -> None:
        with contextlib.suppress(Corrupt):
            said = decoded(message.data, ExecutorPresence)
            for target in () if said.draining else said.targets:
                self._heard[target] = asyncio.get_running_loop().time()

    # -- registered ------------------------------------------------------------------------------
    async def registered(self) -> list[ComputeView]:
        """Return what is registered, by name."""
        found: dict[str, ComputeView] = {}

        def take(stored: Stored) -> None:
            name = self.views.key_of(stored)
            if is_deleted(stored):
                found.pop(name, None)
            else:
                found[name] = decoded(stored.data, ComputeView)

        await self.bus.replay(self.views.stream, [self.views.subject("*")], take)
        return [found[name] for name in sorted(found)]

    async def create(self, command: ComputeCommand, now: Seconds) -> ComputeView:
        """Register a target, in place of one of that name.

        Raises:
            Invalid: what is wrong with it.
        """
        name = checked_name(command.name, "request.name")
        if command.compute is None:
            raise Invalid("no compute target", code="E_EMPTY", where="request.compute")
        compute = checked_compute(command.compute)
        view = ComputeView(name=name, compute=compute, created_at=now, who=command.who)
        await self.views.put(name, view)
        return view

    async def list(self) -> ComputesAnswer:
        """Return all targets."""
        views = {DEFAULT: ComputeView(name=DEFAULT)}
        views |= {view.name: view for view in await self.registered()}
        return ComputesAnswer(computes=tuple(views[name] for name in sorted(views)))

    async def show(self, name: str) -> ComputeView:
        """Return one target.

        Raises:
            NotFound: with the nearest known name.
        """
        known = {view.name: view for view in (await self.list()).computes}
        if name not in known:
            raise NotFound(
                f"no compute target {name[:63]!r}",
                where="request.name",
                hint=nearest(name, known) or "make it with: penstock compute create",
            )
        return known[name]

    async def delete(self, name: str) -> ComputeView:
        """Forget a target; its executors go on. Raises as `show`."""
        view = await self.show(name)
        await self.views.delete(name)
        return view
