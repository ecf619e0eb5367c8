"""Every key of Azure ML's YAML does what the table says of it; the page is made from the table."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.errors import Invalid
from penstock.sdk.azure_keys import KINDS, ROOMS, TITLES, Key, page
from penstock.sdk.definition import Definition
from penstock.sdk.pipeline_files import component_of, pipeline_of
from penstock.sdk.yaml_text import document_of

DOCS = Path(__file__).parents[2] / "shared" / "docs"

EXAMPLES: dict[str, dict[str, Any]] = {
    "pipeline": {
        "$schema": "https://example.org/x.json",
        "type": "pipeline",
        "name": "mine",
        "display_name": "Mine",
        "description": "d",
        "experiment_name": "e",
        "experiment": "e",
        "tags": {"a": "b"},
        "compute": "azureml:cpu",
        "settings": {"force_rerun": True},
        "inputs": {"i": 3},
        "outputs": {"o": {"type": "uri_file"}},
        "jobs": {"b": {"command": "y"}},
        "steps": {"b": {"command": "y"}},
        "component": "./pipeline_component.yml",
        "properties": {"a": "b"},
        "identity": {"type": "managed"},
        "services": {"x": {"type": "ssh"}},
        "comment": "c",
    },
    "settings": {
        "default_compute": "azureml:cpu",
        "default_datastore": "azureml:blobs",
        "continue_on_step_failure": True,
        "force_rerun": True,
        "deadline": 5,
        "on_init": "a",
        "on_finalize": "a",
        "continue_run_on_failed_optional_input": True,
        "default_datestore": "azureml:blobs",
    },
    "input": {
        "type": "integer",
        "path": "azureml:data:1",
        "mode": "RO_Mount",
        "value": 3,
        "default": 3,
        "optional": True,
        "min": 1,
        "max": 9,
        "enum": [1, 2],
        "description": "d",
        "path_on_compute": "/mnt/x",
        "datastore": "azureml:blobs",
        "name": "n",
        "version": 1,
    },
    "output": {
        "type": "URI_FILE",
        "path": "azureml://datastores/blobs/paths/x",
        "mode": "Upload",
        "name": "asset",
        "version": 1,
        "description": "d",
    },
    "step": {
        "$schema": "x",
        "type": "command",
        "component": "azureml:c:1",
        "command": "y",
        "code": "./src",
        "inputs": {"i": 3},
        "outputs": {"o": None},
        "environment": "azureml:env@latest",
        "environment_variables": {"A": 1},
        "compute": "azureml:cpu",
        "resources": {"gpus": 1},
        "distribution": {"type": "pytorch"},
        "limits": {"timeout": 5},
        "is_deterministic": False,
        "display_name": "D",
        "description": "d",
        "depends_on": ["other"],
        "needs": "other",
        "hash_paths": ["main.py"],
        "additional_includes": ["./more"],
        "queue_settings": {"job_tier": "spot"},
        "identity": {"type": "managed"},
        "services": {"x": {"type": "ssh"}},
        "properties": {"a": "b"},
        "comment": "c",
        "tags": {"a": "b"},
        "name": "n",
        "version": 1,
        "experiment_name": "e",
    },
    "environment": {
        "$schema": "x",
        "name": "n",
        "version": 3,
        "image": "docker.io/other",
        "conda_file": {"dependencies": ["python=3.11"]},
        "build": {"path": "./src"},
        "pip": ["numpy"],
        "python": 3.10,
        "variables": {"A": "b"},
        "description": "d",
        "tags": {"a": "b"},
        "properties": {"a": "b"},
        "type": "environment",
        "os_type": "linux",
        "inference_config": {"a": "b"},
        "datastore": "azureml:blobs",
    },
    "build": {"path": "./more", "dockerfile_path": "a/Dockerfile"},
    "resources": {
        "instance_count": 2,
        "shm_size": "2g",
        "docker_args": "--ipc=host",
        "cores": 2,
        "memory": "1g",
        "gpus": 1,
        "labels": ["ssd"],
        "instance_type": "Standard_E4",
        "locations": ["westus"],
        "properties": {"a": "b"},
        "max_instance_count": 3,
    },
    "distribution": {
        "type": "mpi",
        "process_count_per_instance": 2,
        "process_count": 3,
        "worker_count": 2,
        "parameter_server_count": 1,
    },
    "limits": {"timeout": 5, "retries": 2, "retry_delay": 3, "deadline": 9, "expected": 4},
    "parallel": {
        "task": {"entry_script": "other.py"},
        "input_data": "${{inputs.other}}",
        "mini_batch_size": 5,
        "partition_keys": ["a"],
        "mini_batch_error_threshold": 3,
        "error_threshold": 3,
        "logging_level": "DEBUG",
        "max_concurrency_per_instance": 2,
        "retry_settings": {"max_retries": 1},
    },
    "task": {
        "type": "run_function",
        "code": "./src",
        "entry_script": "other.py",
        "program_arguments": "--a b",
        "append_row_to": "${{outputs.o}}",
        "environment": "azureml:env@latest",
        "model": "azureml:m:1",
    },
    "retry_settings": {"max_retries": 1, "timeout": 9},
    "sweep": {
        "trial": {"command": "y"},
        "sampling_algorithm": "grid",
        "search_space": {"b": {"type": "choice", "values": [3]}},
        "objective": {"goal": "maximize", "primary_metric": "loss"},
        "early_termination": {"type": "median_stopping"},
    },
    "objective": {"goal": "maximize", "primary_metric": "accuracy"},
    "sweep_limits": {
        "max_total_trials": 3,
        "max_concurrent_trials": 2,
        "timeout": 50,
        "trial_timeout": 5,
    },
}
PARALLEL = {"type": "parallel", "input_data": "${{inputs.i}}", "task": {"entry_script": "e.py"}}
SWEEP: dict[str, Any] = {
    "type": "sweep",
    "trial": {"command": "x"},
    "search_space": {"a": {"type": "choice", "values": [1, 2]}},
    "objective": {"goal": "minimize", "primary_metric": "loss"},
    "limits": {"max_total_trials": 4},
}
EXAMPLES["job"] = {
    key: EXAMPLES["step"].get(key, EXAMPLES["pipeline"].get(key))
    for key in [
        "$schema",
        "type",
        "name",
        "display_name",
        "description",
        "experiment_name",
        "tags",
        "command",
        "code",
        "inputs",
        "outputs",
        "environment",
        "environment_variables",
        "compute",
        "resources",
        "distribution",
        "limits",
        "is_deterministic",
        "additional_includes",
        "hash_paths",
        "version",
        "queue_settings",
        "identity",
        "services",
        "properties",
        "comment",
    ]
} | {"tags": {"a": "b"}, "parent_job_name": "p"}
EXAMPLES["component"] = {
    **{key.name: EXAMPLES["step"].get(key.name) for key in ROOMS["component"]},
    "jobs": {"b": {"command": "y"}},
    "steps": {"b": {"command": "y"}},
    "settings": {"force_rerun": True},
    "tags": {"a": "b"},
}
REQUIRED = {
    ("parallel", "task"), ("parallel", "input_data"), ("task", "entry_script"), ("sweep", "trial"),
    ("sweep", "search_space"), ("sweep", "objective"), ("objective", "goal"), ("objective", "primary_metric"),
}  # fmt: skip
READ_ELSEWHERE = ("schedule", "trigger", "pattern", "create_job")
"""Rooms of schedule files: tests/unit/test_azure_schedules.py."""

BASES: dict[str, dict[str, Any]] = {
    "pipeline": {"type": "pipeline", "jobs": {"a": {"command": "x"}}},
    "settings": {},
    "input": {"type": "integer"},
    "output": {},
    "step": {"command": "x"},
    "job": {"command": "x"},
    "component": {"command": "x"},
    "environment": {"image": "docker.io/python"},
    "build": {"path": "./src"},
    "resources": {},
    "distribution": {"type": "pytorch"},
    "limits": {},
    "parallel": PARALLEL,
    "task": {"entry_script": "e.py"},
    "retry_settings": {},
    "sweep": SWEEP,
    "objective": SWEEP["objective"],
    "sweep_limits": {"max_total_trials": 4},
}
COMPANIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("pipeline", "steps"): {"jobs": None},
    ("pipeline", "component"): {"jobs": None},
    ("input", "path"): {"type": "uri_folder"},
    ("input", "mode"): {"type": "uri_folder"},
    ("output", "version"): {"name": "asset"},
    ("step", "component"): {"command": None},
    ("step", "hash_paths"): {"code": "./src"},
    ("job", "hash_paths"): {"code": "./src"},
    ("component", "hash_paths"): {"code": "./src"},
    ("component", "jobs"): {"type": "pipeline", "command": None},
    ("component", "steps"): {"type": "pipeline", "command": None},
    ("component", "settings"): {"type": "pipeline", "command": None, "jobs": {"b": {"command": "y"}}},
    ("distribution", "worker_count"): {"type": "tensorflow"},
    ("distribution", "parameter_server_count"): {"type": "tensorflow"},
}  # fmt: skip
"""What a key needs beside it, and what it excludes (None takes away)."""
SAYS_NOTHING = {
    ("pipeline", "type"), ("step", "type"), ("job", "type"), ("component", "type"),
    ("component", "name"), ("component", "version"), ("component", "tags"),
    ("resources", "instance_count"), ("environment", "name"), ("environment", "version"),
    ("task", "type"),
}  # fmt: skip
"""Keys that are read and, by themselves, leave the spec of these examples as it is; or, of an ignored
environment's name, are kept for people to read and are no part of what decides."""


def read(room: str, fields: dict[str, Any], folder: Path) -> Definition:
    plain = {key: value for key, value in fields.items() if value is not None or key == "outputs"}
    step: dict[str, Any] = {"command": "x"}
    body: dict[str, Any] = {"type": "pipeline", "jobs": {"a": step, "other": {"command": "z"}}}
    match room:
        case "pipeline" | "job":
            body = plain
        case "settings":
            body["settings"] = plain
        case "step":
            body["jobs"]["a"] = plain
        case "input" | "output":
            step[f"{room}s"] = {"v": plain}
        case "parallel" | "sweep":
            body["jobs"]["a"] = plain
        case "task" | "retry_settings":
            body["jobs"]["a"] = {**PARALLEL, room: plain}
        case "objective":
            body["jobs"]["a"] = {**SWEEP, room: plain}
        case "sweep_limits":
            body["jobs"]["a"] = {**SWEEP, "limits": plain}
        case "environment" | "resources" | "distribution" | "limits":
            step[room] = plain
        case "build":
            step["environment"] = {"build": plain}
        case "component":
            return component_of(
                document_of(yaml.safe_dump(plain).encode(), "f.yml", folder), folder / "f.yml"
            )
    return pipeline_of(document_of(yaml.safe_dump(body).encode(), "f.yml"), folder / "f.yml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("src", "more"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_text("pass\n")
    (tmp_path / "pipeline_component.yml").write_text("type: pipeline\njobs: {q: {command: q}}\n")
    return tmp_path


def cases() -> list[tuple[str, Key]]:
    return [(room, key) for room in ROOMS if room not in READ_ELSEWHERE for key in ROOMS[room]]


@pytest.mark.parametrize(("room", "key"), cases(), ids=[f"{r}.{k.name}" for r, k in cases()])
def test_a_key_does_what_the_table_says(room: str, key: Key, folder: Path) -> None:
    fields = {**BASES[room], **COMPANIONS.get((room, key.name), {})}
    without = {**fields, key.name: BASES[room].get(key.name)}
    if (
        key.name in ("jobs", "steps", "component") or (room, key.name) in REQUIRED
    ):  # stands for something else
        without = BASES[room]
    given = {**fields, key.name: EXAMPLES[room][key.name]}
    if key.fate == "refused":
        with pytest.raises(Invalid, match="not supported") as caught:
            read(room, given, folder)
        assert caught.value.code == "E_UNSUPPORTED"
        assert caught.value.hint == key.says
        return
    found = read(room, given, folder)
    said = [note for note in found.notes if f": {key.name} is ignored" in note]
    assert len(said) == (key.fate == "ignored")
    if (room, key.name) in SAYS_NOTHING or (room, key.name) == ("component", "command"):
        return
    old = read(room, without, folder) if without != given else None
    if (room, key.name) == ("sweep", "early_termination"):  # mapped to a note
        assert any("every trial runs to its end" in note for note in found.notes)
        return
    changed = old is None or (found.spec, found.locals) != (old.spec, old.locals)
    assert changed == (key.fate in ("honoured", "mapped"))


def test_every_key_of_the_table_has_an_example() -> None:
    for room, keys in ROOMS.items():
        if room not in READ_ELSEWHERE:
            assert {key.name for key in keys} <= set(EXAMPLES[room]), room
    assert set(ROOMS) == set(TITLES)


@pytest.mark.parametrize("kind", [kind for kind, (fate, _) in KINDS.items() if fate == "refused"])
def test_a_kind_that_we_cannot_do_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=f"step type '{kind}' is not supported") as caught:
        read("step", {"type": kind}, tmp_path)
    assert caught.value.code == "E_UNSUPPORTED"
    assert caught.value.hint
    with pytest.raises(Invalid, match=f"component type '{kind}' is not supported"):
        read("component", {"type": kind}, tmp_path)


def test_the_page_is_the_one_made_from_the_table() -> None:
    kept = (DOCS / "azure-yaml.md").read_text(encoding="utf-8")
    assert kept == page(), "run: python -m penstock.sdk.azure_keys"
