"""One attempt of one step, from a work item to a result.

    preparing ──▶ running ──▶ storing ──▶ (result)
        │            │            │
        └────────────┴────────────┴── stopped, or given back ──▶ closing: nothing is left

Whatever happens, `run` ends with exactly one result, unless the attempt is given back.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from operator import itemgetter
from pathlib import Path

import msgspec

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.work import (
    AttemptFailed,
    AttemptSucceeded,
    Failure,
    StopAttempt,
    Waiting,
    WorkItem,
)
from penstock.errors import PenstockError, Transient
from penstock_executor.decide import layout, outcome
from penstock_executor.logs import Logs, Tap
from penstock_executor.moving import moved
from penstock_executor.preparing import (
    Stamps,
    command_of,
    input_failure,
    input_stamps,
    valued,
)
from penstock_executor.process import Command, NotStarted
from penstock_executor.stand import Handle, Stand, brought_in, made, stand_for
from penstock_executor.step_socket import StepSocket
from penstock_executor.storing import archived, disk_full, stored_outputs
from penstock_executor.surroundings import Surroundings, surroundings
from penstock_executor.workshop import Failed, Patience, Workshop

first = itemgetter(0)

CLOSING_PATIENCE_S = 10.0
"""How long archive and live log may take when the attempt was stopped."""
NAMES_SHOWN_MAX = 20
AWAY = {"E_DISK": "disk space", "E_ENVIRONMENT": "the package index"}

Result = AttemptSucceeded | AttemptFailed


class GivenBack(Exception):
    """The executor ends: somebody else will run this attempt."""


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
        self._running: Handle | None = None
        self._stand: Stand | None = None
        self.gpus: tuple[str, ...] = ()
        self._clean = False
        """It succeeded, as far as user code is concerned."""
        self._working: asyncio.Task[dict[str, TreeRef]] | None = None
        self._closing: asyncio.Task[Result] | None = None
        self._stamps: Stamps = {}
        self._patience = Patience(workshop.clock, self._tell)
        self._name = layout.attempt_name(item.run, item.step, item.attempt, delivery)
        self._place = layout.Place("")
        self._logs: Logs | None = None
        self._socket: StepSocket | None = None
        self._around: Surroundings | None = None

    @property
    def waiting(self) -> Waiting | None:
        """What the attempt cannot go on without, if anything: what it has waited for the longest."""
        since, error = min(self._patience.waits.values(), key=first, default=(0.0, None))
        if error is None:
            return None
        run, step = self.item.run, self.item.step
        return Waiting(run=run, step=step, since=since, code=error.code, message=error.message)

    @property
    def ending(self) -> bool:
        """Say whether it was told to end."""
        return self._stop is not None or self._given_back

    def stop(self, order: StopAttempt, limit_s: float = 0) -> None:
        """End it soon, because `order` says so. The first order counts."""
        if self._stop is None and not self._given_back:
            self._stop = outcome.Stop(order.reason, self.phase, limit_s)
            self._patience.limit_s = CLOSING_PATIENCE_S
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
            code = "E_DISK" if disk_full(error) else "E_INTERNAL"
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
        if self._around is not None:
            self._around.close()
        if self._socket is not None:
            self._socket.close()
        if self._logs is not None:
            self._logs.close()
        lost = self._running is not None and self._running.ended.exception() is not None
        if self._stand is not None:  # lost: its keeper was killed, no one reaped
            await self._stand.leave(self._name, self._place, clean=self._clean, lost=lost)

    # -- the three phases ------------------------------------------------------------------------
    async def _work(self, on_start: Callable[[], Awaitable[None]]) -> dict[str, TreeRef]:
        item, shop, patience = self.item, self._shop, self._patience
        layout.checked_item(item)
        stand = self._stand = await stand_for(shop, item, self.gpus)
        self._place = await made(stand, self._name, item, patience)
        self._logs = Logs(
            shop.bus,
            shop.names,
            self._log,
            shop.clock,
            folder=Path(self._place.log),
            run=item.run,
            step=item.step,
            attempt=item.attempt,
            delivery=self.delivery,
        )
        if item.kind != "command":
            return await self._moved(self._logs, on_start)
        self._around = await surroundings(shop, item, self._place, patience, self._logs.note)
        item = await valued(shop, item, patience)
        data = await brought_in(
            shop, stand, item, self._place, patience=patience, note=self._logs.note
        )
        if not stand.shielded:
            self._stamps = await asyncio.to_thread(input_stamps, data.manifests)
        self._socket = StepSocket(
            stand.talk or Path(self._place.root),
            Path(self._place.images),
            shop.clock,
            self._logs.take_metric,
        )
        command = command_of(
            shop,
            item,
            self._place,
            data.bindings,
            socket=self._socket.path,
            around=self._around,
            basis=stand.basis(self._place),
            note=self._logs.note,
        )
        shop.crash("executor.after-prepare")
        await on_start()
        self.phase = "running"
        ended = await self._ended(command, self._logs, stand)
        shop.crash("executor.after-end")
        if self._stop is not None or self._given_back:
            raise asyncio.CancelledError
        self.phase = "storing outputs"
        failure = outcome.ended_failure(ended, self._where)
        if failure is None and self._stamps:
            stamps = await asyncio.to_thread(input_stamps, data.manifests)
            failure = input_failure(self._stamps, stamps, item, self._place)
        if failure is not None:
            raise Failed(failure)
        self._clean = True
        outputs = await stored_outputs(shop, item, self._place, patience)
        shop.crash("executor.after-store")
        return outputs

    async def _moved(
        self, logs: Logs, on_start: Callable[[], Awaitable[None]]
    ) -> dict[str, TreeRef]:
        """Carry an import or a copy out: no command runs."""
        await on_start()
        self.phase = "running"
        began = self._shop.clock.monotonic()
        try:
            return await moved(self._shop, self.item, self._place, self._patience, logs.note)
        finally:
            self.seconds = self._shop.clock.monotonic() - began

    async def _ended(self, command: Command, logs: Logs, stand: Stand) -> outcome.Ended:
        """Run the command and return how it ended, when nothing of it is left."""
        stand.begin()
        began = self._shop.clock.monotonic()
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
            try:
                status = await self._status(command, logs, stand)
            except NotStarted as error:
                if self._running is None or not self._running.forked:
                    raise
                logs.note(f"not forked, so a process of its own: {error.message}")
                status = await self._status(dataclasses.replace(command, program=None), logs, stand)
            self.seconds = self._shop.clock.monotonic() - began
        finally:
            if timer is not None:
                timer.cancel()
        memory = stand.memory()
        await stand.ended(self._place)
        return outcome.Ended(status=status, seconds=self.seconds, memory=memory)

    async def _status(self, command: Command, logs: Logs, stand: Stand) -> int:
        """Run the command and return its wait status."""
        running = self._running = await stand.start(command, self._place)
        self._shop.crash("executor.after-start")
        taps = (Tap(running.stdout, logs.take_stdout), Tap(running.stderr, logs.take_stderr))
        try:
            status = await running.ended
            for tap in taps:
                await tap.drain()
            return status
        finally:
            for tap in taps:
                tap.close()

    # -- closing ---------------------------------------------------------------------------------
    async def _result(self, outputs: dict[str, TreeRef], failure: Failure | None) -> Result:
        item, logs = self.item, self._logs
        archive: TreeRef | None = None
        metrics: dict[str, object] = {}
        tags: dict[str, str] = {}
        tail = ""
        if self._socket is not None:
            if self._around is not None and logs is not None:
                await self._around.end(self._socket, failure, logs.note)
            self._socket.close()
            metrics, rest = self._socket.logged.summary()
            tags = dict(self._socket.logged.tags)
            if logs is not None:
                self._note_losses(logs, self._socket, rest)
        if logs is not None:
            logs.finish()
            tail = outcome.log_tail(logs.stdout.last, logs.stderr.last)
            archive = await self._archived(logs)
            await logs.publish_rest(self._patience.limit_s)
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
        try:
            return await archived(self._shop, self.item, self._place, self._patience, logs.note)
        except (OSError, PenstockError) as error:  # a result without logs is better than none
            self._log.warning("logs were not archived", error=str(error))
            return None

    def _internal(self, error: Exception) -> Failure:
        message = f"{type(error).__name__}: {error}"
        return Failure(code="E_INTERNAL", message=message, where=self._where)

    @staticmethod
    def _note_losses(logs: Logs, socket: StepSocket, rest: list[str]) -> None:
        if rest:
            names = ", ".join(rest[:NAMES_SHOWN_MAX])
            logs.note(
                f"only in the archive's metrics.jsonl, too large for the run's summary: {names}"
            )
        if logs.points_dropped:
            logs.note(f"W_METRICS_DROPPED: {logs.points_dropped:,} points beyond the limit")
        if socket.refused:
            logs.note(f"{socket.refused:,} lines on the step's socket were no points")

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

    def _tell(self, what: str, error: Transient) -> None:
        self._log.warning("waiting", what=what, code=error.code, error=error.message)
        if self._logs is not None:
            away = AWAY.get(error.code, "the store")
            self._logs.note(f"{what}: waiting for {away}: {error.message}")


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
        failure=msgspec.structs.replace(failure, log_tail=tail),
        logs=logs,
        metrics=metrics or {},
        tags=tags or {},
        seconds=seconds,
        retriable=outcome.retriable(failure),
    )
