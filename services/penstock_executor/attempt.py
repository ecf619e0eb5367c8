"""One attempt of one step, from a work item to a result.

    preparing ──▶ running ──▶ storing ──▶ (result)
        │            │            │
        └────────────┴────────────┴── stopped, or given back ──▶ closing: nothing is left

Whatever happens, `run` ends with exactly one result, unless the attempt is given back.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus
from penstock.clock import Clock
from penstock.contracts.artifacts import Manifest, TreeRef
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import (
    AttemptFailed,
    AttemptSucceeded,
    Failure,
    StopAttempt,
    WorkInput,
    WorkItem,
)
from penstock.errors import PenstockError, Transient
from penstock.trees.client import TreeClient
from penstock.trees.scan import scanned_file
from penstock_executor import place as places
from penstock_executor.archive import gathered
from penstock_executor.decide import layout, outcome
from penstock_executor.decide.command import substituted, text_of
from penstock_executor.decide.environment import VARIABLE_BYTES_MAX, Bindings, variables
from penstock_executor.logs import Logs, Tap
from penstock_executor.process import Command, Launcher, Running, out_of_memory_kills
from penstock_executor.step_socket import StepSocket

PATIENCE_S = 600.0
"""How long the store may be away before an attempt fails with E_STORE."""
CLOSING_PATIENCE_S = 10.0
"""How long archive and live log may take when the attempt was stopped."""
RETRY_S = 1.0
TELL_EVERY_S = 60.0
SHOWN_MAX = 5

Result = AttemptSucceeded | AttemptFailed
T = TypeVar("T")


@dataclass(frozen=True)
class Workshop:
    """What all attempts of an executor share."""

    executor: str
    bus: Bus
    names: Subjects
    trees: TreeClient
    launcher: Launcher
    attempts: places.Attempts
    clock: Clock
    log: FilteringBoundLogger
    shell: str
    python_folder: str


class GivenBack(Exception):
    """The executor ends: somebody else will run this attempt."""


class Failed(Exception):
    """Carries a failure to where the result is made."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Attempt:
    """One attempt. `run` it once; `stop` and `give_back` may come at any time."""

    def __init__(self, workshop: Workshop, item: WorkItem, delivery: int) -> None:
        self.item = item
        self.delivery = delivery
        self.phase = "preparing"
        self.seconds = 0.0
        self._shop = workshop
        self._log = workshop.log.bind(run=item.run, step=item.step, attempt=item.attempt)
        self._where = f"{item.step} attempt {item.attempt}"
        self._stop: outcome.Stop | None = None
        self._given_back = False
        self._running: Running | None = None
        self._working: asyncio.Task[dict[str, TreeRef]] | None = None
        self._closing: asyncio.Task[Result] | None = None
        self._manifests: dict[str, Manifest] = {}
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._name = layout.attempt_name(item.run, item.step, item.attempt, delivery)
        self._place = layout.Place("")
        self._logs: Logs | None = None
        self._socket: StepSocket | None = None

    def stop(self, order: StopAttempt, limit_s: float = 0) -> None:
        """End it soon, because `order` says so. The first order counts."""
        if self._stop is None and not self._given_back:
            self._stop = outcome.Stop(order.reason, self.phase, limit_s)
            self._interrupt(order.grace_s)

    def give_back(self) -> None:
        """End it now, without a result."""
        self._given_back = True
        self._interrupt(0)

    async def run(self, on_start: Callable[[], Awaitable[None]]) -> Result:
        """Run the attempt and return its result; `on_start` is awaited before user code runs.

        Raises:
            GivenBack: after `give_back`. `clean` is to be called in any case.
        """
        failure: Failure | None = None
        outputs: dict[str, TreeRef] = {}
        self._working = asyncio.ensure_future(self._work(on_start))
        try:
            if self._stop or self._given_back:
                self._working.cancel()
            outputs = await self._working
        except asyncio.CancelledError:
            if self._stop is None and not self._given_back:
                raise
        except Failed as error:
            failure = error.failure
        except PenstockError as error:
            failure = outcome.error_failure(error, self._where)
        except OSError as error:
            code = "E_DISK" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "E_INTERNAL"
            failure = Failure(code=code, message=str(error), where=self._where)
        except Exception as error:
            self._log.exception("an attempt failed in our own code")
            failure = self._internal(error)
        if self._given_back:
            raise GivenBack
        if self._stop is not None:
            failure = outcome.stop_failure(self._stop, self._where)
        self.phase = "closing"
        self._closing = asyncio.ensure_future(self._result(outputs, failure))
        try:
            return await self._closing
        except asyncio.CancelledError:
            if self._given_back:
                raise GivenBack from None
            raise
        except Exception as error:
            self._log.exception("an attempt could not be closed")
            return failed(self.item, self._shop.executor, self.delivery, self._internal(error))

    async def clean(self) -> None:
        """Let go of everything: process, socket, files, folder."""
        if self._running is not None and not self._running.ended.done():
            self._running.kill()
            with contextlib.suppress(PenstockError):
                await self._running.ended
        if self._running is not None and not self._shop.launcher.namespace:
            with contextlib.suppress(PenstockError):
                await self._running.ended
            if self._running.ended.exception() is not None:  # its keeper was killed: no one reaped
                await asyncio.to_thread(places.kill_marked, [self._place.root])
        if self._socket is not None:
            self._socket.close()
        if self._logs is not None:
            self._logs.close()
        await asyncio.to_thread(self._shop.attempts.release, self._name)

    # -- the three phases ------------------------------------------------------------------------
    async def _work(self, on_start: Callable[[], Awaitable[None]]) -> dict[str, TreeRef]:
        item = self.item
        layout.checked_item(item)
        self._place = await self._patiently(self._made, "folder of the attempt", disk=True)
        self._logs = Logs(
            self._shop.bus,
            self._shop.names,
            self._log,
            self._shop.clock,
            folder=Path(self._place.log),
            run=item.run,
            step=item.step,
            attempt=item.attempt,
            delivery=self.delivery,
        )
        bindings = await self._fetched()
        command = self._command(bindings)
        await on_start()
        self.phase = "running"
        ended = await self._ended(command)
        if self._stop is not None or self._given_back:
            raise asyncio.CancelledError
        self.phase = "storing outputs"
        failure = outcome.ended_failure(ended, self._where)
        if failure is None:
            failure = await self._changed_input()
        if failure is not None:
            raise Failed(failure)
        return await self._stored()

    async def _fetched(self) -> Bindings:
        """Fetch snapshot and inputs, at the same time; return what inputs and outputs became."""
        item, place = self.item, self._place
        code = Path(place.code)
        data = {name: given for name, given in item.inputs.items() if given.artifact}
        fetches = [
            self._fetch(given.artifact, Path(place.input(name)), f"input {name}", read_only=True)
            for name, given in data.items()
        ]
        if item.code:
            fetches.append(self._fetch(item.code, code, "code", read_only=False))
        else:
            os.mkdir(code)  # noqa: PTH102 - quick enough for the loop
        await _together(fetches)
        for name in ("outputs", "logs"):
            with contextlib.suppress(FileExistsError):  # a file of that name is the author's choice
                os.mkdir(f"{code}/{name}")  # noqa: PTH102 - quick enough for the loop
        if not self._shop.launcher.namespace:
            self._stamps = await asyncio.to_thread(self._input_stamps)
        inputs = {
            name: text
            for name, given in item.inputs.items()
            if (text := self._input_text(name, given)) is not None
        }
        outputs = {name: place.output(name, output) for name, output in item.outputs.items()}
        return Bindings(inputs=inputs, outputs=outputs)

    async def _ended(self, command: Command) -> outcome.Ended:
        """Run the command and return how it ended, when nothing of it is left."""
        assert self._logs is not None  # noqa: S101 - made in _work
        kills = out_of_memory_kills()
        began = self._shop.clock.monotonic()
        running = self._running = self._shop.launcher.start(command)
        taps = (
            Tap(running.stdout, self._logs.take_stdout),
            Tap(running.stderr, self._logs.take_stderr),
        )
        limit_s = self.item.timeout_s
        order = StopAttempt(
            run=self.item.run, step=self.item.step, attempt=self.item.attempt, reason="timeout"
        )
        timer = (
            asyncio.get_running_loop().call_later(limit_s, self.stop, order, limit_s)
            if limit_s > 0
            else None
        )
        try:
            status = await running.ended
            self.seconds = self._shop.clock.monotonic() - began
            for tap in taps:
                await tap.drain()
        finally:
            if timer is not None:
                timer.cancel()
            for tap in taps:
                tap.close()
        return outcome.Ended(
            status=status,
            seconds=self.seconds,
            out_of_memory=out_of_memory_kills() > kills,
        )

    async def _stored(self) -> dict[str, TreeRef]:
        """Store every declared output and return the committed trees."""
        item, place = self.item, self._place
        for name, output in item.outputs.items():
            problem = places.output_problem(place, name, output)
            if problem is not None:
                code, message = problem
                raise Failed(
                    Failure(code=code, message=message, where=f"{item.step}.outputs.{name}")
                )
        owner = f"run/{item.run}/{item.step}/{item.attempt}"
        stored = sorted(item.outputs)
        trees = await _together([self._store(name, owner) for name in stored])
        return dict(zip(stored, trees, strict=True))

    # -- closing ---------------------------------------------------------------------------------
    async def _result(self, outputs: dict[str, TreeRef], failure: Failure | None) -> Result:
        item, logs = self.item, self._logs
        archive: TreeRef | None = None
        metrics: dict[str, object] = {}
        tags: dict[str, str] = {}
        tail = ""
        if self._socket is not None:
            self._socket.close()
            metrics, rest = self._socket.logged.summary()
            tags = dict(self._socket.logged.tags)
            if logs is not None:
                self._note_losses(logs, self._socket, rest)
        if logs is not None:
            logs.finish()
            tail = outcome.log_tail(logs.stdout.last, logs.stderr.last)
            archive = await self._archived(logs)
            await logs.publish_rest(self._patience_s())
        if failure is None:
            return AttemptSucceeded(
                run=item.run,
                step=item.step,
                attempt=item.attempt,
                executor=self._shop.executor,
                delivery=self.delivery,
                outputs=outputs,
                logs=archive,
                metrics=metrics,
                tags=tags,
                seconds=round(self.seconds, 3),
            )
        return failed(
            item,
            self._shop.executor,
            self.delivery,
            failure,
            tail=tail,
            logs=archive,
            metrics=metrics,
            tags=tags,
            seconds=round(self.seconds, 3),
        )

    async def _archived(self, logs: Logs) -> TreeRef | None:
        """Store what the step wrote and logged; None when there is nothing, or no way to store it."""
        place, folder = self._place, Path(self._place.log)
        left_out = await asyncio.to_thread(gathered, place)
        if left_out:
            logs.note(f"left out of the archive, no files: {', '.join(left_out[:SHOWN_MAX])}")
        if not os.listdir(folder):  # noqa: PTH208 - quick enough for the loop
            return None
        owner = f"run/{self.item.run}/{self.item.step}/{self.item.attempt}"

        async def archive() -> TreeRef:
            return await self._shop.trees.put_folder(folder, owner)

        try:
            try:
                return await self._patiently(archive, "archive of logs")
            except (OSError, Transient):  # a full disk: what only the step needed can go
                for room in (place.code, place.temporary, place.site, place.inputs):
                    await asyncio.to_thread(places.remove, Path(room))
                return await self._patiently(archive, "archive of logs")
        except (OSError, PenstockError) as error:
            self._log.warning("logs were not archived", error=str(error))
            return None

    def _internal(self, error: Exception) -> Failure:
        message = f"{type(error).__name__}: {error}"
        return Failure(code="E_INTERNAL", message=message, where=self._where)

    def _patience_s(self) -> float:
        return CLOSING_PATIENCE_S if self._stop else PATIENCE_S

    @staticmethod
    def _note_losses(logs: Logs, socket: StepSocket, rest: list[str]) -> None:
        if rest:
            names = ", ".join(rest[:20])
            logs.note(
                f"only in the archive's metrics.jsonl, too large for the run's summary: {names}"
            )
        if logs.points_dropped:
            logs.note(f"W_METRICS_DROPPED: {logs.points_dropped:,} points beyond the limit")
        if socket.refused:
            logs.note(f"{socket.refused:,} lines on the step's socket were no points")

    # -- pieces ----------------------------------------------------------------------------------
    def _interrupt(self, grace_s: float) -> None:
        if self._running is not None and not self._running.ended.done():
            if self._given_back:
                self._running.kill()
            else:
                self._running.stop(grace_s)
        elif self._closing is None:
            if self._working is not None:
                self._working.cancel()
        elif self._given_back:
            self._closing.cancel()

    async def _fetch(self, digest: str, into: Path, what: str, *, read_only: bool) -> None:
        async def fetch() -> Manifest:
            await asyncio.to_thread(places.remove, into)  # of an earlier try
            return await self._shop.trees.fetch(digest, into, read_only=read_only)

        try:
            manifest = await self._patiently(fetch, what)
        except PenstockError as error:
            code = outcome.input_code(error, "E_CODE" if what == "code" else "E_INPUT")
            where = f"{self.item.step}: {what}"
            raise Failed(outcome.error_failure(error, where, code)) from error
        self._manifests[str(into)] = manifest

    async def _store(self, name: str, owner: str) -> TreeRef:
        output = self.item.outputs[name]
        path = Path(self._place.output(name, output))

        async def store() -> TreeRef:
            if layout.is_file(output):
                scan = await asyncio.to_thread(
                    lambda: scanned_file(path, path.name, purpose="output")
                )
                return await self._shop.trees.put(scan, owner, give=True)
            return await self._shop.trees.put_folder(path, owner, give=True)

        try:
            return await self._patiently(store, f"output {name}")
        except PenstockError as error:
            where = f"{self.item.step}.outputs.{name}"
            code = outcome.input_code(error, error.code)
            raise Failed(outcome.error_failure(error, where, code)) from error

    async def _made(self) -> layout.Place:
        return self._shop.attempts.make(self._name, self.item.outputs)

    async def _patiently(
        self, work: Callable[[], Awaitable[T]], what: str, *, disk: bool = False
    ) -> T:
        """Return what `work` returns, trying again while the store or its service is away.

        `disk`: also while the disk is full. Failing at once would empty the queue into failures.
        """
        clock = self._shop.clock
        began = clock.monotonic()
        told = -TELL_EVERY_S
        while True:
            try:
                return await work()
            except Transient as error:
                waited_s = clock.monotonic() - began
                hopeless = error.code == "E_DISK" and not disk
                if hopeless or waited_s + RETRY_S > self._patience_s():
                    raise
                if waited_s - told >= TELL_EVERY_S:
                    told = waited_s
                    self._log.warning("waiting", what=what, code=error.code, error=error.message)
                    if self._logs is not None:
                        self._logs.note(f"{what}: waiting for the store: {error.message}")
                await asyncio.sleep(RETRY_S)

    def _input_text(self, name: str, given: WorkInput) -> str | None:
        if not given.artifact:
            return None if given.value is None else text_of(given.value)
        folder = self._place.input(name)
        files = tuple(e.path for e in self._manifests[folder].entries if e.digest)
        return layout.input_path(folder, given.type, files)

    def _command(self, bindings: Bindings) -> Command:
        assert self._logs is not None  # noqa: S101 - made in _work
        item, place, shop = self.item, self._place, self._shop
        self._socket = StepSocket(
            Path(place.root), Path(place.images), shop.clock, self._logs.take_metric
        )
        where = f"{item.step}.command"
        text = substituted(item.command, bindings.inputs, bindings.outputs, where)
        declared = {
            name: substituted(value, bindings.inputs, bindings.outputs, f"{item.step}.{name}")
            for name, value in item.environment_variables.items()
        }
        environment, left_out = variables(
            item,
            place,
            bindings,
            declared=declared,
            environ=os.environ,
            python_folder=shop.python_folder,
            socket=str(self._socket.path),
        )
        if left_out:
            self._logs.note(f"too long for the kernel, so left out: {', '.join(left_out)}")
        if "\x00" in text or any("\x00" in n + v for n, v in environment.items()):
            message = "a NUL character in the command, or in a variable"
            raise Failed(Failure(code="E_COMMAND", message=message, where=where))
        arguments = [shop.shell, "-c", text]
        if len(text.encode()) > VARIABLE_BYTES_MAX:  # exec refuses so long an argument
            script = Path(place.root, "command.sh")
            script.write_text(text, encoding="utf-8")
            arguments = [shop.shell, str(script)]
        return Command(
            arguments=arguments,
            folder=place.code,
            environment=environment,
            read_only=[place.inputs],
        )

    def _input_stamps(self) -> dict[str, tuple[int, int, int]]:
        """Return how the files of all inputs look; a missing one is left out."""
        stamps = {}
        for folder, manifest in self._manifests.items():
            if folder == self._place.code:
                continue
            for entry in manifest.entries:
                with contextlib.suppress(OSError):
                    status = os.lstat(f"{folder}/{entry.path}")
                    if entry.digest:
                        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
                        stamps[f"{folder}/{entry.path}"] = stamp
        return stamps

    async def _changed_input(self) -> Failure | None:
        """Return a failure if the step changed an input; in a namespace it cannot (read-only mount)."""
        if not self._stamps:
            return None
        now = await asyncio.to_thread(self._input_stamps)
        changed = [path for path, stamp in self._stamps.items() if now.get(path) != stamp]
        if not changed:
            return None
        shown = changed[0].removeprefix(self._place.inputs + "/")
        return Failure(
            code="E_INPUT_CHANGED",
            message=f"the step changed {len(changed)} files of its inputs, first {shown}",
            where=self.item.step,
            hint="inputs are read-only: copy a file before changing it",
        )


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results in order; the first failure ends the others and is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def failed(
    item: WorkItem,
    executor: str,
    delivery: int,
    failure: Failure,
    *,
    tail: str = "",
    logs: TreeRef | None = None,
    metrics: dict[str, object] | None = None,
    tags: dict[str, str] | None = None,
    seconds: float = 0,
) -> AttemptFailed:
    """Return the message that an attempt has failed."""
    return AttemptFailed(
        run=item.run,
        step=item.step,
        attempt=item.attempt,
        executor=executor,
        delivery=delivery,
        failure=Failure(
            code=failure.code,
            message=failure.message,
            where=failure.where,
            hint=failure.hint,
            exit_code=failure.exit_code,
            signal=failure.signal,
            log_tail=tail,
        ),
        logs=logs,
        metrics=metrics or {},
        tags=tags or {},
        seconds=seconds,
        retriable=outcome.retriable(failure),
    )
