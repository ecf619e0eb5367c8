"""`azure.ai.ml.parallel`: steps that call a function of a script for every few files or rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.azure.ai.ml.commands import inline
from penstock.azure.ai.ml.nodes import Node, Tree
from penstock.azure.ai.ml.values import Settings, placed, settled


class RetrySettings(Settings):
    """How often, and how long, one mini-batch is tried."""

    def __init__(
        self, *, timeout: int | str | None = None, max_retries: int | str | None = None
    ) -> None:
        super().__init__(timeout=timeout, max_retries=max_retries)


class RunFunction(Settings):
    """The script whose `run` is called, and what it runs in."""

    def __init__(
        self,
        *,
        code: str | Path | None = None,
        entry_script: str | None = None,
        program_arguments: str | None = None,
        model: Any = None,
        append_row_to: str | None = None,
        environment: Any = None,
    ) -> None:
        super().__init__(
            type="run_function", code=None if code is None else placed(code),
            entry_script=entry_script, program_arguments=program_arguments, model=model,
            append_row_to=None if append_row_to is None else str(append_row_to),
            environment=environment,
        )  # fmt: skip


class Parallel(Node):
    """A step of type parallel."""

    settable: tuple[str, ...] = (
        *Node.settable, "task", "input_data", "mini_batch_size", "partition_keys",
        "mini_batch_error_threshold", "error_threshold", "logging_level",
        "max_concurrency_per_instance", "retry_settings",
    )  # fmt: skip


def parallel_run_function(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
    display_name: str | None = None,
    experiment_name: str | None = None,
    compute: str | None = None,
    retry_settings: Any = None,
    environment_variables: Mapping[str, Any] | None = None,
    logging_level: str | None = None,
    max_concurrency_per_instance: int | None = None,
    error_threshold: int | None = None,
    mini_batch_error_threshold: int | None = None,
    task: RunFunction | Mapping[str, Any] | None = None,
    mini_batch_size: str | None = None,
    partition_keys: Sequence[str] | None = None,
    input_data: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    instance_count: int | None = None,
    instance_type: str | None = None,
    docker_args: Any = None,
    shm_size: str | None = None,
    identity: Any = None,
    is_deterministic: bool = True,
    **unused: Any,
) -> Parallel:
    """Return a parallel step: the `type: parallel` that YAML would have, read as that is."""
    resources = Settings(
        instance_count=instance_count, instance_type=instance_type, docker_args=docker_args,
        shm_size=shm_size,
    )  # fmt: skip
    body: Tree = {
        "type": "parallel",
        "task": settled(task),
        "input_data": None if input_data is None else str(input_data),
        "mini_batch_size": mini_batch_size,
        "partition_keys": settled(partition_keys),
        "mini_batch_error_threshold": mini_batch_error_threshold,
        "error_threshold": error_threshold,
        "logging_level": logging_level,
        "max_concurrency_per_instance": max_concurrency_per_instance,
        "retry_settings": settled(retry_settings),
        "environment_variables": dict(environment_variables or {}),
        "compute": compute,
        "display_name": display_name,
        "description": description,
        "tags": dict(tags or {}),
        "resources": settled(resources),
        "is_deterministic": None if is_deterministic else False,
    }
    node = inline(Parallel, body, name or "parallel", inputs, outputs)
    node.experiment_name = experiment_name
    return node


__all__ = ["RunFunction", "parallel_run_function"]
