"""Settings: one frozen struct per service, read once, where flag beats environment beats file.

A field `slots` of the service `executor` is the flag `--slots`, the variable
`PENSTOCK_EXECUTOR_SLOTS` and the key `slots` in the table `[executor]` of `penstock.toml`. Fields
of `Common` are `--bus`, `PENSTOCK_BUS` and top-level keys. A misspelt name stops the start, with
the nearest known one.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from penstock.errors import Invalid
from penstock.ids import checked_name, did_you_mean

PREFIX = "PENSTOCK_"
FILE_NAME = "penstock.toml"

STEP_VARIABLES = frozenset(
    {
        "PENSTOCK_RUN_ID",
        "PENSTOCK_STEP",
        "PENSTOCK_ATTEMPT",
        "PENSTOCK_PIPELINE",
        "PENSTOCK_EXPERIMENT",
        "PENSTOCK_STEP_SOCKET",
        "PENSTOCK_PARAMETERS",
        "PENSTOCK_PACKAGE",
        "PENSTOCK_INPUTS",
        "PENSTOCK_OUTPUTS",
        "PENSTOCK_TAGS",
        "PENSTOCK_WORKSPACE_NAME",
        "PENSTOCK_READY_FD",
        "PENSTOCK_DIR",
        "PENSTOCK_CONFIG",
        "PENSTOCK_OWNER",
    }
)
"""Variables under our prefix that are no settings: a step's environment, and the supervisor's."""


class Common(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every service and the command line need to know."""

    bus: str = "nats://127.0.0.1:4222"
    """URL of NATS; several, separated by commas."""
    store: str = ""
    """URL of the object store: file:/path or s3+http://key:secret@host:port/bucket."""
    workspace: str = "penstock"
    instance: str = ""
    """Name of this copy of a service; empty: made from host and pid."""
    log_level: str = "info"
    environment_tables: str = ""
    """File that is laid over penstock/environments/tables.yaml: what curated names and images mean here."""
    mlflow: bool = False
    """`penstock up` starts an MLflow tracking server, which steps log to."""
    crash_at: str = ""
    """Where to die, for the chaos harness alone: see penstock/runtime/crash.py."""


S = TypeVar("S", bound=Common)


class Loaded(msgspec.Struct, frozen=True):
    """Settings and, for each field, where its value came from ("flag --bus", "default", …)."""

    settings: Any
    sources: dict[str, str]


def load(
    service: str,
    kind: type[S],
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    file: Path | None = None,
) -> tuple[S, dict[str, str]]:
    """Return the settings of a service and the source of each field.

    Raises:
        Invalid: E_CONFIG, an unknown name (with the nearest known one) or a value of the wrong type.
    """
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    common = {field.name for field in msgspec.structs.fields(Common)}
    values: dict[str, object] = {}
    sources = dict.fromkeys(fields, "default")

    for name, value in _from_file(service, file, set(fields), common).items():
        values[name] = value
        sources[name] = f"file {file}"
    for name in fields:
        variable = variable_of(service, name, common)
        if variable in environ:
            values[name] = environ[variable]
            sources[name] = f"environment {variable}"
    for flag, value in flags.items():
        name = flag.replace("-", "_")
        if name not in fields:
            raise Invalid(
                f"unknown option --{flag}",
                code="E_CONFIG",
                where=service,
                hint=did_you_mean(name, fields) or f"known: {', '.join(sorted(fields))}",
            )
        values[name] = value
        sources[name] = f"flag --{flag}"
    try:
        settings = msgspec.convert(values, type=kind, strict=False)
    except msgspec.ValidationError as error:
        place = str(error).rpartition("$.")[2].strip("`") if "$." in str(error) else service
        raise Invalid(
            f"{place}: {str(error).split(' - at ')[0]}",
            code="E_CONFIG",
            where=sources.get(place, place),
        ) from error
    checked_name(settings.workspace, "workspace")
    return settings, sources


def variable_of(service: str, field: str, common: set[str]) -> str:
    """Return the environment variable that sets a field."""
    middle = "" if field in common else f"{service.upper()}_"
    return f"{PREFIX}{middle}{field.upper()}"


def refuse_unknown_variables(environ: Mapping[str, str], known: Mapping[str, type[Common]]) -> None:
    """Stop a service whose environment holds a PENSTOCK_ name nobody knows.

    Raises:
        Invalid: E_CONFIG.
    """
    common = {field.name for field in msgspec.structs.fields(Common)}
    names = set(STEP_VARIABLES)
    for service, kind in known.items():
        names |= {variable_of(service, f.name, common) for f in msgspec.structs.fields(kind)}
    services = tuple(
        f"{PREFIX}{s.upper()}_"
        for s in ("planner", "scheduler", "executor", "artifact", "trigger", "gateway")
    )
    for variable in environ:
        if not variable.startswith(PREFIX) or variable in names:
            continue
        if variable.startswith(services) and not variable.startswith(
            tuple(f"{PREFIX}{s.upper()}_" for s in known)
        ):
            continue  # another service's variable; that service checks it
        raise Invalid(
            f"unknown variable {variable}",
            code="E_CONFIG",
            where="environment",
            hint=did_you_mean(variable, names),
        )


def _from_file(
    service: str, file: Path | None, fields: set[str], common: set[str]
) -> dict[str, object]:
    if file is None:
        return {}
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(str(error), code="E_CONFIG", where=str(file)) from error
    values: dict[str, object] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            continue
        if name not in common:
            raise Invalid(
                f"unknown key {name!r}",
                code="E_CONFIG",
                where=str(file),
                hint=did_you_mean(name, common),
            )
        values[name] = value
    table = document.get(service, {})
    for name, value in table.items():
        if name not in fields:
            raise Invalid(
                f"unknown key {service}.{name}",
                code="E_CONFIG",
                where=str(file),
                hint=did_you_mean(name, fields),
            )
        values[name] = value
    return values
