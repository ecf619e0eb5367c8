"""What a step has logged with MLflow, as metrics of our own.

The run that the step was given, or opened first, has its metrics as they are called; a run nested in another has them
below its name.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

PARENT = "mlflow.parentRunId"
NAME = "mlflow.runName"
OURS = "mlflow."
_STARTED = re.compile(r"^start_time: *([0-9]{1,15}) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a metric."""

    value: float
    at: float
    """Seconds since 1970."""


@dataclass(slots=True)
class Tracked:
    """One MLflow run."""

    id: str
    name: str = ""
    parent: str = ""
    metrics: dict[str, list[Value]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def run_of(answer: Mapping[str, Any]) -> Tracked:
    """Return a run as the tracking server tells it: the last value of each metric.

    Raises:
        Exception: KeyError, TypeError and others, it tells something else.
    """
    info, data = answer["info"], answer.get("data", {})
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", ())}
    metrics: dict[str, list[Value]] = {}
    for one in data.get("metrics", ()):
        metrics[one["key"]] = [Value(float(one["value"]), int(one["timestamp"]) / 1000)]
    return Tracked(
        id=info["run_id"],
        name=tags.get(NAME, info.get("run_name", "")),
        parent=tags.get(PARENT, ""),
        metrics=metrics,
        tags=tags,
    )


def values_of(text: str) -> list[Value]:
    """Return the values in a file of MLflow's file store: "timestamp value step" on each line.

    What is no such line is skipped, and so is what follows the last newline: its number may be cut off.
    """
    found = []
    for line in text.split("\n")[:-1]:
        parts = line.split()
        if len(parts) >= 2:  # noqa: PLR2004 - the step is left out by old versions
            with suppress(ValueError, OverflowError):
                found.append(Value(float(parts[1]), int(parts[0]) / 1000))
    return found


def started(meta: str) -> int:
    """Return when a run has begun, as its meta.yaml says: milliseconds since 1970; 0: it says nothing of the kind.

    MLflow writes one key a line. Read as YAML it could be anything, and take for ever.
    """
    found = _STARTED.search(meta)
    return int(found[1]) if found else 0


def points(runs: list[Tracked]) -> Iterator[bytes]:
    """Iterate over what was logged, as lines that the step's socket takes."""
    by_id = {run.id: run for run in runs}
    for run in runs:
        prefix = ""
        parent = run.parent
        if parent:
            prefix = f"{run.name}/"
        while parent in by_id and by_id[parent].parent:
            prefix = f"{by_id[parent].name}/{prefix}"
            parent = by_id[parent].parent
        for name, values in sorted(run.metrics.items()):
            for one in values:
                yield _line("scalar", prefix + name, _plain(one.value), one.at)
        if not run.parent:
            for name, text in sorted(run.tags.items()):
                if not name.startswith((OURS, "penstock.")):
                    yield _line("tag", name, text, 0)


def _plain(value: float) -> Any:
    return value if value == value and abs(value) != float("inf") else str(value)  # noqa: PLR0124


def _line(kind: str, name: str, value: Any, at: float) -> bytes:
    point = {"kind": kind, "name": name, "value": value, **({"time": at} if at else {})}
    return msgspec.json.encode(point)
