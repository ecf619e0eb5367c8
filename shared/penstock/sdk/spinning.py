"""`penstock spin`: one step of a pipeline, as its file is now, with what an earlier run has handed to it.

The step runs as a pipeline of its own, on the stack and in its environment; nothing that it makes is written to
a datastore, registered or offered for reuse.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec

from penstock.contracts.artifacts import PREFIX, TreeRef
from penstock.contracts.queries import RunView
from penstock.contracts.spec import Input, Output, Scalar, StepSpec
from penstock.errors import Invalid, NotFound
from penstock.ids import did_you_mean
from penstock.sdk.definition import Definition, needs_of

_EDGE = re.compile(
    r"\s*\$\{\{\s*parent\.jobs\.([^.}\s]+)\.outputs\.([^.}\s]+?)(?:\.path)?\s*\}\}\s*"
)
_PARAMETER = re.compile(r"\$\{\{\s*parent\.inputs\.([^.}\s]+)")
_SUFFIX = "-spin"
RUNS_MAX = 50
"""So many earlier runs are looked at for one that has made the step's inputs."""


def spun(definition: Definition, step: str, earlier: RunView | None) -> Definition:
    """Return a pipeline of one step whose inputs are what `earlier` has made.

    Raises:
        NotFound: there is no such step, or the run has not made one of its inputs.
        Invalid: E_UNSUPPORTED, the step is a pipeline or belongs to the registry.
    """
    spec = definition.spec
    known = checked_step(definition, step)
    if known.pipeline is not None:
        raise Invalid(
            f"step {step!r} is a pipeline",
            code="E_UNSUPPORTED",
            where=definition.where("steps", step),
        )
    trees = _trees(earlier)
    inputs: dict[str, Any] = {}
    for name, value in known.inputs.items():
        inputs[name] = _with_bytes(value, trees, definition, f"{step}.{name}", earlier)
    lone = msgspec.structs.replace(
        known,
        inputs=inputs,
        outputs={name: _plain(output) for name, output in known.outputs.items()},
        needs=(),
    )
    used = set(_parameters(lone))
    parameters: Mapping[str, Scalar] = earlier.parameters if earlier is not None else {}
    return replace(
        definition,
        spec=msgspec.structs.replace(
            spec,
            name=f"{spec.name[: 63 - len(_SUFFIX)]}{_SUFFIX}",
            inputs={
                name: _given(value, parameters.get(name))
                for name, value in spec.inputs.items()
                if name in used
            },
            outputs={},
            steps={step: lone},
        ),
        locals=tuple(
            local
            for local in definition.locals
            if local.place[:2] == ("steps", step)
            or (local.place[0] == "inputs" and local.place[1] in used)
        ),
    )


def checked_step(definition: Definition, step: str) -> StepSpec:
    """Return a step of a definition.

    Raises:
        NotFound: there is none of that name.
    """
    steps = definition.spec.steps
    if step not in steps:
        raise NotFound(
            f"pipeline {definition.spec.name!r} has no step {step!r}",
            where=definition.where("steps"),
            hint=did_you_mean(step, steps) or f"it has: {', '.join(steps)}",
        )
    return steps[step]


def has_made(definition: Definition, step: str, run: RunView) -> bool:
    """Say whether a run has everything that a step reads from other steps."""
    trees = _trees(run)
    return all(edge in trees for edge in edges_of(definition.spec.steps[step]))


def edges_of(step: StepSpec) -> list[tuple[str, str]]:
    """Return (step, output) for everything that a step reads from other steps."""
    found = []
    for value in step.inputs.values():
        text = value.path or value.value if isinstance(value, Input) else value
        match = _EDGE.fullmatch(text) if isinstance(text, str) else None
        if match:
            found.append((match[1], match[2]))
    return found


def needs_earlier(definition: Definition, step: str) -> bool:
    """Say whether a step reads anything from other steps."""
    return any(place[0] == "inputs" for place, _ in needs_of(checked_step(definition, step)))


def file_with(step: str, folder: Path) -> Path:
    """Return the one pipeline file of a folder that has a step of that name.

    Raises:
        NotFound: there is none.
        Invalid: E_REQUEST, there are several.
    """
    word = re.compile(rf"\b{re.escape(step)}\b")
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix in (".yml", ".yaml", ".py") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            marks = (
                "@pipeline" in text if path.suffix == ".py" else "jobs:" in text or "steps:" in text
            )
            if marks and word.search(text):
                found.append(path)
    if not found:
        raise NotFound(
            f"no pipeline here has a step {step!r}", where=str(folder), hint="name its file"
        )
    if len(found) > 1:
        raise Invalid(
            f"{len(found)} files may have step {step!r}: {', '.join(path.name for path in found)}",
            code="E_REQUEST",
            where=str(folder),
            hint="name one of them",
        )
    return found[0]


def _trees(run: RunView | None) -> dict[tuple[str, str], TreeRef]:
    if run is None:
        return {}
    return {(one.step, name): tree for one in run.steps for name, tree in one.outputs.items()}


def _with_bytes(
    value: Any,
    trees: Mapping[tuple[str, str], TreeRef],
    definition: Definition,
    where: str,
    run: RunView | None,
) -> Any:
    """Return an input with the stored tree in place of the step that makes it."""
    text = value.path or value.value if isinstance(value, Input) else value
    match = _EDGE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return value
    step, output = match[1], match[2]
    if (step, output) not in trees:
        raise NotFound(
            f"run {run.run if run else '-'} has no output {output!r} of step {step!r}",
            where=where,
            hint="run the pipeline once, or name another run: --run",
        )
    maker = definition.spec.steps.get(step)
    made = None if maker is None else maker.outputs.get(output)
    kind = made.type if isinstance(made, Output) else "uri_folder"
    path = PREFIX + trees[step, output].digest
    if isinstance(value, Input):
        return msgspec.structs.replace(value, path=path, value=None)
    return Input(type=cast("Any", kind), path=path)


def _plain(output: Output | str | None) -> Output | None:
    """Return an output that goes nowhere but to the store."""
    if not isinstance(output, Output):
        return None
    return Output(type=output.type, mode=output.mode)


def _parameters(step: StepSpec) -> list[str]:
    return _PARAMETER.findall(msgspec.json.encode(step).decode())


def _given(value: Any, given: Scalar | None) -> Any:
    """Return an input of the pipeline with the value of the earlier run; data stays as it is."""
    if given is None or (isinstance(value, Input) and value.type not in (
        "string", "integer", "number", "boolean")):  # fmt: skip
        return value
    if isinstance(value, Input):
        return msgspec.structs.replace(value, value=given)
    return given
