"""`penstock serve SERVICE`: run one service in the foreground, found by its entry point.

Every setting of a service is an option of the same name: `--slots 4` sets `slots`. A misspelt one
is refused by the service itself, with the nearest known name.
"""

import os

import click

from penstock.cli.output import note
from penstock.errors import BusUnavailable, Invalid


def flags_of(words: tuple[str, ...], service: str) -> dict[str, str]:
    """Return `--name value` and `--name=value` words as a mapping; a bare `--name` means "true".

    Raises:
        Invalid: E_CONFIG, a word that belongs to no option, or an option given twice.
    """
    flags: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise Invalid(
                f"{word!r} belongs to no option",
                code="E_CONFIG",
                where=f"serve {service}",
                hint="settings are given as --name value",
            )
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        if name in flags:
            raise Invalid(f"--{name} is given twice", code="E_CONFIG", where=f"serve {service}")
        flags[name] = value
    return flags


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    epilog="Settings also come from PENSTOCK_… variables and penstock.toml; "
    "see `penstock config show SERVICE`.",
)
@click.argument("service")
@click.pass_context
def command(context: click.Context, service: str) -> int:
    """Run one SERVICE in the foreground: planner, scheduler, executor, artifact, trigger.

    Any setting of the service is an option: --bus URL, --workspace W, --store URL, --slots N …
    Where no bus is named it joins the stack of this folder, if one runs; --dir DIR names another.

    \b
    penstock serve executor --targets cpu-cluster --slots 4
    """  # noqa: D301 - click reads this backspace
    from penstock.runtime.launch import serve

    flags = flags_of(tuple(context.args), service)
    return serve(service, joined(flags, service))


def joined(flags: dict[str, str], service: str) -> dict[str, str]:
    """Return the flags, completed with those of the local stack when they name no bus.

    Raises:
        BusUnavailable: E_CONNECT, `--dir` names a stack that does not run.
    """
    from pathlib import Path

    from penstock.runtime import stack
    from penstock.sdk.target import target_of

    folder = flags.pop("dir", None)
    try:
        found = target_of(
            folder=folder,
            bus=flags.get("bus"),
            workspace=flags.get("workspace"),
            environ=os.environ,
            start=Path.cwd(),
        )
    except BusUnavailable:
        if folder:
            raise
        return flags
    running = stack.at(found.folder) if found.folder is not None else None
    if running is None:
        return flags
    note(f"joining the stack of {running.dir}")
    ours = {"bus": running.bus, "workspace": running.workspace}
    if service == "executor":
        ours["data-dir"] = str(Path(running.dir) / "executor")
    if service == "artifact":
        ours["store"] = running.store
    return {**{name: value for name, value in ours.items() if name not in flags}, **flags}
