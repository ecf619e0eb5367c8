"""Steps that are written out where they are called: commands, and parallel steps like them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from penstock.azure.ai.ml.nodes import Node, Tree
from penstock.azure.ai.ml.values import Input, Output, placed, settled
from penstock.errors import Invalid

N = TypeVar("N", bound=Node)


def command(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
    display_name: str | None = None,
    command: str | None = None,
    experiment_name: str | None = None,
    environment: Any = None,
    environment_variables: Mapping[str, Any] | None = None,
    distribution: Any = None,
    compute: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    instance_count: int | None = None,
    instance_type: str | None = None,
    locations: Any = None,
    docker_args: Any = None,
    shm_size: str | None = None,
    timeout: int | None = None,
    resources: Any = None,
    limits: Any = None,
    code: str | Path | None = None,
    identity: Any = None,
    is_deterministic: bool = True,
    services: Any = None,
    job_tier: str | None = None,
    priority: str | None = None,
    parent_job_name: str | None = None,
    **unused: Any,
) -> Node:
    """Return a command: a step where it is called in a pipeline, and a job by itself."""
    asked = {
        "instance_count": instance_count, "instance_type": instance_type,
        "locations": locations, "docker_args": docker_args, "shm_size": shm_size,
    }  # fmt: skip
    body: Tree = {
        "command": command,
        "code": None if code is None else placed(code),
        "environment": environment,
        "environment_variables": dict(environment_variables or {}),
        "distribution": settled(distribution),
        "compute": compute,
        "display_name": display_name,
        "description": description,
        "tags": dict(tags or {}),
        "resources": settled(resources or {}) | {k: v for k, v in asked.items() if v is not None},
        "limits": settled(limits or {}) | ({} if timeout is None else {"timeout": timeout}),
        "is_deterministic": None if is_deterministic else False,
    }
    node = inline(Node, body, name or "command", inputs, outputs)
    node.experiment_name = experiment_name
    return node


def inline(
    kind: type[N],
    body: Tree,
    name: str,
    inputs: Mapping[str, Any] | None,
    outputs: Mapping[str, Any] | None,
) -> N:
    """Return a step whose inputs and outputs are declared where it is written out.

    Raises:
        Invalid: E_TYPE, an output that is neither an `Output` nor its keys.
    """
    given = dict(inputs or {})
    declared = {key: _declared(value) for key, value in given.items()}
    return kind(
        {key: value for key, value in body.items() if value is not None},
        name=name,
        inputs={key: value for key, value in given.items() if not _is_declaration(value)},
        declared_inputs=declared,
        declared_outputs={key: _output(name, key, out) for key, out in (outputs or {}).items()},
        declaring=declared,
    )


def _declared(value: Any) -> Any:
    return value.tree() if isinstance(value, Input) else {}


def _output(step: str, name: str, value: Any) -> Tree:
    """Return the declaration of an output; None: as every output is, without one."""
    if isinstance(value, Output):
        return value.tree()
    if value is None or isinstance(value, Mapping):
        return dict(settled(value or {}))
    raise Invalid(
        f"{value!r} is no Output", code="E_TYPE", where=f"{step}.outputs.{name}",
        hint='for example Output(type="uri_file")',
    )  # fmt: skip


def _is_declaration(value: Any) -> bool:
    return isinstance(value, Input) and value.path is None and value.default is None
