"""The `penstock` command: a table of commands, each loaded only when it is called.

Exit codes: 0 ok · 1 the run failed · 2 usage or refused · 3 not found · 4 no connection or not
allowed · 124 timed out · 130 interrupted. Data goes to stdout, progress and errors to stderr.
"""

import io
import os
import sys
from importlib import import_module

import click

from penstock.errors import NotAllowed, NotFound, PenstockError, Refused, Transient

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("penstock.cli.up", "Start everything on this machine."),
    "down": ("penstock.cli.down", "Stop what `up` started."),
    "status": ("penstock.cli.status", "Tell what runs, where, and whether it is well."),
    "doctor": ("penstock.cli.doctor", "Check this machine and the stack, and say what to fix."),
    "demo": ("penstock.cli.demo", "Make a folder with a real pipeline, run it, show the result."),
    "submit": ("penstock.cli.submit", "Run a pipeline file or a registered pipeline."),
    "plan": ("penstock.cli.plan", "Say what would run, what would be reused, and why."),
    "spin": ("penstock.cli.spin", "Run one step again, with the inputs of the last run."),
    "why": ("penstock.cli.why", "Say why a step was reused or not."),
    "run": ("penstock.cli.run", "List, show, watch, cancel, rerun … runs."),
    "job": ("penstock.cli.run", "The same as `run`, for those who come from Azure ML."),
    "pipeline": ("penstock.cli.pipeline", "Register pipelines for others to run."),
    "component": ("penstock.cli.component", "Register steps that pipelines share."),
    "environment": ("penstock.cli.environment", "Register what steps run in."),
    "data": ("penstock.cli.data", "Register data under names and versions."),
    "model": ("penstock.cli.model", "Register models."),
    "compute": ("penstock.cli.compute", "Make compute targets, and start executors for them."),
    "datastore": ("penstock.cli.datastore", "Look after places of files outside of the store."),
    "schedule": ("penstock.cli.schedule", "Run pipelines by the clock."),
    "import": ("penstock.cli.import_", "Say what of Azure ML's files runs here."),
    "events": ("penstock.cli.events", "Follow what happens, as it happens."),
    "dead-letters": ("penstock.cli.dead_letters", "Look after messages nobody could take in."),
    "config": ("penstock.cli.config", "Show every setting and where it comes from."),
    "serve": ("penstock.cli.serve", "Run one service in the foreground."),
}
"""Command → (module, one line of help). The module holds a click command `command`."""


class ReaderGoneError(Exception):
    """Whoever read our output has gone (| head)."""


class Lazy(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; click itself would call a closed pipe exit code 1, a failed run."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command when there is none of that name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from penstock.ids import did_you_mean

            hint = did_you_mean(args[0], COMMANDS)
            ctx.fail(f"no command {args[0]!r}. {hint}".strip())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their lines of help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="penstock", message="penstock %(version)s")
def penstock() -> None:
    """Event-driven machine-learning pipelines: what has not changed is reused, not rerun."""


def _occupy_standard_streams() -> None:
    """Open /dev/null where we were started without stdin, stdout or stderr (>&-).

    Otherwise the next file or socket would get that number, and what we print would go there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open


def _drop_output() -> None:
    """Let what is still buffered go nowhere, so that the end of the program does not fail on it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def exit_code_of(error: PenstockError) -> int:
    """Return the documented exit code of an error."""
    if error.code == "E_WAIT_TIMEOUT":
        return 124
    if isinstance(error, NotFound) or error.code.startswith("E_NOT_FOUND"):
        return 3
    if isinstance(error, NotAllowed | Transient):
        return 4
    return 2 if isinstance(error, Refused) else 1


def main() -> None:
    """Run the command line and exit with the documented code."""
    _occupy_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets "?", never a traceback.
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="replace")
    try:
        code = penstock.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except PenstockError as error:
        click.echo(
            f"penstock: {error.code} {error.where}".rstrip() + f": {error.message}", err=True
        )
        if error.hint:
            click.echo(f"          {error.hint}", err=True)
        sys.exit(exit_code_of(error))
    except (ReaderGoneError, BrokenPipeError):
        # Nothing is wrong, and nothing more can be said.
        _drop_output()
        sys.exit(141)
    except OSError as error:
        _drop_output()
        what = error.strerror or str(error)
        click.echo(f"penstock: E_IO {error.filename or 'output'}: {what}", err=True)
        sys.exit(4)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
