"""`penstock serve SERVICE`: run one service in the foreground, found by its entry point.

Every setting of a service is an option of the same name: `--slots 4` sets `slots`. A misspelt one
is refused by the service itself, with the nearest known name.
"""

import sys
from importlib.metadata import EntryPoint, entry_points

import click

from penstock.errors import Invalid, NotFound
from penstock.ids import did_you_mean

GROUP = "penstock.services"
OURS = "penstock"


def services() -> dict[str, EntryPoint]:
    """Return the installed services by name; third parties may add their own."""
    return {point.name: point for point in entry_points(group=GROUP)}


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


def serve(service: str, flags: dict[str, str]) -> int:
    """Run a service until it is told to stop; return its exit code.

    Raises:
        NotFound: E_NO_SERVICE, none of that name is installed.
        Invalid: E_EXTRA, its extra packages are missing.
    """
    known = services()
    if service not in known:
        raise NotFound(
            f"no service {service!r}; installed: {', '.join(sorted(known))}",
            code="E_NO_SERVICE",
            hint=did_you_mean(service, known),
        )
    try:
        main = known[service].load()
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0].startswith(OURS):
            raise  # our own module is missing: a broken install, not an absent extra
        raise Invalid(
            f"the package {missing!r} is not installed",
            code="E_EXTRA",
            where=f"serve {service}",
            hint=f"pip install 'penstock[{service}]'",
        ) from error
    code: int = main(flags)
    return code


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    epilog="Settings also come from PENSTOCK_… variables and penstock.toml; "
    "see `penstock config show SERVICE`.",
)
@click.argument("service")
@click.pass_context
def command(context: click.Context, service: str) -> None:
    """Run one SERVICE in the foreground: planner, scheduler, executor, artifact, trigger.

    Any setting of the service is an option: --bus URL, --workspace W, --store URL, --slots N …
    """
    code = serve(service, flags_of(tuple(context.args), service))
    sys.stdout.flush()
    sys.exit(code)
