"""A component and a step that uses it, merged: the same for files and for what is registered."""

from penstock.contracts.components import depth_of, filled, filled_input, filled_output
from penstock.contracts.spec import Input, Limits, Output, PipelineSpec, StepSpec

COMPONENT = StepSpec(
    command="train --epochs ${{inputs.epochs}} --data ${{inputs.data}}",
    code="artifact:1",
    inputs={
        "epochs": Input(type="integer", default=3, min=1),
        "data": Input(type="uri_folder", mode="download"),
    },
    outputs={"model": Output(type="uri_file")},
    environment_variables={"A": "component", "B": "component"},
    compute="cpu",
    limits=Limits(timeout=60, retries=2),
)


def test_a_step_goes_before_its_component_and_what_it_leaves_out_is_the_components() -> None:
    step = StepSpec(
        component="azureml:train:1",
        inputs={"epochs": "${{parent.inputs.n}}", "data": "${{parent.jobs.prep.outputs.o}}"},
        outputs={"model": "${{parent.outputs.best}}"},
        environment_variables={"B": "step"},
        limits=Limits(timeout=5),
        needs=("prep",),
        is_deterministic=False,
    )
    assert filled(COMPONENT, step) == StepSpec(
        command=COMPONENT.command,
        code="artifact:1",
        inputs={
            "epochs": Input(type="integer", default=3, min=1, value="${{parent.inputs.n}}"),
            "data": Input(
                type="uri_folder", mode="download", path="${{parent.jobs.prep.outputs.o}}"
            ),
        },
        outputs={"model": Output(type="uri_file", path="${{parent.outputs.best}}")},
        environment_variables={"A": "component", "B": "step"},
        compute="cpu",
        limits=Limits(timeout=5, retries=2),
        needs=("prep",),
        is_deterministic=False,
    )


def test_what_the_step_does_not_give_stays_as_declared_and_null_counts_as_not_given() -> None:
    assert filled(COMPONENT, StepSpec(inputs={"epochs": None})) == COMPONENT


def test_an_undeclared_input_is_let_through() -> None:
    assert filled(COMPONENT, StepSpec(inputs={"more": 3})).inputs["more"] == 3


def test_the_object_form_of_a_binding_serves_literals_too() -> None:
    declared = Input(type="integer", default=3)
    given = Input(path="${{parent.inputs.n}}")
    assert filled_input(declared, given) == Input(
        type="integer", default=3, value="${{parent.inputs.n}}"
    )


def test_files_keep_their_own_type_whatever_is_declared() -> None:
    given = Input(type="uri_file", path="artifact:1")
    assert filled_input(Input(type="uri_folder", mode="ro_mount"), given) == Input(
        type="uri_file", path="artifact:1", mode="ro_mount"
    )


def test_an_output_keeps_what_only_one_of_the_two_says() -> None:
    declared = Output(type="uri_file", mode="upload", description="d")
    assert filled_output(declared, Output(path="p", mode="rw_mount")) == Output(
        type="uri_file", mode="rw_mount", path="p", description="d"
    )
    assert filled_output(declared, None) == declared
    assert filled_output(None, "${{parent.outputs.x}}") == "${{parent.outputs.x}}"


def test_the_depth_counts_pipelines_within_pipelines() -> None:
    inner = PipelineSpec(steps={"a": StepSpec(command="x")})
    outer = PipelineSpec(steps={"b": StepSpec(pipeline=inner), "c": StepSpec(command="y")})
    assert (depth_of(inner), depth_of(outer)) == (1, 2)
