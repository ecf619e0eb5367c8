"""Runs, cancels and reruns made durable, in an order that survives a kill between any two steps.

    run     spec kept → key claimed → parts in the inbox → key marked planned → answer → ack

Everything before the ack may happen twice: the spec is named by its content, the run by its key or
by the stored request, each part by its run and number. Whether parts were taken in long ago is seen
in the inbox first and in the bucket `runs` second; the scheduler fills the second before it empties
the first.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import cast

import msgspec

from penstock.bus import Bus, Stored
from penstock.bus.buckets import Bucket
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.inbox import CancelRun
from penstock.contracts.queries import (
    RUN_STATES_FINAL,
    Refusal,
    RunQuestion,
    RunSummary,
    RunView,
    StepView,
)
from penstock.contracts.requests import (
    CancelRequest,
    ErrorBody,
    RerunRequest,
    Reuse,
    RunAnswer,
    RunRequest,
)
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable, Conflict, Invalid, NotFound, Refused
from penstock.ids import derived_id, run_id
from penstock.runtime.crash import Crash, never
from penstock.trees.client import TreeClient
from penstock.units import Seconds
from penstock_planner.decide.environments import Environments
from penstock_planner.decide.places import Places
from penstock_planner.decide.plan import Origin, Plan, parts_of, planned
from penstock_planner.decide.reading import Wish, content_of, digest_and_bytes
from penstock_planner.decide.rerun import steps_named, steps_to_run, with_given
from penstock_planner.shell.assets import Assets
from penstock_planner.shell.computes import Computes
from penstock_planner.shell.datastores import Datastores
from penstock_planner.shell.pipelines import Pipelines, Resolved
from penstock_planner.state import SPEC_KEPT_BYTES_MAX, KeyEntry

QUERY_WAIT_S = 5.0
IN_THREAD_STEPS_MIN = 500
"""Plans of more steps are made in a thread, so that others are served meanwhile."""
QUEUED = "queued"


class Runs:
    """What a request does to the bus."""

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        pipelines: Pipelines,
        trees: TreeClient,
        *,
        datastores: Datastores | None = None,
        assets: Assets | None = None,
        computes: Computes | None = None,
        crash: Crash = never,
    ) -> None:
        self.bus = bus
        self.crash = crash
        self.names = names
        self.pipelines = pipelines
        self.trees = trees
        self.computes = computes
        """None: steps go where they say."""
        self.datastores = datastores or Datastores(bus, names)
        self.assets = assets or Assets(bus, names)
        self.keys = Bucket(bus, names.bucket("keys"), KeyEntry)
        self.summaries = Bucket(bus, names.bucket("runs"), RunSummary)

    async def fulfil(self, wish: Wish, message: Stored, *, again: bool) -> RunAnswer:
        """Do what a request asks and return its answer. `again`: it was delivered before.

        Raises:
            Refused: what is wrong with it.
            Transient: the bus, the scheduler or the artifact service did not answer.
        """
        match wish.request:
            case RunRequest():
                return await self.run(wish, wish.request, message, again=again)
            case CancelRequest():
                return await self.cancel(wish.request, message)
            case RerunRequest():
                return await self.rerun(wish, wish.request, message, again=again)

    # -- run -------------------------------------------------------------------------------------
    async def run(
        self, wish: Wish, request: RunRequest, message: Stored, *, again: bool
    ) -> RunAnswer:
        """Plan a run."""
        entry = await self._entry(request.idempotency_key, wish)
        if entry is not None and entry.planned:
            return await self._as_it_is(entry.run)
        at = entry.at if entry else message.at
        resolved = await self.pipelines.resolved(request, at)
        resolved, asked, notes = await without_references(self.assets, resolved, request, at)
        places = await self.datastores.places(resolved.spec, asked)
        origin = self._origin(wish, message, entry, resolved, places)
        plan = await plan_of(resolved, asked, origin, self.pipelines.environments)
        plan = dataclasses.replace(plan, notes=notes + plan.notes)
        if self.computes is not None:
            plan = await self.computes.placed(plan)
        return await self._submitted(
            wish, plan, message, resolved=resolved, entry=entry, at=at, again=again
        )

    def _origin(
        self,
        wish: Wish,
        message: Stored,
        entry: KeyEntry | None,
        resolved: Resolved,
        places: Places,
        *,
        rerun_of: str = "",
    ) -> Origin:
        at = entry.at if entry else message.at
        return Origin(
            run=entry.run if entry else self.run_of(wish.request, message),
            spec=resolved.digest,
            version=resolved.version,
            requested_at=at,
            rerun_of=rerun_of,
            traceparent=wish.traceparent,
            git=resolved.git,
            places=places,
        )

    def run_of(self, request: object, message: Stored) -> str:
        """Return the id of the run that a stored request makes: from its key, else from its place."""
        at = Seconds(message.at)
        key = getattr(request, "idempotency_key", "")
        if key:
            return run_id(at, self.names.workspace, "key", key)
        return run_id(at, self.names.workspace, "sequence", str(message.sequence), repr(message.at))

    async def _submitted(
        self,
        wish: Wish,
        plan: Plan,
        message: Stored,
        *,
        resolved: Resolved,
        entry: KeyEntry | None,
        at: float,
        again: bool,
    ) -> RunAnswer:
        key = getattr(wish.request, "idempotency_key", "")
        parts_of(plan.head, plan.steps)  # refuses what does not fit, before anything is durable
        await self.pipelines.keep(resolved)
        self.crash("planner.after-spec")
        if key and entry is None:
            entry = KeyEntry(key=key, run=plan.head.run, content=content_of(wish), at=at)
            try:
                await self.keys.create(_key(key), entry)
            except Conflict:
                # Somebody planned under this key first: theirs is the run, for both of us. It has
                # another name and another moment, which may stand anywhere in a plan: planned anew.
                return await self.fulfil(wish, message, again=True)
            self.crash("planner.after-key")
        await self._append(plan, again=again)
        self.crash("planner.after-parts")
        if entry is not None:
            await self.keys.put(_key(key), msgspec.structs.replace(entry, planned=True))
        return RunAnswer(run=plan.head.run, state=QUEUED, notes=plan.notes)

    async def _append(self, plan: Plan, *, again: bool) -> None:
        run = plan.head.run
        parts = parts_of(plan.head, plan.steps)
        subjects = [self.names.inbox(run, "plan", f"part{part.part}") for part in parts]
        missing: Sequence[int] = range(len(parts))
        if again:
            stored = await self.bus.last_many(self.names.stream("inbox"), subjects)
            if await self.summaries.get(run) is not None:
                return
            missing = [number for number in missing if stored[number] is None]
        futures = [
            await self.bus.append_soon(
                subjects[number], encoded(parts[number]), message_id=f"{run}.plan.{number}"
            )
            for number in missing
        ]
        await asyncio.gather(*futures)

    async def _entry(self, key: str, wish: Wish) -> KeyEntry | None:
        """Return what a key has become, None if it is free or not given.

        Raises:
            Invalid: E_IDEMPOTENCY_CONFLICT, another request has used it.
        """
        if not key:
            return None
        found = await self.keys.get(_key(key))
        if found is None:
            return None
        if found.value.content != content_of(wish):
            raise Invalid(
                f"another request has used this key; it became run {found.value.run}",
                code="E_IDEMPOTENCY_CONFLICT",
                where="request.idempotency_key",
                hint="send the same request again, or another key",
            )
        return found.value

    async def _as_it_is(self, run: str) -> RunAnswer:
        summary = await self.summaries.get(run)
        return RunAnswer(run=run, state=summary.value.state if summary else QUEUED)

    # -- cancel ----------------------------------------------------------------------------------
    async def cancel(self, request: CancelRequest, message: Stored) -> RunAnswer:
        """Put a cancel into the run's inbox. A run that has ended answers with its state, E_ENDED."""
        summary = await self.found(request.run)
        state = summary.state if summary else QUEUED
        if state == "cancelled":
            return RunAnswer(run=request.run, state=state)
        if state in RUN_STATES_FINAL:
            error = ErrorBody(code="E_ENDED", message=f"the run has {state}", where="request.run")
            return RunAnswer(run=request.run, state=state, error=error)
        cancel = CancelRun(run=request.run, reason=request.reason, who=request.who)
        await self.bus.append(
            self.names.inbox(request.run, "planner", "cancel"),
            encoded(cancel),
            message_id=f"{request.run}.cancel.{message.sequence}",
        )
        return RunAnswer(run=request.run, state=state)

    async def found(self, run: str) -> RunSummary | None:
        """Return a run's summary; None when it was planned and no scheduler has taken it in yet.

        Raises:
            NotFound: there is no such run.
        """
        found = await self.summaries.get(run)
        if found is not None:
            return found.value
        waiting = self.names.inbox(run, "plan", "*")
        if await self.bus.last(self.names.stream("inbox"), waiting) is not None:
            return None
        found = await self.summaries.get(run)  # taken in between the two looks
        if found is None:
            raise NotFound(
                f"no run {run}", where="request.run", hint="list runs with: penstock run list"
            )
        return found.value

    # -- rerun -----------------------------------------------------------------------------------
    async def rerun(
        self, wish: Wish, request: RerunRequest, message: Stored, *, again: bool
    ) -> RunAnswer:
        """Plan a new run from an earlier one, which stays as it is."""
        entry = await self._entry(request.idempotency_key, wish)
        if entry is not None and entry.planned:
            return await self._as_it_is(entry.run)
        summary = await self.found(request.run)
        if summary is None:
            raise _not_ended(request.run, QUEUED)
        spec = await self.pipelines.spec(summary.spec, summary.pipeline)
        resolved = Resolved(spec, summary.spec, summary.version, summary.git)
        at = entry.at if entry else message.at
        again_as = _as_request(summary, request)
        resolved, asked, _ = await without_references(self.assets, resolved, again_as, at)
        spec = resolved.spec
        places = await self.datastores.places(spec, asked)
        origin = self._origin(wish, message, entry, resolved, places, rerun_of=request.run)
        known = self.pipelines.environments
        plan = await plan_of(resolved, asked, origin, known)
        if self.computes is not None:
            plan = await self.computes.placed(plan)
        if request.from_ != "start":
            if summary.state not in RUN_STATES_FINAL:
                raise _not_ended(request.run, summary.state)
            before = await plan_of(resolved, _as_request(summary, None), origin, known)
            plan = await self._taking_over(request, before, plan)
        return await self._submitted(
            wish, plan, message, resolved=resolved, entry=entry, at=at, again=again
        )

    async def _taking_over(self, request: RerunRequest, before: Plan, plan: Plan) -> Plan:
        views = await self.views(request.run)
        wanted = {tree.digest for view in views.values() for tree in view.outputs.values()}
        stored = await self.trees.exist(wanted)
        views = {
            name: view
            for name, view in views.items()
            if all(tree.digest in stored for tree in view.outputs.values())
        }
        rerun = steps_to_run(request.from_, before.steps, plan.steps, views)
        notes = plan.notes
        if not rerun:
            notes += (f"every step of run {request.run} has succeeded; nothing will run again",)
        named = steps_named(request.from_, plan.steps)
        return Plan(plan.head, with_given(plan.steps, request.run, views, rerun, named), notes)

    async def views(self, run: str) -> dict[str, StepView]:
        """Return what became of each step of a run, as the scheduler tells it, page by page.

        Raises:
            BusUnavailable: no scheduler answers.
            Refused: it refuses.
        """
        views: dict[str, StepView] = {}
        while True:
            question = encoded(RunQuestion(run=run, first=len(views)))
            try:
                answer = await self.bus.request(
                    self.names.query("run"), question, timeout_s=QUERY_WAIT_S
                )
            except NotFound as error:
                raise BusUnavailable("no scheduler answers", where=error.where) from error
            page = _run_view(answer.data)
            views |= {view.step: view for view in page.steps}
            if not page.steps or len(views) >= page.steps_total:
                return views


async def without_references(
    assets: Assets, resolved: Resolved, request: RunRequest, at: float
) -> tuple[Resolved, RunRequest, tuple[str, ...]]:
    """Return a spec and a request whose references are what they meant at `at`, and notes about that.

    The spec that is kept is the one without references, so that a rerun means the same. Only one too
    large for that is kept as it came, and means what its references mean then.
    """
    found = await assets.resolved(resolved.spec, request.parameters, at)
    if found.spec is not resolved.spec:
        digest, data = digest_and_bytes(found.spec)
        small = len(data) <= SPEC_KEPT_BYTES_MAX
        resolved = dataclasses.replace(
            resolved,
            spec=found.spec,
            digest=digest if small else resolved.digest,
            tree="" if small else resolved.tree,
            original=None if small else resolved.spec,
        )
    return resolved, msgspec.structs.replace(request, parameters=found.parameters), found.notes


async def plan_of(
    resolved: Resolved, request: RunRequest, origin: Origin, environments: Environments
) -> Plan:
    """Return the plan of a run, made beside the loop when it is a large one. Raises as `planned`."""
    if len(resolved.spec.steps) < IN_THREAD_STEPS_MIN:
        return planned(resolved.spec, request, origin, environments)
    return await asyncio.to_thread(planned, resolved.spec, request, origin, environments)


def _as_request(summary: RunSummary, request: RerunRequest | None) -> RunRequest:
    """Return the request that made a run, with the changes of a rerun."""
    return RunRequest(
        parameters={**summary.parameters, **(request.parameters if request else {})},
        experiment=summary.experiment,
        tags=summary.tags,
        reuse=cast(Reuse, summary.reuse or "use"),
        name=summary.display_name,
        who=request.who if request else "",
    )


def _run_view(data: bytes) -> RunView:
    if b'"error"' in data[:16]:
        error = decoded(data, Refusal).error
        raise Refused(error.message, code=error.code, where=error.where, hint=error.hint)
    return decoded(data, RunView)


def _not_ended(run: str, state: str) -> Refused:
    return Refused(
        f"run {run} is still {state}",
        code="E_NOT_ENDED",
        where="request.run",
        hint="wait for its end, cancel it, or rerun from start",
    )


def _key(key: str) -> str:
    return derived_id("key", key)
