"""The bytes of every message are kept: changing one should look like what it is.

After a deliberate change: `PENSTOCK_GOLDEN=write pytest tests/contract/test_golden_bytes.py`, and
read the diff.
"""

import importlib.util
import inspect
import os
from pathlib import Path

import msgspec
import pytest

from penstock.contracts import (
    artifacts,
    computes,
    data,
    dead_letters,
    events,
    inbox,
    plans,
    queries,
    requests,
    resources,
    schedules,
    work,
)
from penstock.contracts.asyncapi import document, pipeline_schema, rendered
from penstock.contracts.base import Message, Strict

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "shared" / "docs"

_module_spec = importlib.util.spec_from_file_location(
    "golden_messages", HERE / "golden_messages.py"
)
assert _module_spec is not None
assert _module_spec.loader is not None
golden_messages = importlib.util.module_from_spec(_module_spec)
_module_spec.loader.exec_module(golden_messages)

PARTS_OF_OTHERS = {  # structs that occur only inside messages
    data.Asset, data.Datastore, data.Location,
    artifacts.Entry, artifacts.Grant, artifacts.GrantedPart, artifacts.Layout, artifacts.Named, artifacts.ObjectRef,
    artifacts.Place, artifacts.TreeRef, events.Part, plans.Bound, plans.Given, plans.PlanHead,
    plans.PlannedOutput, plans.PlannedStep, queries.RunSummary, queries.StepForecast,
    queries.StepView, dead_letters.DeadLetter, queries.SchedulesAnswer, queries.PipelinesAnswer, queries.DatastoresAnswer, requests.ErrorBody,
    schedules.Firing, work.Failure, work.Waiting, work.WorkInput,
    resources.Offer, computes.Compute, computes.ComputesAnswer,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(golden_messages.MESSAGES))
def test_a_message_has_the_bytes_it_always_had(name: str) -> None:
    message = golden_messages.MESSAGES[name]
    file = HERE / "golden" / f"{name}.json"
    data = msgspec.json.encode(message)
    if os.environ.get("PENSTOCK_GOLDEN") == "write":
        file.write_bytes(data + b"\n")
    assert file.read_bytes() == data + b"\n"
    assert msgspec.json.decode(data, type=type(message)) == message


def test_every_message_has_golden_bytes() -> None:
    kept = {type(message) for message in golden_messages.MESSAGES.values()} | PARTS_OF_OTHERS
    for module in (
        artifacts,
        data,
        dead_letters,
        events,
        inbox,
        plans,
        queries,
        requests,
        schedules,
        work,
    ):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            ours = issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
            assert not ours or kind in kept, f"{kind.__name__} has no golden bytes"


def test_no_golden_file_is_left_over() -> None:
    names = {file.stem for file in (HERE / "golden").glob("*.json")}
    assert names == set(golden_messages.MESSAGES)


def test_messages_are_frozen_and_old_bytes_still_decode() -> None:
    for kind in (Message, Strict):
        assert kind.__struct_config__.frozen
    answer = msgspec.json.decode(b'{"run":"x","new_field":1}', type=requests.RunAnswer)
    assert answer == requests.RunAnswer(run="x")


def test_the_asyncapi_document_is_the_one_made_from_the_structs() -> None:
    kept = (DOCS / "asyncapi.json").read_text(encoding="utf-8")
    assert kept == rendered(document()), "run: python -m penstock.contracts.asyncapi"


def test_the_pipeline_schema_is_the_one_made_from_the_struct() -> None:
    kept = (DOCS / "schemas" / "pipeline.json").read_text(encoding="utf-8")
    assert kept == rendered(pipeline_schema()), "run: python -m penstock.contracts.asyncapi"
