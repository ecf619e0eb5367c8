"""`penstock config`: every setting, its value and where it comes from; and what other programs need.

`show` tells a person, `env` tells a shell: `eval "$(penstock config env)"`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from penstock.cli.output import output_option, print_rows
from penstock.cli.target import Where, target, target_options
from penstock.errors import NotFound

if TYPE_CHECKING:
    from penstock.runtime.settings import Common

CLIENT = "client"
SECRETS = ("password", "secret", "token", "key")


@click.group()
def command() -> None:
    """Show every setting and where it comes from."""


@command.command("env")
@target_options
def env(*, where: Where) -> None:
    """Print what other programs need to find this stack, for a shell: the bus, with its password.

    \b
    eval "$(penstock config env)"
    """  # noqa: D301 - click reads this backspace
    from shlex import quote

    found = target(where)
    click.echo(f"export PENSTOCK_BUS={quote(found.bus)}")
    click.echo(f"export PENSTOCK_WORKSPACE={quote(found.workspace)}")


@command.command("show")
@click.argument("service", required=False)
@output_option
def show(*, service: str | None, output: str) -> None:
    """Show the settings of SERVICE, or of the command line and every service.

    A flag beats an environment variable, which beats penstock.toml, which beats the stack that runs
    here, which beats the default. Secrets are masked.
    """
    from pathlib import Path

    import msgspec

    from penstock.ids import did_you_mean
    from penstock.runtime.settings import Common, load
    from penstock.sdk.target import settings_file

    kinds = settings_kinds()
    if service is not None and service not in kinds:
        raise NotFound(
            f"no service {service!r}; known: {', '.join(kinds)}",
            code="E_NO_SERVICE",
            hint=did_you_mean(service, kinds),
        )
    file = settings_file(os.environ, Path.cwd())
    rows: list[dict[str, object]] = []
    for name in [service] if service else kinds:
        settings, sources = load(name, kinds[name], {}, os.environ, file)
        found = _of_the_stack_here() if name == CLIENT else {}
        for field in msgspec.structs.fields(kinds[name]):
            common = field.name in Common.__struct_fields__
            if common and service is None and name != CLIENT:
                continue  # shown once, not once per service
            value, source = getattr(settings, field.name), sources[field.name]
            if source == "default":
                value, source = found.get(field.name, (value, source))
            rows.append(
                {
                    "setting": field.name if common else f"{name}.{field.name}",
                    "value": masked(field.name, value),
                    "source": source,
                }
            )
    print_rows(rows, {"setting": "setting", "value": "value", "source": "source"}, output)


def _of_the_stack_here() -> dict[str, tuple[str, str]]:
    """Return the settings that clients take from a local stack, each with its source."""
    from pathlib import Path

    from penstock.errors import PenstockError
    from penstock.sdk.target import target_of

    try:
        found = target_of(environ=os.environ, start=Path.cwd())
    except PenstockError:
        return {}  # nothing runs here
    if found.folder is None:
        return {}
    source = f"stack of {found.folder}"
    return {"bus": (found.bus, source), "workspace": (found.workspace, source)}


def settings_kinds() -> dict[str, type[Common]]:
    """Return the settings struct of every installed service, found beside its entry point."""
    from importlib import import_module

    from penstock.runtime.launch import services
    from penstock.runtime.settings import Common

    kinds: dict[str, type[Common]] = {CLIENT: Common}
    for name, point in sorted(services().items()):
        try:
            module = import_module(f"{point.module.rpartition('.')[0]}.settings")
        except ModuleNotFoundError as error:
            if not (error.name or "").endswith(".settings"):
                raise
            kinds[name] = Common  # it has no settings of its own
            continue
        kinds[name] = module.Settings
    return kinds


def masked(name: str, value: object) -> object:
    """Return a value that may be shown to anybody."""
    from urllib.parse import urlsplit

    from penstock.runtime.stack import without_password

    if isinstance(value, str) and value and any(part in name for part in SECRETS):
        return "***"
    if isinstance(value, str) and "@" in value and urlsplit(value).scheme:
        return ",".join(without_password(url) for url in value.split(","))
    return value
