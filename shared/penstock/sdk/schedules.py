"""Schedules, as a client asks for them."""

from typing import TYPE_CHECKING

from penstock.contracts.queries import SchedulesAnswer
from penstock.contracts.schedules import Schedule, ScheduleCommand, ScheduleView
from penstock.sdk.submissions import who

if TYPE_CHECKING:
    from penstock.sdk.async_client import AsyncClient


async def asked(
    client: "AsyncClient",
    verb: str,
    name: str = "",
    schedule: Schedule | None = None,
    *,
    replace: bool = False,
) -> ScheduleView:
    """Return what became of a schedule: create, show, pause, resume, run-now or delete.

    Raises:
        Refused: what the trigger service answered.
    """
    talk = await client.open()
    question = ScheduleCommand(name=name, schedule=schedule, replace=replace, who=who())
    return await talk.ask(f"schedule.{verb}", question, ScheduleView, "trigger")


async def listed(client: "AsyncClient") -> tuple[ScheduleView, ...]:
    """Return all schedules."""
    talk = await client.open()
    answer = await talk.ask("schedule.list", ScheduleCommand(), SchedulesAnswer, "trigger")
    return answer.schedules
