"""Every limit that a user can meet stands on one page, with the value that the code has.

`python tests/house/test_limits.py` writes shared/docs/LIMITS.md again.
"""

import importlib
from pathlib import Path

import pytest

from penstock.contracts.requests import RunRequest
from penstock.contracts.spec import PipelineSpec, StepSpec
from penstock.errors import Invalid
from penstock.units import GIB, KIB, MIB
from penstock_planner.decide import plan

PAGE = Path(__file__).parents[2] / "shared" / "docs" / "LIMITS.md"
HEAD = """# Limits

What is over a limit is refused where it comes in, with the code below, the place, what was found and what is allowed; nothing is cut
silently. This page is made from the constants by `python tests/house/test_limits.py`.

| what | at most | what happens beyond |
|---|---|---|
"""
LIMITS: tuple[tuple[str, str, str], ...] = (
    ("a message on the bus, bytes", "penstock.contracts.codec:BODY_BYTES_MAX", "E_TOO_LARGE"),
    ("nesting of a message", "penstock.contracts.codec:NESTING_MAX", "E_DECODE"),
    ("a pipeline in a request, bytes; larger ones travel as artifacts", "penstock.contracts.spec:INLINE_BYTES_MAX", "E_TOO_LARGE"),
    ("a pipeline, bytes", "penstock.contracts.spec:SPEC_BYTES_MAX", "E_TOO_LARGE"),
    ("a pipeline file in YAML, bytes", "penstock.sdk.yaml_text:BYTES_MAX", "E_TOO_LARGE"),
    ("steps of a run", "penstock.contracts.spec:STEPS_MAX", "E_LIMIT"),
    ("a display name, an experiment, who asked, characters", "penstock_planner.decide.plan:TEXT_MAX", "E_LIMIT"),
    ("parameters, tags and names of a run together, bytes", "penstock_planner.decide.plan:HEAD_BYTES_MAX", "E_TOO_LARGE"),
    ("an idempotency key, characters", "penstock_planner.decide.reading:KEY_LENGTH_MAX", "E_ID"),
    ("headers of a request, bytes", "penstock_planner.decide.reading:HEADER_BYTES_MAX", "E_HEADERS"),
    ("priority of a run, either way", "penstock_planner.decide.plan:PRIORITY_MAX", "E_RANGE"),
    ("a step's command, bytes", "penstock_planner.decide.steps:COMMAND_BYTES_MAX", "E_TOO_LARGE"),
    ("a step's environment variables", "penstock_planner.decide.steps:VARIABLES_MAX", "E_LIMIT"),
    ("an environment variable, bytes", "penstock_planner.decide.steps:VARIABLE_BYTES_MAX", "E_ENV"),
    ("retries of a step", "penstock_planner.decide.steps:RETRIES_MAX", "E_RANGE"),
    ("first pause before a retry, seconds", "penstock_planner.decide.steps:RETRY_DELAY_S_MAX", "E_RANGE"),
    ("any pause before a retry, seconds", "penstock_scheduler.decide.attempts:RETRY_DELAY_MAX_S", "it doubles up to this"),
    ("a run's default deadline, seconds", "penstock_scheduler.state:DEADLINE_S", "E_DEADLINE; `settings.deadline` or the scheduler's `deadline_s` say otherwise"),
    ("a snapshot of source, bytes", "penstock.trees.scan:SNAPSHOT_BYTES_MAX", "E_TOO_LARGE"),
    ("files of a stored tree", "penstock.contracts.artifacts:FILES_MAX", "E_LIMIT"),
    ("a stored tree, bytes", "penstock.contracts.artifacts:TREE_BYTES_MAX", "E_TOO_LARGE"),
    ("a path in an output or input, bytes", "penstock.contracts.artifacts:PATH_BYTES_MAX", "E_NAME"),
    ("a part of a path, bytes", "penstock.contracts.paths:PART_BYTES_MAX", "E_NAME"),
    ("log of one attempt, bytes, kept live", "penstock.contracts.logs:ATTEMPT_BYTES_MAX", "a marker says so; the step goes on"),
    ("names of metrics of one attempt", "penstock_executor.decide.metrics:METRIC_NAMES_MAX", "a marker says so; the step goes on"),
    ("metrics in a run's summary, bytes per attempt", "penstock_executor.decide.metrics:SUMMARY_BYTES_MAX", "the rest is in the archive's metrics.jsonl; a marker says so"),
    ("slots of an executor", "penstock_executor.settings:SLOTS_MAX", "E_CONFIG"),
    ("schedules of a workspace", "penstock_trigger.commands:SCHEDULES_MAX", "E_LIMIT"),
    ("a schedule, bytes", "penstock_trigger.rules:SCHEDULE_BYTES_MAX", "E_TOO_LARGE"),
    ("missed ticks that are caught up", "penstock_trigger.rules:CATCH_UP_MAX", "E_SCHEDULE"),
    ("runs in one answer", "penstock_scheduler.queries:PAGE_RUNS_MAX", "E_LIMIT"),
    ("dead letters in one answer", "penstock.contracts.dead_letters:LISTED_MAX", "E_LIMIT"),
)  # fmt: skip


def value_of(constant: str) -> float:
    module, _, name = constant.partition(":")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, int | float)
    return found


def shown(what: str, value: float) -> str:
    """Return a value as people read it; bytes in the largest unit that leaves no rest."""
    if "bytes" in what:
        for size, unit in ((1024 * GIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if value >= size and value % size == 0:
                return f"{value // size:,.0f} {unit}"
    return f"{value:,.0f}"


def page() -> str:
    """Return the page as it must be."""
    rows = [
        f"| {what.replace(', bytes', '')} | {shown(what, value_of(constant))} | {beyond} |"
        for what, constant, beyond in LIMITS
    ]
    return HEAD + "\n".join(rows) + "\n"


def test_the_page_of_limits_has_the_values_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/house/test_limits.py"


def test_every_code_on_the_page_has_a_page_of_its_own() -> None:
    for _, _, beyond in LIMITS:
        code = beyond.partition(";")[0]
        assert not code.startswith("E_") or (PAGE.parent / "errors" / f"{code}.md").is_file(), code


def a_spec(**fields: object) -> PipelineSpec:
    return PipelineSpec(steps={"a": StepSpec(command="true", **fields)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "request_", "code"),
    [
        (a_spec(), RunRequest(name="x" * 257), "E_LIMIT"),
        (a_spec(), RunRequest(experiment="x" * 257), "E_LIMIT"),
        (a_spec(), RunRequest(priority=101), "E_RANGE"),
        (a_spec(), RunRequest(deadline=-1), "E_RANGE"),
        (a_spec(environment_variables={f"V{n}": "" for n in range(1_001)}), RunRequest(), "E_LIMIT"),
        (a_spec(environment_variables={"V": "x" * (32 * KIB + 1)}), RunRequest(), "E_ENV"),
        (PipelineSpec(steps={"a": StepSpec(command="x" * (96 * KIB + 1))}), RunRequest(), "E_TOO_LARGE"),
    ],
)  # fmt: skip
def test_a_request_over_a_limit_is_refused_at_the_door_with_the_limit(
    spec: PipelineSpec, request_: RunRequest, code: str
) -> None:
    with pytest.raises(Invalid, match="allowed") as caught:
        plan.planned(spec, request_, plan.Origin(run="r"))
    assert caught.value.code == code


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
