"""Parallel and sweep steps: a command that starts an agent, which lies beside the step's code.

The agents (in_code/) are plain Python scripts: they run wherever the step's environment has a Python, on a
`process` target and in a container alike, and their bytes are part of the snapshot, so of the fingerprint.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from penstock.contracts.spec import Scalar
from penstock.sdk.definition import Include
from penstock.sdk.yaml_reading import Reading
from penstock.sdk.yaml_section import Section

_IN_CODE = Path(__file__).parent / "in_code"
PARALLEL = Include("penstock_parallel.py", _IN_CODE / "penstock_parallel.py")
SWEEP = Include("penstock_sweep.py", _IN_CODE / "penstock_sweep.py")
TRIALS_MAX = 1000
TIMEOUT_S = 5_184_000
_END = "PENSTOCK_END_OF_TRIAL"
_SPACES = {
    "choice": ("values",), "randint": ("upper",),
    "uniform": ("min_value", "max_value"), "loguniform": ("min_value", "max_value"),
    "quniform": ("min_value", "max_value", "q"), "qloguniform": ("min_value", "max_value", "q"),
    "normal": ("mu", "sigma"), "lognormal": ("mu", "sigma"),
    "qnormal": ("mu", "sigma", "q"), "qlognormal": ("mu", "sigma", "q"),
}  # fmt: skip


# -- parallel ---------------------------------------------------------------------------------------


def parallel_command(top: Section, user: Section | None, reading: Reading) -> str:
    """Return the command of a parallel step; `user` is the step that uses the component `top`.

    Raises:
        Invalid: E_MISSING, no task, entry script or input to split; E_UNSUPPORTED, a task of another kind;
            E_TYPE, a setting of another type.
    """
    task = task_of(top)
    reading.meet(task, "task")
    kind = task.text("type") or "run_function"
    if kind not in ("run_function", "function"):
        raise task.refusal("type", "E_UNSUPPORTED", f"a task of type {kind!r}", "run_function")

    def saying(key: str) -> Section:
        return user if user is not None and user[key] is not None else top

    def said(key: str) -> Scalar | None:
        return saying(key).scalar(key)

    split = saying("input_data").text("input_data", required=True).strip()
    retry = saying("retry_settings").section("retry_settings")
    reading.meet(retry, "retry_settings")
    processes = saying("max_concurrency_per_instance").whole("max_concurrency_per_instance")
    keys = saying("partition_keys").texts("partition_keys")
    options: list[tuple[str, Scalar | None]] = [
        ("--entry", task.text("entry_script", required=True)),
        ("--size", said("mini_batch_size")),
        ("--keys", ",".join(keys)),
        ("--processes", processes or None),
        ("--retries", retry.scalar("max_retries")),
        ("--timeout", retry.scalar("timeout")),
        ("--errors", said("error_threshold")),
        ("--batch-errors", said("mini_batch_error_threshold")),
        ("--level", said("logging_level")),
    ]
    words = [
        f"{name}={shlex.quote(str(value))}" for name, value in options if value not in (None, "")
    ]
    append = task.text("append_row_to").strip()
    if append:
        words.append(f'--append="{append}"')
    arguments = " ".join(str(task.scalar("program_arguments") or "").split())
    return f'python {PARALLEL.name} --input="{split}" {" ".join(words)} -- {arguments}'.rstrip()


def task_of(top: Section) -> Section:
    """Return the task of a parallel step: where its code and environment stand."""
    if top["task"] is None:
        raise top.refusal("task", "E_MISSING", "task is missing", "give an entry_script")
    return top.section("task")


# -- sweep ------------------------------------------------------------------------------------------


def sweep_command(node: Section, command: str, outputs: tuple[str, ...], reading: Reading) -> str:
    """Return the command that tries `command` with values of a search space.

    Raises:
        Invalid: E_MISSING (objective, limits, search_space), E_TYPE or E_RANGE, what is wrong in them.
    """
    objective = _needed(node, "objective")
    reading.meet(objective, "objective")
    goal = objective.text("goal", required=True).lower()
    if goal not in ("minimize", "maximize"):
        raise objective.unknown_choice("goal", ("minimize", "maximize"))
    limits = _needed(node, "limits")
    reading.meet(limits, "sweep_limits")
    total = limits.whole("max_total_trials") or TRIALS_MAX
    if total > TRIALS_MAX:
        raise limits.refusal("max_total_trials", "E_RANGE", f"{total}; allowed: 1 to {TRIALS_MAX}")
    if node["early_termination"] is not None:
        reading.note(f"{node.where('early_termination')}: every trial runs to its end")
    space = {name: _space(entry) for name, entry in _needed(node, "search_space").sections()}
    plan = {
        "space": space,
        "sampling": _sampling(node, reading),
        "objective": {
            "goal": goal,
            "primary_metric": objective.text("primary_metric", required=True),
        },
        "limits": {
            "total": total,
            "concurrent": min(limits.whole("max_concurrent_trials") or total, 4),
            "timeout": limits.number("timeout") or TIMEOUT_S,
            "trial_timeout": limits.number("trial_timeout"),
        },
        "outputs": {name: f"${{{{outputs.{name}}}}}" for name in outputs},
    }
    names = "|".join(re.escape(name) for name in space)
    holes = re.compile(
        r"\$\{\{\s*(?:search_space\.([A-Za-z_]\w*)|inputs\.(" + (names or "(?!)") + r"))\s*\}\}"
    )
    text = holes.sub(lambda found: f"@@penstock:{found[1] or found[2]}@@", command)
    quoted = shlex.quote(json.dumps(plan))
    return f"python {SWEEP.name} {quoted} <<'{_END}'\n{text}\n{_END}"


def searched(node: Section) -> tuple[str, ...]:
    """Return the names that a sweep chooses values for: no input of the trial needs one for them."""
    return tuple(node.section("search_space"))


def _needed(node: Section, key: str) -> Section:
    if node[key] is None:
        raise node.refusal(key, "E_MISSING", f"{key} is missing", "a sweep needs it")
    return node.section(key)


def _sampling(node: Section, reading: Reading) -> dict[str, Any]:
    value = node["sampling_algorithm"]
    entry: dict[str, Any] = {"type": value or "random"} if not isinstance(value, dict) else value
    kind = str(entry.get("type", "random")).lower()
    if kind not in ("random", "grid", "bayesian"):
        raise node.unknown_choice("sampling_algorithm", ("random", "grid", "bayesian"))
    if kind == "bayesian" or entry.get("rule") == "sobol":
        reading.note(f"{node.where('sampling_algorithm')}: points are drawn at random")
    seed = entry.get("seed")
    return {
        "type": "grid" if kind == "grid" else "random",
        "seed": seed if isinstance(seed, int) else 0,
    }


def _space(entry: Section) -> dict[str, Any]:
    kind = entry.text("type", required=True).lower()
    if kind not in _SPACES:
        raise entry.unknown_choice("type", tuple(_SPACES))
    found: dict[str, Any] = {"type": kind}
    for key in _SPACES[kind]:
        if entry[key] is None or entry[key] == []:
            raise entry.refusal(key, "E_MISSING", f"{key} is missing")
        found[key] = entry.items(key) if key == "values" else _real(entry, key)
    return found


def _real(entry: Section, key: str) -> float:
    try:
        return float(entry.scalar(key) or 0)
    except ValueError as error:
        raise entry.mistyped(key, "a number") from error
