"""What would become of each step: reused, run, or not to be known before something else has run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.contracts.fingerprints import (
    Obstacle,
    compared,
    fingerprint,
    known_inputs,
    parts_of,
    reason_of,
)
from penstock.contracts.plans import PlannedStep
from penstock.contracts.queries import LatestEntry, ReuseEntry, StepForecast
from penstock.contracts.requests import Reuse

NAMED_MAX = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """A step whose inputs are known: what to look up in the buckets `reuse` and `latest`."""

    step: str
    fingerprint: str
    parts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What the look-up gave. `gone`: there is an entry, but its outputs are not stored any more."""

    entry: ReuseEntry | None = None
    latest: LatestEntry | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """Forecasts so far, and the outputs of the steps that would be reused."""

    forecasts: Mapping[str, StepForecast]
    outputs: Mapping[str, Mapping[str, str]]


EMPTY = Outlook({}, {})


def asked(steps: Sequence[PlannedStep], outlook: Outlook) -> list[Asked]:
    """Return the steps to look up next: not forecast yet, and every input known."""
    questions: list[Asked] = []
    for step in steps:
        if step.name in outlook.forecasts:
            continue
        inputs = known_inputs(step, outlook.outputs)
        if inputs is not None:
            parts = parts_of(step, inputs)
            questions.append(Asked(step.name, fingerprint(parts), parts))
    return questions


def foreseen(
    steps: Mapping[str, PlannedStep],
    reuse: Reuse,
    outlook: Outlook,
    answers: Sequence[tuple[Asked, Found]],
) -> Outlook:
    """Return the outlook with the answers taken in."""
    forecasts = dict(outlook.forecasts)
    outputs = dict(outlook.outputs)
    for question, found in answers:
        step = steps[question.step]
        forecasts[step.name] = _forecast(step, reuse, question, found)
        if forecasts[step.name].decision == "reuse" and found.entry is not None:
            outputs[step.name] = {name: tree.digest for name, tree in found.entry.outputs.items()}
    return Outlook(forecasts, outputs)


def completed(steps: Sequence[PlannedStep], outlook: Outlook) -> tuple[StepForecast, ...]:
    """Return a forecast for every step, in order; the rest depends on steps that would run."""
    result: list[StepForecast] = []
    for step in steps:
        forecast = outlook.forecasts.get(step.name)
        if forecast is None:
            makers = sorted({bound.step for bound in step.inputs.values() if bound.step})
            open_needs = [name for name in makers if not _is_reused(name, outlook)]
            named = ", ".join(open_needs[:NAMED_MAX])
            more = f" and {len(open_needs) - NAMED_MAX} more" if len(open_needs) > NAMED_MAX else ""
            forecast = StepForecast(
                step=step.name,
                decision="unknown",
                reason=f"depends on what {named}{more} will make",
                needs=step.needs,
            )
        result.append(forecast)
    return tuple(result)


def _forecast(step: PlannedStep, reuse: Reuse, question: Asked, found: Found) -> StepForecast:
    entry = found.entry
    obstacle = _obstacle(step, reuse, found)
    if not obstacle and entry is not None and not entry.ended_at:
        return StepForecast(
            step=step.name,
            decision="unknown",
            reason=f"an equal step is running in run {entry.run}",
            needs=step.needs,
        )
    latest = found.latest
    reused = not obstacle and entry is not None
    return StepForecast(
        step=step.name,
        decision="reuse" if reused else "run",
        reason=reason_of(
            compared(question.parts, latest.parts if latest else None),
            compared_with=latest.run if latest else "",
            reused_from=entry.run if reused and entry else "",
            obstacle=obstacle,
        ),
        needs=step.needs,
    )


def _obstacle(step: PlannedStep, reuse: Reuse, found: Found) -> Obstacle:
    if not step.deterministic:
        return "nondeterministic"
    if reuse != "use":
        return reuse
    return "gone" if found.gone else ""


def _is_reused(name: str, outlook: Outlook) -> bool:
    forecast = outlook.forecasts.get(name)
    return forecast is not None and forecast.decision == "reuse"
