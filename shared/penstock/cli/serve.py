"""`penstock serve SERVICE`: run one service in the foreground, found by its entry point.

Every setting of a service is an option of the same name: `--slots 4` sets `slots`. A misspelt one
is refused by the service itself, with the nearest known name.
"""

import click

from penstock.errors import Invalid


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
    """
    from penstock.runtime.launch import serve

    return serve(service, flags_of(tuple(context.args), service))
