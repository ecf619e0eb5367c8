"""The client: what one may ask of a stack and wish of it, as plain functions.

A thin front of `AsyncClient`, which lives on a loop in one background thread.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from penstock.contracts.queries import (
    DatastoreCommand,
    DatastoreView,
    PipelineView,
    PlanForecast,
    RunSummary,
    RunView,
    WhyAnswer,
)
from penstock.contracts.requests import Reuse
from penstock.contracts.spec import Scalar
from penstock.sdk.async_client import AsyncClient
from penstock.sdk.events import Seen
from penstock.sdk.log_lines import Chunk, Line
from penstock.sdk.loop import Background
from penstock.sdk.submissions import Submittable

if TYPE_CHECKING:
    from penstock.contracts.schedules import Schedule, ScheduleView
    from penstock.contracts.work import ExecutorPresence
    from penstock.sdk.progress import StepProgress
    from penstock.sdk.run import Run


RUNS_PAGE = 500
"""As many as one answer may hold."""


class Client:
    """One stack, found as the command line finds it: arguments, environment, file, running stack.

    Connects when it is first used. A context manager; a forgotten one ends with the program.
    """

    def __init__(
        self,
        bus: str | None = None,
        dir: str | Path | None = None,  # noqa: A002 - as the option is called
        workspace: str | None = None,
    ) -> None:
        self.asynchronous = AsyncClient(bus, dir, workspace)
        self.background = Background(self.asynchronous.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bus."""
        self.background.close()

    @property
    def workspace(self) -> str:
        """Name of the workspace."""
        return self.asynchronous.target.workspace

    # -- wishes -------------------------------------------------------------------------------------

    def submit(
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
    ) -> "Run":
        """Run a pipeline (a `Pipeline`, a YAML file, a registered name) and return its run.

        `deadline`: seconds from accepted to ended; 0: what the pipeline says.

        Raises:
            Refused: the pipeline, a parameter or a local file is not acceptable.
            BusUnavailable: the stack did not answer.
        """
        answer = self.background.call(
            self.asynchronous.submit(
                what,
                parameters=parameters,
                experiment=experiment,
                tags=tags,
                reuse=reuse,
                name=name,
                priority=priority,
                compute=compute,
                deadline=deadline,
                idempotency_key=idempotency_key,
            )
        )
        return self._run(answer.run, answer.notes)

    def plan(
        self,
        what: Submittable,
        *,
        parameters: Mapping[str, Scalar | Path] | None = None,
        reuse: Reuse = "use",
    ) -> PlanForecast:
        """Return what would run and what would be reused, without running anything."""
        return self.background.call(
            self.asynchronous.plan(what, parameters=parameters, reuse=reuse)
        )

    def register(self, what: Submittable, name: str = "") -> PipelineView:
        """Register a pipeline for others to run; equal content gives the same version."""
        return self.background.call(self.asynchronous.register(what, name))

    def cancel(self, run: str, reason: str = "") -> None:
        """Cancel a run."""
        self.background.call(self.asynchronous.cancel(run, reason))

    def rerun(
        self,
        run: str,
        from_: str | Sequence[str] = "failed",
        parameters: Mapping[str, Scalar] | None = None,
    ) -> "Run":
        """Run an earlier run again as a new one: from "failed", from "start", or from named steps."""
        answer = self.background.call(self.asynchronous.rerun(run, from_, parameters))
        return self._run(answer.run, answer.notes)

    # -- questions ----------------------------------------------------------------------------------

    def run(self, run: str) -> "Run":
        """Return a run by id or unique prefix.

        Raises:
            Refused: E_NOT_FOUND.
        """
        return self._run(self.background.call(self.asynchronous.full_id(run, check=True)))

    def view(self, run: str) -> RunView:
        """Return everything known of a run, with all its steps."""
        return self.background.call(self.asynchronous.run(run))

    def runs(
        self, *, pipeline: str = "", experiment: str = "", state: str = "", limit: int = 50
    ) -> tuple[RunSummary, ...]:
        """Return runs, newest first."""
        return self.background.call(
            self.asynchronous.runs(
                pipeline=pipeline, experiment=experiment, state=state, limit=limit
            )
        )

    def every_run(self, *, pipeline: str = "", experiment: str = "") -> Iterator[RunSummary]:
        """Iterate over all runs, newest first, page by page."""
        before = ""
        while True:
            asked = self.asynchronous.runs(
                pipeline=pipeline, experiment=experiment, limit=RUNS_PAGE, before=before
            )
            page = self.background.call(asked)
            yield from page
            if len(page) < RUNS_PAGE:
                return
            before = page[-1].run

    def why(self, run: str, step: str) -> WhyAnswer:
        """Return why a step was reused or not: its fingerprint's parts, old and new."""
        return self.background.call(self.asynchronous.why(run, step))

    def executors(self) -> "tuple[ExecutorPresence, ...]":
        """Return the executors that answer within two seconds: their targets, slots, and who is busy."""
        return self.background.call(self.asynchronous.executors())

    def pipelines(self, name: str = "") -> tuple[PipelineView, ...]:
        """Return registered pipelines, or all versions of one."""
        return self.background.call(self.asynchronous.pipelines(name))

    def pipeline(self, name: str) -> PipelineView:
        """Return a registered pipeline, "n" or "n@v"."""
        return self.background.call(self.asynchronous.pipeline(name))

    def datastores(self) -> tuple[DatastoreView, ...]:
        """Return all datastores by name."""
        return self.background.call(self.asynchronous.datastores())

    def datastore(self, verb: str, command: DatastoreCommand) -> DatastoreView:
        """Register ("create"), return ("show") or forget ("delete") a datastore."""
        return self.background.call(self.asynchronous.datastore(verb, command))

    def schedule(
        self,
        verb: str,
        name: str = "",
        schedule: "Schedule | None" = None,
        *,
        replace: bool = False,
    ) -> "ScheduleView":
        """Create, show, pause, resume, run-now or delete a schedule; return what became of it."""
        from penstock.sdk.schedules import asked

        wish = asked(self.asynchronous, verb, name, schedule, replace=replace)
        return self.background.call(wish)

    def schedules(self) -> "tuple[ScheduleView, ...]":
        """Return all schedules."""
        from penstock.sdk.schedules import listed

        return self.background.call(listed(self.asynchronous))

    # -- following ----------------------------------------------------------------------------------

    def events(self, run: str = "", *, since: int | None = 0, live: bool = True) -> Iterator[Seen]:
        """Iterate over events in order: of a run until its end, or of everything, for ever.

        `since` is a stream sequence to continue after; None begins now.
        """
        return self.background.iterate(self.asynchronous.events(run, since=since, live=live))

    def logs(self, run: str, step: str = "*", *, live: bool = False) -> Iterator[Chunk]:
        """Iterate over what steps of a run wrote so far; with `live`, for ever."""
        return self.background.iterate(self.asynchronous.logs(run, step, live=live))

    def lines(self, run: str, step: str = "") -> list[Line]:
        """Return the lines that a run's steps (or one of them) have written so far.

        Raises:
            NotFound: the run has no such step.
        """
        return self.background.call(self.asynchronous.lines(run, step))

    def wait(
        self,
        run: str,
        timeout_s: float | None = None,
        *,
        step: str = "",
        on_event: Callable[[Seen], None] | None = None,
        on_waiting: "Callable[[StepProgress], None] | None" = None,
    ) -> RunView:
        """Return the run once it (or its `step`) has ended; `on_event` is called for each event.

        `on_waiting` is called with a step that is queued for long, whenever the reason (`waits_for`)
        changes.

        Raises:
            Transient: E_WAIT_TIMEOUT.
        """
        return self.background.call(
            self.asynchronous.wait(
                run, timeout_s, step=step, on_event=on_event, on_waiting=on_waiting
            )
        )

    def until_end(
        self,
        run: str,
        timeout_s: float | None = None,
        *,
        on_event: Callable[[Seen], None] | None = None,
        on_waiting: "Callable[[StepProgress], None] | None" = None,
    ) -> str:
        """Return the state in which the run has ended; as `wait`, without asking for all of the run."""
        return self.background.call(
            self.asynchronous.until_end(run, timeout_s, on_event=on_event, on_waiting=on_waiting)
        )

    def download(
        self,
        run: str,
        folder: str | Path,
        *,
        step: str = "",
        output: str = "",
        path: str = "",
        artifacts: bool = False,
    ) -> list[Path]:
        """Fetch outputs below `folder`; return the folders written, or the files that match `path`.

        `artifacts`: instead what the steps left in `./outputs` and `./logs`, wrote and logged.
        """
        return self.background.call(
            self.asynchronous.download(
                run, Path(folder), step=step, output=output, path=path, artifacts=artifacts
            )
        )

    def _run(self, run: str, notes: tuple[str, ...] = ()) -> "Run":
        from penstock.sdk.run import Run

        return Run(self, run, notes=notes)


_default: list[Client] = []


def client_of(workspace: object = None) -> Client:
    """Return the client that a `workspace` argument means.

    It is a client itself, something that has one as `client` (SDK v1's Workspace, SDK v2's MLClient),
    or None for the usual one.
    """
    workspace = getattr(workspace, "client", workspace)
    if isinstance(workspace, Client):
        return workspace
    if workspace is not None:
        raise TypeError(
            f"workspace must be a penstock.Client or None, not {type(workspace).__name__}"
        )
    if not _default:
        _default.append(Client())
    return _default[0]
