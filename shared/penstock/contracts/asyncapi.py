"""The bus as outsiders see it, as an AsyncAPI 3.0 document made from the message structs.

`python -m penstock.contracts.asyncapi` writes shared/docs/asyncapi.json and the JSON Schema of
`PipelineSpec`; a test makes both again and compares.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from penstock.contracts import (
    computes,
    dead_letters,
    events,
    queries,
    registry,
    requests,
    schedules,
    work,
)
from penstock.contracts.schedules import ScheduleView
from penstock.contracts.spec import PipelineSpec

VERSION = "0.1.0"

Struct = type[msgspec.Struct]

_EVENTS: tuple[Struct, ...] = (
    events.RunEvent,
    events.StepEvent,
    events.TriggerEvent,
    events.DataEvent,
)
_REQUESTS: dict[str, tuple[Struct, str]] = {
    "run": (requests.RunRequest, "Ask for a run of a registered pipeline or of an inline spec."),
    "cancel": (requests.CancelRequest, "Ask that a run ends."),
    "rerun": (requests.RerunRequest, "Ask for an earlier run again, as a new run."),
}
_QUERIES: dict[str, tuple[Struct, Struct, str]] = {
    "runs": (queries.RunsQuestion, queries.RunsAnswer, "List runs, newest first."),
    "run": (queries.RunQuestion, queries.RunView, "Show one run and its steps."),
    "why": (queries.WhyQuestion, queries.WhyAnswer, "Why was a step reused, or why not?"),
    "plan": (requests.RunRequest, queries.PlanForecast, "What would run, and what be reused?"),
    "pipeline.create": (queries.PipelineCommand, queries.PipelineView, "Register a pipeline."),
    "pipeline.list": (queries.PipelineCommand, queries.PipelinesAnswer, "List pipelines."),
    "pipeline.show": (queries.PipelineCommand, queries.PipelineView, "Show a pipeline."),
    "compute.create": (computes.ComputeCommand, computes.ComputeView, "Make a compute target."),
    "compute.list": (computes.ComputeCommand, computes.ComputesAnswer, "List compute targets."),
    "compute.show": (computes.ComputeCommand, computes.ComputeView, "Show a compute target."),
    "compute.delete": (computes.ComputeCommand, computes.ComputeView, "Forget a compute target."),
    "datastore.create": (queries.DatastoreCommand, queries.DatastoreView, "Register a datastore."),
    "datastore.list": (queries.DatastoreCommand, queries.DatastoresAnswer, "List datastores."),
    "datastore.show": (queries.DatastoreCommand, queries.DatastoreView, "Show a datastore."),
    "datastore.delete": (queries.DatastoreCommand, queries.DatastoreView, "Forget a datastore."),
    "executors": (
        queries.ExecutorsQuestion,
        work.ExecutorPresence,
        "Which executors are there, for which targets? Each answers for itself.",
    ),
}
_QUERIES.update(
    {
        f"dead-letter.{verb}": (dead_letters.DeadLetterCommand, dead_letters.DeadLetterView, text)
        for verb, text in (
            ("show", "Show a message that nobody could take in."),
            ("replay", "Put it back where it came from, once."),
            ("delete", "Drop it."),
        )
    }
)
_QUERIES.update(
    {
        f"asset.{verb}": (registry.AssetCommand, answer, text)
        for verb, answer, text in (
            (
                "create",
                registry.AssetView,
                "Register a component, an environment, data or a model.",
            ),
            ("list", registry.AssetsAnswer, "List what is registered of a kind."),
            ("show", registry.AssetView, "Show a registered version."),
            ("archive", registry.AssetsAnswer, "Hide a version, or all of a name."),
            ("restore", registry.AssetsAnswer, "Undo that."),
        )
    }
)
_QUERIES["dead-letter.list"] = (
    dead_letters.DeadLettersQuestion,
    dead_letters.DeadLettersAnswer,
    "List messages that nobody could take in, newest first.",
)
_SCHEDULES: tuple[tuple[str, Struct, str], ...] = (
    ("create", ScheduleView, "Create a schedule."),
    ("list", queries.SchedulesAnswer, "List all schedules."),
    ("show", ScheduleView, "Show a schedule and its next firings."),
    ("pause", ScheduleView, "Pause a schedule."),
    ("resume", ScheduleView, "Resume a schedule."),
    ("run-now", ScheduleView, "Fire a schedule out of turn."),
    ("delete", ScheduleView, "Delete a schedule."),
)
_QUERIES.update(
    {
        f"schedule.{verb}": (schedules.ScheduleCommand, answer, text)
        for verb, answer, text in _SCHEDULES
    }
)


def document() -> dict[str, Any]:
    """Return the AsyncAPI document as plain data."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for what, (kind, text) in _REQUESTS.items():
        channels[f"request-{what}"] = _channel(f"{{workspace}}.request.{what}", {}, kind)
        channels[f"request-{what}-answer"] = _reply(requests.RunAnswer)
        operations[f"request-{what}"] = _asked(f"request-{what}", text)
    for what, (question, answer, text) in _QUERIES.items():
        name = f"query-{what.replace('.', '-')}"
        channels[name] = _channel(f"{{workspace}}.query.{what}", {}, question)
        channels[f"{name}-answer"] = _reply(answer)
        operations[name] = _asked(name, text)
    run = {"pipeline": _parameter("Name of the pipeline."), "run": _parameter("Id of the run.")}
    step = run | {"step": _parameter("Name of the step.")}
    for name, address, parameters, kind, text in (
        (
            "run-event", "{workspace}.event.{pipeline}.{run}.run.{what}",
            run | {"what": _parameter("What happened.", events.RunWhat)},
            events.RunEvent, "Something happened to a run.",
        ),
        (
            "step-event", "{workspace}.event.{pipeline}.{run}.step.{step}.{what}",
            step | {"what": _parameter("What happened.", events.StepWhat)},
            events.StepEvent, "Something happened to a step.",
        ),
        (
            "trigger-event", "{workspace}.event.trigger.{trigger}.{what}",
            {"trigger": _parameter("Name of the schedule."), "what": _parameter("What happened.")},
            events.TriggerEvent, "A schedule fired, or was skipped and why.",
        ),
        (
            "data-event", "{workspace}.event.data.{dataset}.{what}",
            {"dataset": _parameter("Name of the dataset."), "what": _parameter("What happened.")},
            events.DataEvent, "An artifact was committed under a dataset's name.",
        ),
    ):  # fmt: skip
        channels[name] = _channel(address, parameters, kind)
        operations[name] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": text,
        }
    known: set[Struct] = {requests.RunAnswer, queries.Refusal, *_EVENTS}
    known.update(kind for kind, _ in _REQUESTS.values())
    for question, answer, _ in _QUERIES.values():
        known.update((question, answer))
    kinds = sorted(known, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(
        [_shown(kind) for kind in kinds],
        ref_template="#/components/schemas/{name}",
        schema_hook=_any,
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "penstock",
            "version": VERSION,
            "description": (
                "The public half of the bus: plain JSON bodies, CloudEvents 1.0 headers in binary "
                "mode on events. Requests may come with or without CloudEvents headers, or in "
                "structured mode. Every event of a run carries `seq`, 1..n without a gap, and in the "
                "header `penstock-chain` the SHA-256 of the header before it and of its own body."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "messages": {
                kind.__name__: {
                    "name": kind.__name__,
                    "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
                }
                for kind in kinds
            },
        },
    }


def pipeline_schema() -> dict[str, Any]:
    """Return the JSON Schema of `PipelineSpec`."""
    schema = msgspec.json.schema(PipelineSpec)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def rendered(document: dict[str, Any]) -> str:
    """Return a document as it is kept in the repository."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _any(kind: type) -> dict[str, Any]:
    """Return the schema of a value of which nothing is promised (metrics)."""
    assert kind is object, kind  # noqa: S101 - a new kind of field needs a thought here
    return {"description": "any JSON value"}


def _shown(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a struct as outsiders should read it: a raw `spec` is a PipelineSpec, or a text."""
    fields = msgspec.structs.fields(kind)
    if all(field.type is not msgspec.Raw for field in fields):
        return kind
    shown: list[tuple[str, Any, Any]] = []
    for field in fields:
        if field.type is msgspec.Raw:
            shown.append((field.encode_name, PipelineSpec | str | None, None))
        elif field.default_factory is not msgspec.NODEFAULT:
            again = msgspec.field(default_factory=field.default_factory)
            shown.append((field.encode_name, field.type, again))
        else:
            shown.append((field.encode_name, field.type, field.default))
    twin = msgspec.defstruct(kind.__name__, shown, kw_only=True, forbid_unknown_fields=True)
    twin.__doc__ = kind.__doc__
    return twin


def _channel(address: str, parameters: dict[str, Any], kind: type) -> dict[str, Any]:
    workspace = {"description": "The workspace.", "default": "penstock"}
    return {
        "address": address,
        "parameters": {"workspace": workspace, **parameters},
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"}},
    }


def _reply(kind: type) -> dict[str, Any]:
    names = [kind.__name__] if kind is requests.RunAnswer else [kind.__name__, "Refusal"]
    return {
        "address": None,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def _asked(name: str, text: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": text,
        "reply": {"channel": {"$ref": f"#/channels/{name}-answer"}},
    }


def _parameter(text: str, values: Any = None) -> dict[str, Any]:
    parameter: dict[str, Any] = {"description": text}
    if values is not None:
        parameter["enum"] = list(values.__args__)
    return parameter


def main(folder: Path) -> None:
    """Write both documents below `folder` (shared/docs)."""
    (folder / "asyncapi.json").write_text(rendered(document()), encoding="utf-8")
    (folder / "schemas").mkdir(exist_ok=True)
    (folder / "schemas" / "pipeline.json").write_text(rendered(pipeline_schema()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "shared/docs"))
