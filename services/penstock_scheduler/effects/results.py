"""What a step gets from the steps before it: its work item, its inputs' contents, the run's outputs."""

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.plans import PlannedStep
from penstock.contracts.work import WorkInput, WorkItem
from penstock_scheduler.state import Run


def work_item(run: Run, step: int) -> WorkItem:
    """Return everything an executor needs for the current attempt of a step."""
    plan, head = run.plan(step), run.head
    digests = digests_of(run, plan)
    return WorkItem(
        run=head.run,
        step=plan.name,
        attempt=run.steps[step].attempt,
        pipeline=head.pipeline,
        experiment=head.experiment,
        target=plan.compute,
        kind=plan.kind,
        source=plan.source,
        destination=plan.destination,
        asset=plan.asset,
        command=plan.command,
        code=plan.code,
        inputs={
            name: WorkInput(type=bound.type, value=bound.value)
            if not bound.step and not bound.artifact
            else WorkInput(type=bound.type, artifact=digests[name])
            for name, bound in plan.inputs.items()
        },
        outputs=plan.outputs,
        environment=plan.environment,
        environment_variables=plan.environment_variables,
        timeout_s=plan.timeout_s,
        resources=plan.resources,
        # Its own literal inputs only: what the fingerprint does not know, a step must not see.
        parameters={
            name: bound.value
            for name, bound in plan.inputs.items()
            if bound.value is not None and not bound.step and not bound.artifact
        },
        tags=head.tags,
        traceparent=head.traceparent,
    )


def digests_of(run: Run, plan: PlannedStep) -> dict[str, str]:
    """Return the content digests of a step's data inputs; one that its maker lacks is left out."""
    digests: dict[str, str] = {}
    for name, bound in plan.inputs.items():
        if bound.step:
            outputs = run.steps[run.index[bound.step]].outputs or {}
            if bound.output in outputs:
                digests[name] = outputs[bound.output].digest
        elif bound.artifact:
            digests[name] = bound.artifact
    return digests


def latest_key(run: Run, step: int) -> str:
    """Return the key of a step in the bucket `latest`."""
    return f"{run.head.pipeline}.{run.names[step]}"


def outputs_of(run: Run) -> dict[str, TreeRef]:
    """Return the run's own outputs, as far as the steps that make them have ended well."""
    outputs: dict[str, TreeRef] = {}
    for name, (step, output) in run.head.outputs.items():
        number = run.index.get(step)
        made = run.steps[number].outputs if number is not None else None
        if made is not None and output in made:
            outputs[name] = made[output]
    return outputs
