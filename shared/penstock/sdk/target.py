"""Which stack a client talks to: flag, then environment, then file, then the stack that runs here.

A stack that `penstock up` started is a folder (`./.penstock`, searched upwards as git does); any other
one is the URL of its bus. Nothing here opens a connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penstock.errors import BusUnavailable, Invalid
from penstock.runtime.settings import FILE_NAME, Common, load

START_HINT = "type `penstock up --detach` to start one here, or name one: --bus nats://host:4222"


@dataclass(frozen=True, slots=True)
class Target:
    """One stack. `folder` is set when `penstock up` made it; `sources` says where each value came from."""

    bus: str
    workspace: str = "penstock"
    folder: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


def target_of(
    *,
    folder: str | Path | None = None,
    bus: str | None = None,
    workspace: str | None = None,
    environ: Mapping[str, str],
    start: Path,
) -> Target:
    """Return the stack that these choices mean, looking upwards from `start` when none is named.

    Raises:
        BusUnavailable: E_CONNECT, when nothing is named and nothing runs here.
        Invalid: E_CONFIG, when a folder and a bus are both named, or a setting is wrong.
    """
    if folder and bus:
        raise Invalid(
            "--dir and --bus name two stacks",
            code="E_CONFIG",
            where="options",
            hint="give one of them",
        )
    flags = {
        name: value for name, value in (("bus", bus), ("workspace", workspace)) if value is not None
    }
    settings, sources = load("client", Common, flags, environ, settings_file(environ, start))
    named = sources["bus"] != "default"
    if named and not folder and (bus or not environ.get("PENSTOCK_DIR")):
        return Target(settings.bus, settings.workspace, None, sources)
    wanted = folder or environ.get("PENSTOCK_DIR")
    found = _local(Path(wanted) if wanted else None, start)
    if sources["workspace"] == "default":
        return Target(found.bus, found.workspace, found.folder, {**sources, **found.sources})
    return Target(found.bus, settings.workspace, found.folder, {**found.sources, **sources})


def settings_file(environ: Mapping[str, str], start: Path) -> Path | None:
    """Return the nearest `penstock.toml` from `start` upwards, or the one PENSTOCK_CONFIG names.

    Raises:
        Invalid: E_CONFIG, PENSTOCK_CONFIG names no file.
    """
    if environ.get("PENSTOCK_CONFIG"):
        named = Path(environ["PENSTOCK_CONFIG"])
        if not named.is_file():
            raise Invalid(
                "no such file", code="E_CONFIG", where=f"environment PENSTOCK_CONFIG={named}"
            )
        return named
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def _local(wanted: Path | None, start: Path) -> Target:
    from penstock.runtime.stack import at, find, without_password

    stack = find(start) if wanted is None else at(wanted)
    if stack is None or not stack.alive():
        place = "here" if wanted is None else f"in {wanted}"
        message = f"no penstock is running {place}"
        if stack is not None:
            message = f"the penstock of {stack.dir} is stopped"
        raise BusUnavailable(message, code="E_CONNECT", where=str(wanted or start), hint=START_HINT)
    source = f"running stack {without_password(stack.bus)} of {stack.dir}"
    return Target(stack.bus, stack.workspace, Path(stack.dir), {"bus": source, "workspace": source})
