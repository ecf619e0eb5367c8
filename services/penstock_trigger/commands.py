"""What people ask of schedules: create, list, show, pause, resume, run-now, delete.

Any replica answers. A change is one compare-and-set on the bucket `schedules`; every replica follows
the bucket, so there is nobody to tell.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from penstock.bus import OnMessage, Received
from penstock.bus.buckets import Value
from penstock.contracts.codec import encoded, error_body, error_of, read
from penstock.contracts.events import TriggerEvent
from penstock.contracts.queries import Refusal, SchedulesAnswer
from penstock.contracts.schedules import Schedule, ScheduleCommand, ScheduleState, ScheduleView
from penstock.errors import Conflict, Corrupt, Invalid, NotFound, PenstockError, Refused
from penstock.ids import checked_name, did_you_mean
from penstock.units import Seconds
from penstock_trigger.decide import changed_event, request_of
from penstock_trigger.effects import Announce
from penstock_trigger.keeper import state_in
from penstock_trigger.rules import check_against, checked, next_dues, notes_on
from penstock_trigger.shell import Shell
from penstock_trigger.state import active_from, idempotency_key

SCHEDULES_MAX = 1000
ANSWER_BYTES_MAX = 900_000
TRIES_MAX = 8

Answer = ScheduleView | SchedulesAnswer


@dataclass(frozen=True, slots=True)
class Commands:
    """The endpoints, on one replica."""

    shell: Shell

    def endpoints(self) -> dict[str, OnMessage]:
        """Return subject → handler."""
        verbs: dict[str, Callable[[ScheduleCommand], Awaitable[Answer]]] = {
            "create": self.create,
            "list": self.list,
            "show": self.show,
            "pause": self.pause,
            "resume": self.resume,
            "run-now": self.run_now,
            "delete": self.delete,
        }
        return {
            self.shell.names.query(f"schedule.{verb}"): self._answering(verb, do)
            for verb, do in verbs.items()
        }

    async def create(self, command: ScheduleCommand) -> ScheduleView:
        """Store a schedule; one of the same name is replaced only when asked to."""
        if command.schedule is None:
            raise Invalid("no schedule; allowed: an object", code="E_EMPTY", where="schedule")
        now = Seconds(round(self.shell.clock.now(), 3))  # it is seen in every interval's keys
        wish = msgspec.structs.replace(command.schedule, created_at=now, revision=1, resumed_at=0)
        if command.name and command.name != wish.name:
            raise Invalid(
                f"found {command.name!r} and {wish.name!r}; allowed: one name",
                code="E_ID",
                where="schedule.name",
            )
        wish = checked(wish, now)
        notes = await self._check_pipeline(wish)
        for _ in range(TRIES_MAX):
            before = await self.shell.schedules.get(wish.name)
            if before is not None and not command.replace:
                raise Refused(
                    f"schedule {wish.name!r} exists",
                    code="E_EXISTS",
                    where="schedule.name",
                    hint="--replace changes it; delete removes it",
                )
            if before is None and len(self.shell.keepers) >= SCHEDULES_MAX:
                raise Refused(
                    f"{SCHEDULES_MAX:,} schedules exist; allowed: {SCHEDULES_MAX:,}",
                    code="E_LIMIT",
                    where="schedule",
                )
            cursor = await self._cursor(wish.name)
            if before is not None and _same(before.value, wish):
                return await self._view(before.value, cursor, ("nothing changed", *notes))
            last = max(before.value.revision if before else 0, cursor.revision if cursor else 0)
            schedule = msgspec.structs.replace(wish, revision=last + 1)
            try:
                if before is None:
                    appended = await self.shell.schedules.create(wish.name, schedule)
                else:
                    appended = await self.shell.schedules.update(
                        wish.name, schedule, before.revision
                    )
            except Conflict:
                continue
            what = "created" if before is None else "changed"
            await self._tell(schedule, what, appended.sequence, command.who)
            return await self._view(schedule, cursor, notes)
        raise _busy(wish.name)

    async def list(self, command: ScheduleCommand) -> SchedulesAnswer:
        """Return all schedules by name."""
        found: dict[str, Schedule | None] = {}
        bucket = self.shell.schedules

        def take(stored: object) -> None:
            name = bucket.key_of(stored)  # type: ignore[arg-type]
            try:
                value = bucket.value_of(stored)  # type: ignore[arg-type]
                found[name] = value.value if value else None
            except Corrupt:
                found[name] = Schedule(
                    name=name, pipeline="", paused=True, description="E_CORRUPT: not readable"
                )

        await bucket.bus.replay(bucket.stream, [bucket.subject(">")], take)
        names = sorted(name for name, schedule in found.items() if schedule is not None)
        cursors = await asyncio.gather(*(self._cursor(name) for name in names))
        views = []
        for name, state in zip(names, cursors, strict=True):
            schedule = found[name]
            assert schedule is not None  # noqa: S101
            views.append(self._shown(schedule, state))
        answer = SchedulesAnswer(schedules=tuple(views))
        if len(encoded(answer)) > ANSWER_BYTES_MAX:
            slim = [
                msgspec.structs.replace(
                    view,
                    schedule=msgspec.structs.replace(
                        view.schedule, parameters={}, tags={}, description=""
                    ),
                    notes=("shortened; show it alone to see all",),
                )
                for view in views
            ]
            answer = SchedulesAnswer(schedules=tuple(slim))
        return answer

    async def show(self, command: ScheduleCommand) -> ScheduleView:
        """Return one schedule, its next firings and what to know about them."""
        found = await self._existing(command.name)
        return await self._view(found.value, await self._cursor(command.name))

    async def pause(self, command: ScheduleCommand) -> ScheduleView:
        """Fire no more until resumed."""
        return await self._changed(command, "paused")

    async def resume(self, command: ScheduleCommand) -> ScheduleView:
        """Fire again, from now on: what fell into the pause is nobody's."""
        return await self._changed(command, "resumed")

    async def run_now(self, command: ScheduleCommand) -> ScheduleView:
        """Make a run at once, out of turn; the cursor does not move."""
        schedule = (await self._existing(command.name)).value
        now = self.shell.clock.now()
        key = f"now/{secrets.token_hex(8)}"
        answer = await self.shell.outside.run_once(request_of(schedule, now, key))
        if answer.error is not None:
            raise error_of(answer.error)
        event = TriggerEvent(
            trigger=schedule.name,
            what="fired",
            at=now,
            run=answer.run,
            pipeline=schedule.pipeline,
            reason=f"run-now by {command.who}" if command.who else "run-now",
        )
        message_id = f"{idempotency_key(schedule.name, schedule.revision, key)}/fired"
        await self.shell.outside.announce([Announce(event, message_id)])
        view = await self._view(schedule, await self._cursor(schedule.name))
        return msgspec.structs.replace(view, run=answer.run, notes=(*view.notes, *answer.notes))

    async def delete(self, command: ScheduleCommand) -> ScheduleView:
        """Remove a schedule; its cursor stays, so a successor of the same name is a new revision."""
        for _ in range(TRIES_MAX):
            try:
                found = await self._existing(command.name)
            except Corrupt as error:
                await self.shell.schedules.delete(command.name)
                broken = Schedule(name=command.name, pipeline="")
                return ScheduleView(schedule=broken, notes=(f"deleted; it was broken: {error}",))
            cursor = await self._cursor(command.name)
            try:
                await self.shell.schedules.delete(command.name, revision=found.revision)
            except Conflict:
                continue
            await self._tell(found.value, "deleted", found.revision, command.who)
            view = await self._view(found.value, cursor)
            return msgspec.structs.replace(view, next_due=(), notes=("deleted",))
        raise _busy(command.name)

    async def _changed(self, command: ScheduleCommand, what: str) -> ScheduleView:
        paused = what == "paused"
        for _ in range(TRIES_MAX):
            found = await self._existing(command.name)
            cursor = await self._cursor(command.name)
            if found.value.paused == paused:
                note = "it is paused already" if paused else "it is not paused"
                return await self._view(found.value, cursor, (note,))
            resumed_at = found.value.resumed_at if paused else self.shell.clock.now()
            schedule = msgspec.structs.replace(found.value, paused=paused, resumed_at=resumed_at)
            try:
                appended = await self.shell.schedules.update(command.name, schedule, found.revision)
            except Conflict:
                continue
            await self._tell(schedule, what, appended.sequence, command.who)
            return await self._view(schedule, cursor)
        raise _busy(command.name)

    def _answering(
        self, verb: str, do: Callable[[ScheduleCommand], Awaitable[Answer]]
    ) -> OnMessage:
        async def answer(message: Received) -> None:
            try:
                data = message.data if message.data.strip() else b"{}"
                command = read(data, ScheduleCommand, "schedule")
                if verb not in ("create", "list"):
                    checked_name(command.name, "schedule.name")
                reply = encoded(await do(command))
            except PenstockError as error:
                reply = encoded(Refusal(error=error_body(error)))
            await self.shell.bus.publish(message.reply, reply)

        return answer

    async def _cursor(self, name: str) -> ScheduleState | None:
        bucket = self.shell.cursors
        stored = await bucket.bus.last(bucket.stream, bucket.subject(name))
        return None if stored is None else state_in(bucket, stored, self.shell.log)

    async def _existing(self, name: str) -> Value[Schedule]:
        found = await self.shell.schedules.get(name)
        if found is None:
            raise NotFound(
                f"no schedule {name!r}",
                code="E_NOT_FOUND",
                where="schedule.name",
                hint=did_you_mean(name, sorted(self.shell.keepers)) or "penstock schedule list",
            )
        return found

    async def _check_pipeline(self, schedule: Schedule) -> tuple[str, ...]:
        try:
            pipeline = await self.shell.outside.pipeline(schedule.pipeline)
        except Refused as error:
            raise Refused(
                error.message,
                code=error.code,
                where="schedule.pipeline",
                hint=error.hint or "penstock pipeline list",
            ) from error
        if pipeline is None:
            return (f"no planner answers now: whether {schedule.pipeline!r} exists is not checked",)
        check_against(schedule, pipeline)
        return ()

    async def _view(
        self, schedule: Schedule, state: ScheduleState | None, notes: tuple[str, ...] = ()
    ) -> ScheduleView:
        view = self._shown(schedule, state)
        after = max(self.shell.clock.now(), active_from(schedule))
        return msgspec.structs.replace(
            view, notes=(*notes, *view.notes, *notes_on(schedule, after))
        )

    def _shown(self, schedule: Schedule, state: ScheduleState | None) -> ScheduleView:
        notes = []
        if schedule.paused:
            notes.append("paused")
        if state is not None and state.pending:
            notes.append(f"decided and not carried out yet: {len(state.pending)}")
        if state is not None and state.queued:
            notes.append(f"waiting for the end of run {state.last_run}: {len(state.queued)}")
        after = max(self.shell.clock.now(), active_from(schedule))
        fired = state is not None and state.last_due > schedule.created_at
        return ScheduleView(
            schedule=schedule,
            last_due=state.last_due if state is not None and fired else 0,
            last_run=state.last_run if state is not None else "",
            next_due=() if schedule.paused else next_dues(schedule, after),
            notes=tuple(notes),
        )

    async def _tell(self, schedule: Schedule, what: str, sequence: int, who: str) -> None:
        now = self.shell.clock.now()
        await self.shell.outside.announce([changed_event(schedule, what, sequence, now, who)])


def _same(before: Schedule, wish: Schedule) -> bool:
    """Say whether two schedules differ in nothing that people write."""
    return wish == msgspec.structs.replace(
        before,
        created_at=wish.created_at,
        revision=wish.revision,
        resumed_at=wish.resumed_at,
    )


def _busy(name: str) -> Conflict:
    return Conflict(
        f"others kept changing schedule {name!r}", code="E_CONFLICT", where=name, hint="try again"
    )
