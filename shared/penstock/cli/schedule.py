"""`penstock schedule`: run pipelines by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from penstock.cli.output import clean, note, output_option, print_data, print_rows, shown
from penstock.cli.target import Where, target_options, with_client

if TYPE_CHECKING:
    from penstock.contracts.queries import SchedulesAnswer
    from penstock.contracts.schedules import Schedule, ScheduleCommand, ScheduleView
    from penstock.sdk.async_client import AsyncClient

COLUMNS = {
    "name": "name",
    "pipeline": "pipeline",
    "when": "when",
    "state": "state",
    "next": "next",
    "last_run": "last run",
}
ALWAYS = (
    "name", "pipeline", "schedule", "time_zone", "catch_up", "overlap", "paused", "revision",
    "last_due", "last_run", "next_due", "notes",
)  # fmt: skip
CATCH_UPS = ("none", "last", "all")
OVERLAPS = ("allow", "skip", "queue", "replace")


@click.group(short_help="Run pipelines by the clock.")
def command() -> None:
    """Run pipelines by the clock: every tick makes one run, whatever is killed or restarted."""


@command.command("create", short_help="Create or replace a schedule.")
@click.argument("name", required=False, default="")
@click.option("-f", "--file", default="", metavar="FILE", help="YAML with these options as keys.")
@click.option("--pipeline", default="", metavar="NAME[@VERSION]", help="A registered pipeline.")
@click.option("--cron", default="", help='Five fields, as in crontab: "30 2 * * mon-fri".')
@click.option("--every", default="", metavar="30s|5m|1h", help="An interval instead of --cron.")
@click.option("--time-zone", default=None, metavar="ZONE", help="IANA name (UTC): Europe/Berlin.")
@click.option("--start", default=None, metavar="TIME", help="No firing before it; RFC 3339.")
@click.option("--end", default=None, metavar="TIME", help="No firing after it; RFC 3339.")
@click.option(
    "--catch-up",
    type=click.Choice(CATCH_UPS),
    default=None,
    help="Firings missed while no trigger ran: none (default), last, or all.",
)
@click.option("--catch-up-max", type=int, default=None, help="At most so many of `all` (10).")
@click.option(
    "--overlap",
    type=click.Choice(OVERLAPS),
    default=None,
    help="While the run before still runs: allow (default), skip, queue, or replace it.",
)
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Set an input.")
@click.option("--experiment", default=None, help="Name that groups runs.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="Tag the runs.")
@click.option("--reuse", type=click.Choice(("use", "refresh", "off")), default=None)
@click.option("--priority", type=int, default=None, help="Higher goes first, -100 to 100.")
@click.option("--description", default=None)
@click.option("--paused", is_flag=True, default=None, help="Create it paused.")
@click.option("--replace", is_flag=True, help="Change a schedule that exists.")
@output_option
@target_options
def create(
    *, where: Where, name: str, file: str, replace: bool, output: str, **options: Any
) -> None:
    """Create a schedule.

    \b
    penstock schedule create nightly --pipeline digits --cron "30 2 * * *" --time-zone Europe/Berlin
    penstock schedule create often --pipeline digits --every 5m --overlap skip -p lr=0.1
    penstock schedule create --file nightly.yml --replace
    """  # noqa: D301 - click reads this backspace
    import msgspec

    from penstock.contracts.schedules import Schedule, ScheduleCommand
    from penstock.sdk.parameters import pairs_of
    from penstock.sdk.schedule_files import read_schedule, seconds_of
    from penstock.sdk.submissions import who

    params, tags = options.pop("params"), options.pop("tags")
    if options["every"]:
        options["every"] = seconds_of(options["every"])
    given = {key: value for key, value in options.items() if value not in (None, "")}
    if tags:
        given["tags"] = pairs_of(tags, "E_TAG")
    definition = None
    if file:
        found = read_schedule(file, name)
        schedule, definition = found.schedule, found.definition
        for text in (*found.notes, *(definition.notes if definition else ())):
            note(f"note: {text}")
    elif not name:
        raise click.UsageError("give a NAME, or --file with a schedule")
    else:
        schedule = Schedule(name=name, pipeline="")
    if "cron" in given and not options["every"]:
        given.setdefault("every", 0)  # the command line's choice goes before the file's
    if "every" in given and given["every"] and not options["cron"]:
        given.setdefault("cron", "")
    schedule = msgspec.structs.replace(schedule, **given)

    async def body(client: AsyncClient) -> ScheduleView:
        nonlocal schedule
        if definition is not None:  # the job of a file in Azure ML's shape
            view = await client.register(definition)
            schedule = msgspec.structs.replace(schedule, pipeline=f"{view.name}@{view.version}")
        parameters = {**schedule.parameters, **await _typed(client, schedule.pipeline, params)}
        wish = msgspec.structs.replace(schedule, parameters=parameters)
        question = ScheduleCommand(schedule=wish, replace=replace, who=who())
        return await _asked(client, "create", question)

    _print(with_client(where, body), output)


@command.command("list", short_help="List schedules.")
@output_option
@target_options
def list_(*, where: Where, output: str) -> None:
    """List schedules and when they fire next."""
    from penstock.contracts.queries import SchedulesAnswer
    from penstock.contracts.schedules import ScheduleCommand

    async def body(client: AsyncClient) -> SchedulesAnswer:
        talk = await client.open()
        return await talk.ask("schedule.list", ScheduleCommand(), SchedulesAnswer, "trigger")

    found = with_client(where, body).schedules
    print_rows(
        [_row(view) for view in found],
        COLUMNS,
        output,
        data=[shown(view, ALWAYS) for view in found],
        empty="no schedules yet; make one with `penstock schedule create`",
    )


@command.command("show", short_help="Show a schedule and its next firings.")
@click.argument("name")
@output_option
@target_options
def show(*, where: Where, name: str, output: str) -> None:
    """Show a schedule: its next five firings, and what clock changes do to it."""
    _print(_one(where, "show", name), output)


@command.command("pause", short_help="Fire no more until resumed.")
@click.argument("name")
@output_option
@target_options
def pause(*, where: Where, name: str, output: str) -> None:
    """Pause a schedule; runs that have started go on."""
    _print(_one(where, "pause", name), output)


@command.command("resume", short_help="Fire again, from now on.")
@click.argument("name")
@output_option
@target_options
def resume(*, where: Where, name: str, output: str) -> None:
    """Resume a schedule; firings of the paused time are not made good."""
    _print(_one(where, "resume", name), output)


@command.command("run-now", short_help="Fire once at once, out of turn.")
@click.argument("name")
@output_option
@target_options
def run_now(*, where: Where, name: str, output: str) -> None:
    """Make a run of a schedule's pipeline at once; the next firing stays as it is."""
    view = _one(where, "run-now", name)
    for text in view.notes:
        note(f"note: {text}")
    if output in ("json", "yaml"):
        print_data({"run": view.run, "state": "queued", "schedule": name}, output)
    elif output == "table":
        click.echo(f"run {view.run} of {view.schedule.pipeline} is queued")
    else:
        click.echo(view.run)


@command.command("delete", short_help="Remove a schedule.")
@click.argument("name")
@output_option
@target_options
def delete(*, where: Where, name: str, output: str) -> None:
    """Remove a schedule; runs that have started go on."""
    view = _one(where, "delete", name)
    if output in ("json", "yaml"):
        print_data(shown(view, ALWAYS), output)
    else:
        click.echo(name if output in ("name", "tsv") else f"{name} deleted")


def when(schedule: Schedule) -> str:
    """Return when a schedule fires, in a few words."""
    from penstock.sdk.schedule_files import interval

    if schedule.every:
        return f"every {interval(schedule.every)}"
    return f"{schedule.cron}  {schedule.time_zone}"


async def _typed(client: AsyncClient, pipeline: str, params: tuple[str, ...]) -> dict[str, Any]:
    """Return parameters with the types that the pipeline declares, as far as somebody knows them."""
    from penstock.errors import BusUnavailable
    from penstock.sdk.parameters import pairs_of, typed

    given = pairs_of(params)
    if not given:
        return {}
    try:
        spec = (await client.pipeline(pipeline)).definition
    except BusUnavailable:
        spec = None  # no planner now; the service says so in its notes
    return dict(typed(given, spec))


async def _asked(client: AsyncClient, verb: str, question: ScheduleCommand) -> ScheduleView:
    from penstock.contracts.schedules import ScheduleView

    talk = await client.open()
    return await talk.ask(f"schedule.{verb}", question, ScheduleView, "trigger")


def _one(where: Where, verb: str, name: str) -> ScheduleView:
    from penstock.contracts.schedules import ScheduleCommand
    from penstock.sdk.submissions import who

    async def body(client: AsyncClient) -> ScheduleView:
        return await _asked(client, verb, ScheduleCommand(name=name, who=who()))

    return with_client(where, body)


def _print(view: ScheduleView, output: str) -> None:
    if output in ("json", "yaml"):
        print_data(shown(view, ALWAYS), output)
        return
    if output in ("name", "tsv"):
        print_rows([_row(view)], COLUMNS, output)
        return
    schedule = view.schedule
    click.echo(f"{schedule.name}  {when(schedule)}  {_row(view)['state']}")
    if schedule.description:
        click.echo(clean(schedule.description))
    click.echo(f"  pipeline   {schedule.pipeline}")
    for name, value in schedule.parameters.items():
        click.echo(f"    {name} = {clean(str(value))}")
    click.echo(f"  catch-up   {schedule.catch_up}    overlap   {schedule.overlap}")
    if schedule.start or schedule.end:
        click.echo(f"  from       {schedule.start or '-'}    until   {schedule.end or '-'}")
    if view.last_run:
        click.echo(f"  last run   {view.last_run}, due {_due(schedule, view.last_due)}")
    for place, due in enumerate(view.next_due):
        click.echo(f"  {'next' if place == 0 else '':<10} {_due(schedule, due)}")
    for text in view.notes:
        note(f"note: {text}")


def _due(schedule: Schedule, at: float) -> str:
    """Return a moment as the schedule's own clock shows it, with the name of its zone."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    zone = None if schedule.every else ZoneInfo(schedule.time_zone)
    return datetime.fromtimestamp(at).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def _row(view: ScheduleView) -> dict[str, object]:
    schedule = view.schedule
    return {
        "name": schedule.name,
        "pipeline": schedule.pipeline,
        "when": when(schedule),
        "state": "paused" if schedule.paused else "active" if view.next_due else "ended",
        "next": _due(schedule, view.next_due[0]) if view.next_due else "",
        "last_run": view.last_run,
    }
