"""Pipelines in Python, named and shaped as in Azure ML's SDK v1.

    prepared = OutputFileDatasetConfig("prepared")
    rate = PipelineParameter("rate", 0.1)
    prepare = PythonScriptStep("prepare.py", arguments=["--to", prepared], source_directory="src")
    train = PythonScriptStep(
        "train.py", arguments=["--data", prepared.as_input(), "--rate", rate], source_directory="src"
    )
    run = Pipeline(steps=[train]).submit("digits", pipeline_parameters={"rate": 0.05})

A `pathlib.Path` among inputs or arguments is local data: it is stored at submission and becomes an
input of the step. Steps whose outputs are used are part of the pipeline without being listed.
"""

import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.contracts.queries import PipelineView
from penstock.contracts.spec import Input, PipelineSpec, Scalar, Settings
from penstock.errors import Invalid, PenstockError
from penstock.ids import checked_name
from penstock.sdk.arguments import DataInput, OutputFileDatasetConfig, OutputInput
from penstock.sdk.client import client_of
from penstock.sdk.definition import Definition, checked
from penstock.sdk.names import distinct, name_from
from penstock.sdk.run import Run
from penstock.sdk.step_specs import Lowering, data_input, declared_output, local_input, step_spec
from penstock.sdk.steps import PipelineStep


class Pipeline:
    """A graph of steps, shaped as in Azure ML's SDK v1.

        data = OutputFileDatasetConfig("data")
        prepare = PythonScriptStep("prepare.py", arguments=["--out", data])
        train = PythonScriptStep("train.py", arguments=["--data", data.as_input()])
        run = Experiment("digits").submit(Pipeline(steps=[prepare, train]))

    `steps`: steps, or lists of them; with `resolve_closure` those that they need come along. A step
    waits for whoever writes its inputs, and for nothing else. `name` (default: the program's) is what
    runs are listed by, and `publish` registers. `outputs`: name → a step's output, offered as an output
    of the pipeline. `default_source_directory`: where data given as relative paths is looked for.
    `continue_on_step_failure`: steps that do not need the failed one still run. `workspace`: a
    `penstock.Client`, or None for the stack of this folder. `default_datastore` is not used.

    Raises:
        Invalid: E_ID, `name` is none. What is wrong with the graph is said by `validate` and `submit`.
    """

    def __init__(  # noqa: PLR0917 - SDK v1's order
        self,
        workspace: object = None,
        steps: Sequence[Any] | PipelineStep = (),
        description: str | None = None,
        default_datastore: object = None,
        default_source_directory: str | Path | None = None,
        resolve_closure: bool = True,
        *,
        name: str = "",
        outputs: Mapping[str, OutputFileDatasetConfig] | None = None,
        continue_on_step_failure: bool = False,
    ) -> None:
        self._workspace = workspace
        self.name = checked_name(name, "Pipeline") if name else _script_name()
        self.description = description or ""
        self.steps = _closure(_leaves(steps)) if resolve_closure else _leaves(steps)
        self.outputs = dict(outputs or {})
        self.continue_on_step_failure = continue_on_step_failure
        self.source_directory = Path(default_source_directory or ".")

    def continuing(self, continue_on_step_failure: bool) -> "Pipeline":
        """Return the same pipeline with this answer to a step's failure."""
        other = Pipeline.__new__(Pipeline)
        other.__dict__.update(self.__dict__)
        other.continue_on_step_failure = continue_on_step_failure
        return other

    # -- what it is ---------------------------------------------------------------------------------

    def definition(self) -> Definition:
        """Return the pipeline as everything else knows it.

        Raises:
            Invalid: E_EMPTY, E_REF, E_CYCLE, E_PATH, E_OUTPUT_CLASH, E_PARAM.
        """
        names: dict[str, PipelineStep] = {}
        numbers: dict[str, int] = {}
        for step in self.steps:
            names[distinct(step.name, names, numbers)] = step
        known = Lowering(
            names={id(step): name for name, step in names.items()},
            published={id(output): name for name, output in self.outputs.items()},
        )
        for name, output in self.outputs.items():
            if output.producer is None or id(output.producer) not in known.names:
                raise Invalid(
                    f"no step of this pipeline writes output {name!r}",
                    code="E_REF",
                    where=f"outputs.{name}",
                )
        steps = {name: step_spec(step, name, known) for name, step in names.items()}
        inputs: dict[str, Input | Scalar] = {}
        for name, parameter in known.parameters.items():
            place, default = ("inputs", name), parameter.default_value
            if isinstance(default, Path):
                inputs[name] = local_input(default, place, known.local)
            elif isinstance(default, DataInput):
                inputs[name] = data_input(default, place, known.local)
            else:
                inputs[name] = default
        spec = PipelineSpec(
            name=self.name,
            description=self.description,
            inputs=inputs,
            outputs={name: declared_output(output) for name, output in self.outputs.items()},
            steps=steps,
            settings=Settings(continue_on_step_failure=self.continue_on_step_failure),
        )
        return checked(Definition(spec, tuple(known.local), (), self.source_directory.resolve()))

    def validate(self) -> list[str]:
        """Return what is wrong with the pipeline, one line each; nothing is sent."""
        try:
            self.definition()
        except PenstockError as error:
            return [str(error)]
        return []

    # -- running it ---------------------------------------------------------------------------------

    def submit(
        self,
        experiment_name: str = "",
        pipeline_parameters: Mapping[str, Scalar | Path] | None = None,
        continue_on_step_failure: bool | None = None,
        regenerate_outputs: bool = False,
        *,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Run the pipeline and return its run.

        Raises:
            Refused: the pipeline or a parameter is not acceptable.
            BusUnavailable: the stack did not answer.
        """
        pipeline = self
        if continue_on_step_failure is not None:
            pipeline = self.continuing(continue_on_step_failure)
        return client_of(self._workspace).submit(
            pipeline,
            parameters=pipeline_parameters,
            experiment=experiment_name,
            tags=tags,
            reuse="refresh" if regenerate_outputs else "use",
        )

    def publish(
        self,
        name: str | None = None,
        description: str | None = None,
        version: str | None = None,
        continue_on_step_failure: bool | None = None,
    ) -> "PublishedPipeline":
        """Register the pipeline, so that it can be run by name; return the registered version.

        `version` becomes part of the description: versions are counted, so that none is ever changed.
        """
        definition = self.definition()
        spec = definition.spec
        told = description or spec.description
        if version:
            told = f"{told} (version {version})".strip()
        settings = spec.settings
        if continue_on_step_failure is not None:
            settings = msgspec.structs.replace(
                settings, continue_on_step_failure=continue_on_step_failure
            )
        spec = msgspec.structs.replace(spec, description=told, settings=settings)
        definition = Definition(spec, definition.locals, definition.notes, definition.root)
        client = client_of(self._workspace)
        view = client.register(definition, name_from(name) if name else "")
        return PublishedPipeline(self._workspace, view.name, view.version, view.description)


class PublishedPipeline:
    """A registered version of a pipeline."""

    def __init__(self, workspace: object, name: str, version: str, description: str = "") -> None:
        self._workspace = workspace
        self.name = name
        self.version = version
        self.description = description

    def __repr__(self) -> str:
        return f"PublishedPipeline({self.reference!r})"

    @property
    def reference(self) -> str:
        """name@version, as `penstock submit` takes it."""
        return f"{self.name}@{self.version}"

    @property
    def id(self) -> str:
        """The same as `reference`."""
        return self.reference

    def check_continuing(self, wanted: bool | None) -> None:
        """Refuse a `continue_on_step_failure` other than the one it was published with.

        Raises:
            Invalid: E_UNSUPPORTED.
        """
        if wanted is not None:
            continues_as(client_of(self._workspace).pipeline(self.reference), wanted)

    def submit(
        self,
        workspace: object = None,
        experiment_name: str = "",
        pipeline_parameters: Mapping[str, Scalar | Path] | None = None,
        *,
        regenerate_outputs: bool = False,
    ) -> Run:
        """Run this version and return its run."""
        return client_of(workspace or self._workspace).submit(
            self.reference,
            parameters=pipeline_parameters,
            experiment=experiment_name,
            reuse="refresh" if regenerate_outputs else "use",
        )


def continues_as(view: PipelineView, wanted: bool) -> None:
    """Refuse a `continue_on_step_failure` that a registered version does not have: versions never change.

    Raises:
        Invalid: E_UNSUPPORTED.
    """
    spec = view.definition
    if spec is None or spec.settings.continue_on_step_failure != wanted:
        raise Invalid(
            f"continue_on_step_failure={wanted} is not what the pipeline was published with",
            code="E_UNSUPPORTED",
            where=f"{view.name}@{view.version}",
            hint=f"pipeline.publish(name, continue_on_step_failure={wanted}) makes a version that has it",
        )


def _leaves(steps: object) -> list[PipelineStep]:
    if isinstance(steps, PipelineStep):
        return [steps]
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise TypeError(f"steps must be PipelineStep objects, not {type(steps).__name__}")
    return [leaf for item in steps for leaf in _leaves(item)]


def _closure(steps: Iterable[PipelineStep]) -> list[PipelineStep]:
    """Return the steps and all that their data and `run_after` lead back to, each once."""
    found: dict[int, PipelineStep] = {}
    waiting = deque(steps)
    while waiting:
        step = waiting.popleft()
        if id(step) in found:
            continue
        found[id(step)] = step
        waiting += step.after
        waiting += [
            value.output.producer
            for value in step.inputs.values()
            if isinstance(value, OutputInput) and value.output.producer is not None
        ]
    return list(found.values())


def _script_name() -> str:
    """Return the name of the program that builds the pipeline, so that its runs are compared."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return name_from(Path(file).stem) if file else "pipeline"
