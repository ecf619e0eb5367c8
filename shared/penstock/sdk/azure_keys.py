"""What becomes of every key of Azure ML's CLI v2 YAML: the one table, for the reader and for the page.

    honoured   does here what it does there
    mapped     does here what is equal in effect; the text says what
    ignored    changes nothing, and a note says so
    quiet      changes nothing there either, so nobody hears of it
    refused    we cannot do it, and running without it would be something else (E_UNSUPPORTED)

`shared/docs/azure-yaml.md` is made from it: python -m penstock.sdk.azure_keys
"""

import sys
from pathlib import Path
from typing import Literal, NamedTuple

Fate = Literal["honoured", "mapped", "ignored", "quiet", "refused"]


class Key(NamedTuple):
    """One key of a room. `ours`: Azure ML does not know it and warns about it."""

    name: str
    fate: Fate = "honoured"
    says: str = ""
    ours: bool = False


def _ours(name: str, says: str) -> Key:
    return Key(name, "honoured", says, ours=True)


_SCHEMA = Key("$schema", "quiet", "never fetched")
_COMMENT = Key("comment", "quiet")
_PROPERTIES = Key("properties", "ignored", "labels of Azure's own services")
_IDENTITY = Key("identity", "ignored", "a step runs as its executor's user")
_SERVICES = Key("services", "ignored", "no ssh, no notebook beside a step")
_QUEUE = Key("queue_settings", "ignored", "for the priority of a run: penstock submit --priority")
_NAMES = (Key("display_name"), Key("description"))
_SPARK = "Spark; write the step as a command that calls spark-submit"

ROOMS: dict[str, tuple[Key, ...]] = {
    "pipeline": (
        _SCHEMA,
        Key("type"),
        Key("name", says="the pipeline's name; without it the file's"),
        *_NAMES,
        Key("experiment_name"),
        _ours("experiment", "short for experiment_name"),
        Key("tags"),
        Key("compute", "mapped", "the same as settings.default_compute"),
        Key("settings"),
        Key("inputs"),
        Key("outputs"),
        Key("jobs"),
        _ours("steps", "the same as jobs"),
        Key("component", says="a pipeline component run as the job; excludes jobs"),
        _PROPERTIES,
        _IDENTITY,
        _SERVICES,
        _COMMENT,
    ),
    "settings": (
        Key("default_compute", says="also without `azureml:`"),
        Key("default_datastore"),
        Key("continue_on_step_failure"),
        Key(
            "force_rerun",
            says="results are offered to later runs, which Azure ML does not do",
        ),
        _ours("deadline", "seconds from accepted to ended"),
        Key("on_init", "refused", "use `depends_on` to order steps"),
        Key("on_finalize", "refused", "use `depends_on` to order steps"),
        Key("continue_run_on_failed_optional_input", "ignored", "inputs are made or the step waits"),
        Key("default_datestore", "ignored", "a slip in Azure's own examples"),
    ),
    "input": (
        Key("type", says="compared without case; `path` and AnyDirectory are uri_folder, AnyFile is uri_file"),
        Key("path"),
        Key("mode", "mapped", "mounts and downloads are read-only links; rw_mount, mount, upload are refused"),
        Key("value"),
        Key("default"),
        Key("optional"),
        Key("min", says="checked at submission"),
        Key("max", says="checked at submission"),
        Key("enum", says="checked at submission"),
        Key("description"),
        Key("path_on_compute", "ignored", "paths are handed to the command"),
        Key("datastore", "ignored", "local data is stored by content"),
        Key("name", "quiet"),
        Key("version", "quiet"),
    ),
    "output": (
        Key("type"),
        Key("path", says="written there as well, once it is stored"),
        Key("mode", "mapped", "all are a local folder or file, stored when the step has ended"),
        Key("name", says="registered when the step has ended well"),
        Key("version", says="only together with name"),
        Key("description"),
    ),
    "step": (
        _SCHEMA,
        Key("type", says="command without one; see the table of kinds"),
        Key("component"),
        Key("command", says="run by bash as it is written"),
        Key("code", says="a folder (.amlignore, else .gitignore) or one file; no git and no URL"),
        Key("inputs"),
        Key("outputs"),
        Key("environment"),
        Key("environment_variables"),
        Key("compute", says="`local`, `serverless`: wherever there is room"),
        Key("resources"),
        Key("distribution", "mapped", "all processes run on one machine"),
        Key("limits"),
        Key("is_deterministic", says="on every step; Azure ML refuses it on an inline one"),
        *_NAMES,
        _ours("depends_on", "steps to wait for (Azure ML ignores it with a warning)"),
        _ours("needs", "the same as depends_on"),
        _ours("hash_paths", "only these files of the code decide about reuse"),
        _ours("additional_includes", "as in a component"),
        _QUEUE,
        _IDENTITY,
        _SERVICES,
        _PROPERTIES,
        _COMMENT,
        Key("tags", "ignored", "tags belong to the run"),
        Key("name", "ignored", "a step is called by its key under jobs"),
        Key("version", "ignored"),
        Key("experiment_name", "ignored", "the run's counts"),
    ),
    "job": (
        _SCHEMA,
        Key("type", says="command without one"),
        Key("name"),
        *_NAMES,
        Key("experiment_name"),
        Key("tags"),
        Key("command", says="run by bash as it is written"),
        Key("code"),
        Key("inputs", says="become the run's parameters"),
        Key("outputs"),
        Key("environment"),
        Key("environment_variables"),
        Key("compute"),
        Key("resources"),
        Key("distribution", "mapped", "all processes run on one machine"),
        Key("limits"),
        Key("is_deterministic"),
        Key("additional_includes", says="of a component file that is run by itself"),
        _ours("hash_paths", "only these files of the code decide about reuse"),
        Key("version", "ignored"),
        Key("parent_job_name", "ignored"),
        _QUEUE,
        _IDENTITY,
        _SERVICES,
        _PROPERTIES,
        _COMMENT,
    ),
    "component": (
        _SCHEMA,
        Key("type", says="command or pipeline; see the table of kinds"),
        Key("name", says="what it is registered under; a pipeline that inlines the file does not look"),
        Key("version", says="what it is registered under; any single value, kept as text"),
        *_NAMES,
        Key("tags", says="kept where it is registered"),
        Key("command"),
        Key("code", says="relative to the component's file"),
        Key("additional_includes", says="copied beside the code; x.zip means: x, packed"),
        Key("inputs"),
        Key("outputs"),
        Key("jobs"),
        _ours("steps", "the same as jobs"),
        Key("environment"),
        Key("environment_variables", says="honoured; Azure ML drops them"),
        Key("compute", says="honoured; Azure ML drops it"),
        Key("limits", says="honoured; Azure ML drops them"),
        Key("resources"),
        Key("distribution", "mapped", "all processes run on one machine"),
        Key("is_deterministic"),
        _ours("hash_paths", "only these files of the code decide about reuse"),
        Key("settings", "ignored", "those of the run count"),
        Key("experiment_name", "ignored", "the run's counts"),
        _QUEUE,
        _IDENTITY,
        _SERVICES,
        _PROPERTIES,
        _COMMENT,
    ),
    "environment": (
        _SCHEMA,
        Key("name", "ignored", "two environments are the same when their contents are"),
        Key("version", "ignored", "two environments are the same when their contents are"),
        Key("image", "mapped", "on a process target: a virtual environment instead"),
        Key("conda_file", says="a path or the content itself"),
        Key("build", says="docker targets only"),
        _ours("pip", "requirements, one text each, or the path of a file of them"),
        _ours("python", "version of the interpreter"),
        _ours("variables", "what every step in it sees"),
        Key("description", "quiet"),
        Key("tags", "quiet"),
        Key("properties", "quiet"),
        Key("type", "quiet"),
        Key("os_type", "ignored", "Linux"),
        Key("inference_config", "ignored", "nothing is served from it"),
        Key("datastore", "ignored", "the build context is stored by content"),
    ),
    "build": (
        Key("path"),
        Key("dockerfile_path", says="Dockerfile without it"),
    ),
    "resources": (
        Key("instance_count", "mapped", "processes of a distribution; all on one machine"),
        Key("shm_size", says="docker targets only"),
        Key("docker_args", says="docker targets only; those of a short list"),
        _ours("cores", "what the step needs"),
        _ours("memory", "what the step needs: 512m, 2g"),
        _ours("gpus", "what the step needs"),
        _ours("labels", "what its executor must be labelled with"),
        Key("instance_type", "ignored", "say cores, memory, gpus"),
        Key("locations", "ignored"),
        Key("properties", "ignored"),
        Key("max_instance_count", "ignored"),
    ),
    "distribution": (
        Key("type", "mapped", "pytorch, mpi and tensorflow: one process per rank, side by side; ray is refused"),
        Key("process_count_per_instance"),
        Key("process_count", "mapped", "the same, of all machines together"),
        Key("worker_count"),
        Key("parameter_server_count"),
    ),
    "limits": (
        Key("timeout", says="seconds of one attempt"),
        _ours("retries", "further attempts"),
        _ours("retry_delay", "seconds before the first retry"),
        _ours("deadline", "seconds from ready to ended"),
        _ours("expected", "seconds after which it is told as overdue"),
    ),
    "parallel": (
        Key("task"),
        Key("input_data"),
        Key("mini_batch_size", says="files; of a table rows, or a size such as 10kb"),
        Key("partition_keys"),
        Key("mini_batch_error_threshold"),
        Key("error_threshold"),
        Key("logging_level"),
        Key("max_concurrency_per_instance", says="processes; without it one per core"),
        Key("retry_settings"),
    ),
    "task": (
        Key("type", says="run_function"),
        Key("code"),
        Key("entry_script"),
        Key("program_arguments"),
        Key("append_row_to"),
        Key("environment"),
        Key("model", "ignored", "hand it over as an input"),
    ),
    "retry_settings": (
        Key("max_retries"),
        Key("timeout", says="seconds of one mini-batch"),
    ),
    "sweep": (
        Key("trial", says="a command component; all trials run inside one step"),
        Key("sampling_algorithm", "mapped", "bayesian and sobol: drawn at random"),
        Key("search_space", says="no nested spaces"),
        Key("objective"),
        Key("early_termination", "mapped", "every trial runs to its end"),
    ),
    "objective": (
        Key("goal"),
        Key("primary_metric", says="of MLflow, or of run.log; the last value counts"),
    ),
    "sweep_limits": (
        Key("max_total_trials"),
        Key("max_concurrent_trials", "mapped", "at most 4"),
        Key("timeout", says="seconds of all trials together"),
        Key("trial_timeout"),
    ),
    "schedule": (
        _SCHEMA,
        Key("type", says="schedule"),
        Key("name"),
        Key("display_name", "ignored"),
        Key("description"),
        Key("tags", says="tags of its runs"),
        Key("trigger"),
        Key("create_job"),
        _PROPERTIES,
        _COMMENT,
    ),
    "trigger": (
        Key("type", says="cron or recurrence"),
        Key("expression", says="all five fields; Azure ML takes days and months as *"),
        Key("frequency"),
        Key("interval"),
        Key("schedule"),
        Key("start_time"),
        Key("end_time"),
        Key("time_zone", says="Windows names and IANA names"),
    ),
    "pattern": (
        Key("hours"),
        Key("minutes"),
        Key("week_days"),
        Key("month_days"),
    ),
    "create_job": (
        Key("type"),
        Key("job", says="a file, or azureml:<registered pipeline>"),
        Key("inputs", says="set parameters of its runs"),
        Key("settings", says="force_rerun is reuse: refresh; the rest goes into the job"),
        Key("experiment_name"),
        Key("tags"),
        Key("compute"),
        Key("outputs"),
        Key("display_name", "ignored"),
        Key("description", "ignored"),
        Key("name", "ignored"),
        _PROPERTIES,
        _IDENTITY,
        _SCHEMA,
    ),
}  # fmt: skip
"""Room → its keys."""

TITLES = {
    "pipeline": "A pipeline (`type: pipeline`)",
    "settings": "`settings`",
    "input": "An input, of a job, a step or a component",
    "output": "An output",
    "step": "A step (an entry of `jobs`)",
    "job": "A command by itself (`type: command`, or none)",
    "component": "A component file",
    "environment": "An environment",
    "build": "`build` of an environment",
    "resources": "`resources`",
    "distribution": "`distribution`",
    "limits": "`limits`",
    "parallel": "A step or component of type parallel: besides those above",
    "task": "`task` of a parallel step",
    "retry_settings": "`retry_settings` of a parallel step",
    "sweep": "A step or job of type sweep: besides those above",
    "objective": "`objective` of a sweep",
    "sweep_limits": "`limits` of a sweep",
    "schedule": "A schedule (`type: schedule`)",
    "trigger": "`trigger` of a schedule",
    "pattern": "`schedule` of a recurrence",
    "create_job": "`create_job` of a schedule",
}

KINDS: dict[str, tuple[Fate, str]] = {
    "command": ("honoured", ""),
    "pipeline": ("honoured", "a component of this type; its steps become steps of the run"),
    "parallel": ("mapped", "an agent beside the code cuts the input into mini-batches; one machine"),
    "sweep": ("mapped", "an agent beside the code runs the trials, all inside one step"),
    "spark": ("refused", _SPARK),
    "automl": ("refused", "Azure's AutoML service; train in a command"),
    "data_transfer": ("refused", "Azure's copy service; copy in a command"),
    "import": ("refused", "Azure's copy service; copy in a command"),
    "finetuning": ("refused", "Azure's fine-tuning service; train in a command"),
    "if_else": ("refused", "control flow of Azure's private preview; decide inside a command"),
    "do_while": ("refused", "control flow of Azure's private preview; loop inside a command"),
    "parallel_for": ("refused", "control flow of Azure's private preview; write the steps out"),
}  # fmt: skip
"""`type` of a step → its fate, and what it would need (or how it is done)."""


def known(room: str) -> tuple[str, ...]:
    """Return the names of a room's keys."""
    return tuple(key.name for key in ROOMS[room])


def key_of(room: str, name: str) -> Key | None:
    """Return a key of a room."""
    return _BY_NAME[room].get(name)


_BY_NAME = {room: {key.name: key for key in keys} for room, keys in ROOMS.items()}


def page() -> str:
    """Return the page of all keys, as Markdown."""
    lines = [
        "# Azure ML's YAML, key by key",
        "",
        "Made by `python -m penstock.sdk.azure_keys`; a test compares it, and another one reads every key of it.",
        "",
        "- **honoured**: does here what it does there.",
        "- **mapped**: does what is equal in effect; the text says what.",
        "- **ignored**: changes nothing, and a note says so when the file is submitted.",
        "- **quiet**: changes nothing there either, so there is no note.",
        "- **refused**: `E_UNSUPPORTED`, because running without it would be something else.",
        "",
        "A key that stands nowhere here gets a warning with its place and the nearest known one; with `--strict` it",
        "is an error, as it is at the top of a pipeline file, where Azure ML refuses it too. *Ours* means: Azure ML",
        "does not know the key and warns about it.",
    ]
    for room, keys in ROOMS.items():
        lines += ["", f"## {TITLES[room]}", "", "| key | | |", "|---|---|---|"]
        for key in keys:
            ours = " *(ours)*" if key.ours else ""
            lines.append(f"| `{key.name}` | {key.fate}{ours} | {key.says} |")
    lines += [
        "",
        "## Kinds of steps (`type`)",
        "",
        "| kind | | how it is done, or what it would need |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {fate} | {needs} |" for name, (fate, needs) in KINDS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "shared/docs/azure-yaml.md").write_text(
        page(), encoding="utf-8"
    )
