"""What differs between two runs, in the order in which one thing can have caused the next. Pure."""

from collections.abc import Mapping

from penstock.contracts.queries import RunView, StepView
from penstock.sdk.wording import number

DIGEST_SHOWN = 12


def differences(one: RunView, two: RunView) -> list[dict[str, str]]:
    """Return rows of what, first, second: only what differs."""
    rows: list[dict[str, str]] = []
    _compare(rows, "", _head(one), _head(two))
    _compare(rows, "parameter ", one.parameters, two.parameters)
    _compare(rows, "tag ", one.tags, two.tags)
    second = {step.step: step for step in two.steps}
    first = {step.step: step for step in one.steps}
    for name in [*first, *(name for name in second if name not in first)]:
        before, after = first.get(name), second.get(name)
        if before is None or after is None:
            _compare(
                rows,
                "",
                {f"step {name}": before.state if before else None},
                {f"step {name}": after.state if after else None},
            )
            continue
        _compare(rows, f"{name}: ", _step(before), _step(after))
    _compare(rows, "metric ", one.metrics, two.metrics)
    _compare(
        rows,
        "output ",
        {name: tree.digest[:DIGEST_SHOWN] for name, tree in one.outputs.items()},
        {name: tree.digest[:DIGEST_SHOWN] for name, tree in two.outputs.items()},
    )
    return rows


def _head(view: RunView) -> dict[str, object]:
    return {
        "pipeline": view.pipeline,
        "version": view.version,
        "spec": view.spec[:DIGEST_SHOWN],
        "commit": view.git.commit[:DIGEST_SHOWN],
        "uncommitted changes": view.git.dirty,
        "state": view.state,
    }


def _step(step: StepView) -> dict[str, object]:
    result: dict[str, object] = {part.part: part.new for part in step.parts}
    # Whether it ran or was reused is one state for whoever asks what differs in the result.
    result["state"] = "succeeded" if step.state == "reused" else step.state
    for name, tree in step.outputs.items():
        result[f"result {name}"] = tree.digest[:DIGEST_SHOWN]
    return result


def _compare(
    rows: list[dict[str, str]],
    prefix: str,
    one: Mapping[str, object],
    two: Mapping[str, object],
) -> None:
    for name in [*one, *(name for name in two if name not in one)]:
        before, after = one.get(name), two.get(name)
        if before != after:
            rows.append(
                {
                    "what": f"{prefix}{name}",
                    "first": "" if before is None else number(before),
                    "second": "" if after is None else number(after),
                }
            )
