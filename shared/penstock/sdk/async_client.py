"""The client, asynchronous: what one may ask of a stack and wish of it. `Client` is its thin front.

One connection. Wishes carry an idempotency key, so a retry is the same wish; following resumes by
sequence and survives reconnects.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.contracts.events import RUN_ENDS, STEP_ENDS
from penstock.contracts.queries import (
    PlanForecast,
    RunQuestion,
    RunsAnswer,
    RunsQuestion,
    RunSummary,
    RunView,
    WhyAnswer,
    WhyQuestion,
)
from penstock.contracts.requests import CancelRequest, RerunRequest, Reuse, RunAnswer, RunRequest
from penstock.contracts.spec import PipelineSpec, Scalar
from penstock.contracts.work import ExecutorPresence
from penstock.errors import NotFound, Refused, Transient
from penstock.ids import is_name, is_run_id, run_time
from penstock.sdk.conversation import Conversation
from penstock.sdk.definition import Definition
from penstock.sdk.events import Seen, seen_of
from penstock.sdk.executors import explain_waiting, present
from penstock.sdk.log_lines import Chunk, Line, Lines, chunk_of
from penstock.sdk.parameters import check_known, local_data, typed
from penstock.sdk.progress import Progress, StepProgress
from penstock.sdk.registered import Registered
from penstock.sdk.submissions import (
    Submittable,
    definition_of,
    not_found,
    placed,
    scalars,
    who,
)

if TYPE_CHECKING:
    pass

FRESH_S = 60.0
"""A run this young may have been answered for before the scheduler has taken it in."""
FRESH_WAIT_S = 5.0


class AsyncClient(Registered):
    """A connection to one stack: `async with AsyncClient() as client: …`."""

    # -- wishes -------------------------------------------------------------------------------------

    async def submit(
        self,
        what: Submittable,
        *,
        parameters: Mapping[str, Scalar | Path] | None = None,
        experiment: str = "",
        tags: Mapping[str, str] | None = None,
        reuse: Reuse = "use",
        name: str = "",
        priority: int = 0,
        compute: str = "",
        deadline: float = 0,
        idempotency_key: str = "",
    ) -> RunAnswer:
        """Run a pipeline; return its run, `state` "queued", and notes. `deadline`: seconds, 0: its own.

        Raises:
            Refused: the definition, a parameter or a local file is not acceptable.
            BusUnavailable: the stack did not answer.
        """
        talk = await self.open()
        definition = definition_of(what)
        request, notes = await self._request(what, definition, parameters or {}, storing=True)
        request = msgspec.structs.replace(
            request,
            experiment=experiment or (definition.spec.experiment if definition else ""),
            reuse=reuse,
            compute=compute,
            deadline=deadline,
            tags=dict(tags or {}),
            name=name,
            priority=priority,
            idempotency_key=idempotency_key or str(uuid.uuid4()),
            who=who(),
        )
        try:
            answer = await talk.wish("run", request)
        except Refused as error:
            raise placed(error, definition) from error
        return msgspec.structs.replace(answer, notes=(*notes, *answer.notes))

    async def plan(
        self,
        what: Submittable,
        *,
        parameters: Mapping[str, Scalar | Path] | None = None,
        reuse: Reuse = "use",
        compute: str = "",
    ) -> PlanForecast:
        """Return what would run and what would be reused, without running anything."""
        talk = await self.open()
        definition = definition_of(what)
        request, notes = await self._request(what, definition, parameters or {}, storing=False)
        request = msgspec.structs.replace(request, reuse=reuse, compute=compute)
        try:
            forecast = await talk.ask("plan", request, PlanForecast, "planner")
        except Refused as error:
            raise placed(error, definition) from error
        return msgspec.structs.replace(forecast, notes=(*notes, *forecast.notes))

    async def cancel(self, run: str, reason: str = "") -> RunAnswer:
        """Cancel a run (id or unique prefix)."""
        talk = await self.open()
        full = await self.full_id(run)
        return await talk.wish("cancel", CancelRequest(run=full, reason=reason, who=who()))

    async def rerun(
        self,
        run: str,
        from_: str | Sequence[str] = "failed",
        parameters: Mapping[str, Scalar] | None = None,
        idempotency_key: str = "",
    ) -> RunAnswer:
        """Run an earlier run again as a new one: from "failed", from "start", or from named steps."""
        talk = await self.open()
        return await talk.wish(
            "rerun",
            RerunRequest(
                run=await self.full_id(run),
                from_=from_ if isinstance(from_, str) else tuple(from_),
                parameters=dict(parameters or {}),
                idempotency_key=idempotency_key or str(uuid.uuid4()),
                who=who(),
            ),
        )

    # -- questions ----------------------------------------------------------------------------------

    async def runs(
        self,
        *,
        pipeline: str = "",
        experiment: str = "",
        state: str = "",
        limit: int = 50,
        before: str = "",
    ) -> tuple[RunSummary, ...]:
        """Return runs, newest first."""
        talk = await self.open()
        question = RunsQuestion(
            pipeline=pipeline, experiment=experiment, state=state, limit=limit, before=before
        )
        return (await talk.ask("runs", question, RunsAnswer, "scheduler")).runs

    async def run(self, run: str, *, steps: bool = True) -> RunView:
        """Return a run by id or unique prefix, with all its steps."""
        talk = await self.open()
        view = await self._run_page(talk, RunQuestion(run=run, steps=steps))
        pages = [view.steps]
        while steps and sum(map(len, pages)) < view.steps_total and pages[-1]:
            first = sum(map(len, pages))
            page = await self._run_page(talk, RunQuestion(run=view.run, first=first))
            pages.append(page.steps)
        return msgspec.structs.replace(view, steps=tuple(step for page in pages for step in page))

    async def _run_page(self, talk: Conversation, question: RunQuestion) -> RunView:
        """Ask once, or for some seconds when the run is so young that it may not be known yet."""
        deadline = time.monotonic() + FRESH_WAIT_S
        while True:
            try:
                return await talk.ask("run", question, RunView, "scheduler")
            except Refused as error:
                young = is_run_id(question.run) and (
                    abs(time.time() - run_time(question.run)) < FRESH_S  # type: ignore[arg-type]
                )
                if not young or "NOT_FOUND" not in error.code or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def full_id(self, run: str, *, check: bool = False) -> str:
        """Return the run id that a unique prefix means; `check` also asks whether a whole id exists."""
        if is_run_id(run) and not check:
            return run
        return (await self.run(run, steps=False)).run

    async def why(self, run: str, step: str) -> WhyAnswer:
        """Return why a step was reused or not: its fingerprint's parts, old and new."""
        talk = await self.open()
        question = WhyQuestion(run=await self.full_id(run), step=step)
        return await talk.ask("why", question, WhyAnswer, "scheduler")

    async def executors(self) -> tuple[ExecutorPresence, ...]:
        """Return the executors that answer within two seconds: their targets, slots, and who is busy."""
        return await present(await self.open())

    # -- following ----------------------------------------------------------------------------------

    async def events(
        self,
        run: str = "",
        *,
        since: int | None = 0,
        live: bool = True,
        steps: Sequence[str] | None = None,
    ) -> AsyncIterator[Seen]:
        """Iterate over events in order: of a run until its end, or of everything, for ever.

        `since` is a stream sequence to continue after; None begins now. `live` false ends with what
        is stored. `steps` narrows what is told of a run to these steps (none: only the run's own).
        """
        talk = await self.open()
        names = talk.names
        subjects = [names.events()]
        if run:
            full = await self.full_id(run)
            subjects = [names.run_events(full)]
            if steps is not None:
                subjects = [names.run_only_events(full)]
                subjects += [names.run_step_events(full, step) for step in steps]
        stream = talk.followed(
            "events", subjects, after=since or 0, new_only=since is None, live=live
        )
        async for stored in stream:
            seen = seen_of(stored)
            yield seen
            if run and seen.noun == "run" and seen.what in RUN_ENDS:
                break

    async def logs(
        self, run: str, step: str = "*", *, live: bool = True, latest: bool = False
    ) -> AsyncIterator[Chunk]:
        """Iterate over what steps of a run wrote, in order of arrival; never ends while `live`.

        `latest` begins with only the newest chunk of each stream (for views that show last lines).
        """
        talk = await self.open()
        subject = talk.names.logs(await self.full_id(run), step)
        async for stored in talk.followed("logs", [subject], last_per_subject=latest, live=live):
            yield chunk_of(stored)

    async def lines(self, run: str, step: str = "") -> list[Line]:
        """Return the lines that a run's steps (or one of them) have written so far, metrics left out.

        From the log stream while it has them; from the archive for what was reused, or long ago.

        Raises:
            NotFound: the run has no such step.
        """
        view = await self.run(run)
        wanted = [item for item in view.steps if not step or item.step == step]
        if step and not wanted:
            raise not_found("step", step, view.run, [item.step for item in view.steps])
        cutter = Lines()
        found: list[Line] = []
        async for chunk in self.logs(view.run, step or "*", live=False):
            found += cutter.taken(chunk)
        found += cutter.left()
        heard = {line.step for line in found}
        for item in wanted:
            if item.step not in heard and item.logs is not None:
                found += await self._archived(item.step, item.attempts, item.logs.digest)
        return [line for line in found if line.stream != "metrics"]

    async def _archived(self, step: str, attempt: int, digest: str) -> list[Line]:
        names = {entry.path for entry in (await self.trees.manifest(digest)).entries}
        found: list[Line] = []
        for stream in ("stdout", "stderr"):
            if f"{stream}.txt" in names:
                text = (await self.trees.read(digest, f"{stream}.txt")).decode(errors="replace")
                found += [Line(step, attempt, stream, line, 0) for line in text.splitlines()]
        return found

    async def wait(
        self,
        run: str,
        timeout_s: float | None = None,
        *,
        step: str = "",
        on_event: Callable[[Seen], None] | None = None,
        on_waiting: Callable[[StepProgress], None] | None = None,
    ) -> RunView:
        """Return the run once it (or its `step`) has ended; `on_event` is called for each event.

        `on_waiting` is called with a step that is queued for long, whenever the reason (`waits_for`)
        changes.

        Raises:
            Transient: E_WAIT_TIMEOUT.
        """
        full = await self.full_id(run)
        await self.until_end(full, timeout_s, step=step, on_event=on_event, on_waiting=on_waiting)
        return await self._settled(full, step)

    async def until_end(
        self,
        run: str,
        timeout_s: float | None = None,
        *,
        step: str = "",
        on_event: Callable[[Seen], None] | None = None,
        on_waiting: Callable[[StepProgress], None] | None = None,
    ) -> str:
        """Wait as `wait` does, and return the run's state as its last event tells it.

        When nobody looks at the steps on the way, nothing of them is sent: a run of a thousand reused
        steps is three events. Whoever asks for a view afterwards gets one that knows of the end,
        because every view is a fold of the events.
        """
        full = await self.full_id(run)
        progress = Progress(full)
        looking = on_event is not None or on_waiting is not None
        steps = None if looking or (step and not is_name(step)) else [step] if step else []
        explaining = [
            asyncio.ensure_future(explain_waiting(await self.open(), progress, tell))
            for tell in (on_waiting,)
            if tell is not None
        ]

        async def ended() -> None:
            async for seen in self.events(full, steps=steps):
                progress.take(seen)
                if on_event is not None:
                    on_event(seen)
                if step and seen.data.get("step") == step and seen.what in STEP_ENDS:
                    return

        try:
            await asyncio.wait_for(ended(), timeout_s)
        except TimeoutError as error:
            raise Transient(
                f"run {full} has not ended within {timeout_s:g} s",
                code="E_WAIT_TIMEOUT",
                where=full,
                hint=f"it goes on; come back with `penstock run watch {full}`",
            ) from error
        finally:
            for task in explaining:
                task.cancel()
            await asyncio.gather(*explaining, return_exceptions=True)
        return progress.state

    async def _settled(self, run: str, step: str) -> RunView:
        """Return the run's view once it has caught up with the end that was seen."""
        deadline = time.monotonic() + FRESH_WAIT_S
        while True:
            view = await self.run(run)
            state: str = view.state
            if step:
                state = next((s.state for s in view.steps if s.step == step), "")
            if state in (*RUN_ENDS, *STEP_ENDS) or time.monotonic() > deadline:
                return view
            await asyncio.sleep(0.05)

    # -- files --------------------------------------------------------------------------------------

    async def download(
        self,
        run: str,
        folder: Path,
        *,
        step: str = "",
        output: str = "",
        path: str = "",
        artifacts: bool = False,
    ) -> list[Path]:
        """Fetch outputs below `folder` and return the folders written.

        All of the run: `folder/<step>/<output>`; one step: `folder/<output>`; one output: `folder`.
        `artifacts`: instead what the steps left in `./outputs` and `./logs`, wrote and logged:
        `folder/<step>`, of one step `folder`.
        `path` (fnmatch) narrows it to some files; nothing else is read then, and they are returned.

        Raises:
            NotFound: E_NOT_FOUND, no such step or output.
        """
        view = await self.run(run)
        wanted: list[tuple[str, Path]] = []
        steps = [s for s in view.steps if not step or s.step == step]
        if step and not steps:
            raise not_found("step", step, view.run, [s.step for s in view.steps])
        for item in steps:
            base = folder if step else folder / item.step
            if artifacts:
                wanted += [(item.logs.digest, base)] if item.logs is not None else []
                continue
            wanted += [
                (tree.digest, base if step and output else base / name)
                for name, tree in item.outputs.items()
                if not output or name == output
            ]
        if not step and output and output in view.outputs and not artifacts:
            wanted = [(view.outputs[output].digest, folder)]
        if output and not wanted and not artifacts:
            known = [name for s in steps for name in s.outputs]
            raise not_found("output", output, view.run, known)
        if path:
            files: list[Path] = []
            for digest, into in wanted:
                with contextlib.suppress(NotFound):
                    found = await self.trees.fetch_files(digest, into, path)
                    files += [into / name for name in found]
            if not files:
                raise NotFound(
                    f"no file {path!r} in {len(wanted)} outputs",
                    where=view.run,
                    hint="say a path inside the output, such as metrics.json or 'plots/*'",
                )
            return files
        for digest, into in wanted:
            await self.trees.fetch(digest, into)
        return [into for _, into in wanted]

    # -- what a request is made of -------------------------------------------------------------------

    async def _request(
        self,
        what: Submittable,
        definition: Definition | None,
        given: Mapping[str, Scalar | Path],
        *,
        storing: bool,
    ) -> tuple[RunRequest, tuple[str, ...]]:
        """Return the request for `what` and notes; `storing` moves the files it needs."""
        from penstock.sdk.uploads import (
            scanned_spec,
            spec_for_request,
            stored_parameters,
        )

        if definition is not None:
            check_known(given, definition.spec)
            data = local_data(given, definition.spec)
            found = await scanned_spec(definition, self.trees if storing else None)
            parameters = {**given, **await stored_parameters(data, self.trees)}
            raw = await spec_for_request(found.spec, self.trees)
            return RunRequest(spec=raw, parameters=scalars(parameters)), found.notes
        declared = (await self.pipeline(str(what))).definition if given else None
        parameters = dict(given)
        if declared is not None:
            check_known(given, declared)
            parameters |= await stored_parameters(local_data(given, declared), self.trees)
        return RunRequest(pipeline=str(what), parameters=scalars(parameters)), ()

    async def typed_parameters(
        self, what: Submittable, given: Mapping[str, str]
    ) -> dict[str, Scalar]:
        """Return parameters given as text with the types that the pipeline declares."""
        if not given:
            return {}
        definition = definition_of(what)
        spec: PipelineSpec | None = (
            definition.spec if definition else (await self.pipeline(str(what))).definition
        )
        return typed(given, spec)
