"""What would become of each step: reused, run, or not to be known before something else has run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Outlook:
    """Forecasts so far, and the outputs of the steps that would be reused."""

    steps: Mapping[str, PlannedStep]
    reuse: Reuse
    forecasts: dict[str, StepForecast] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    readers: dict[str, list[str]] = field(default_factory=dict)
    """Step → the steps that read what it makes."""


def outlook_of(steps: Sequence[PlannedStep], reuse: Reuse) -> Outlook:
    """Return the outlook of a plan before anything was looked up."""
    outlook = Outlook({step.name: step for step in steps}, reuse)
    for step in steps:
        for maker in {bound.step for bound in step.inputs.values() if bound.step}:
            outlook.readers.setdefault(maker, []).append(step.name)
    return outlook


def asked(names: Iterable[str], outlook: Outlook) -> list[Asked]:
    """Return what to look up for those of the named steps whose inputs are all known."""
    questions: list[Asked] = []
    for name in names:
        step = outlook.steps[name]
        inputs = known_inputs(step, outlook.outputs)
        if inputs is not None:
            parts = parts_of(step, inputs)
            questions.append(Asked(step.name, fingerprint(parts), parts))
    return questions


def foresee(outlook: Outlook, answers: Sequence[tuple[Asked, Found]]) -> list[str]:
    """Take answers into the outlook and return the steps that may be known now."""
    nearer: dict[str, None] = {}
    for question, found in answers:
        step = outlook.steps[question.step]
        forecast = outlook.forecasts[step.name] = _forecast(step, outlook.reuse, question, found)
        if forecast.decision == "reuse" and found.entry is not None:
            outlook.outputs[step.name] = {
                name: tree.digest for name, tree in found.entry.outputs.items()
            }
            nearer |= dict.fromkeys(outlook.readers.get(step.name, ()))
    return list(nearer)


def completed(outlook: Outlook) -> tuple[StepForecast, ...]:
    """Return a forecast for every step, in order; the rest depends on steps that would run."""
    result: list[StepForecast] = []
    for step in outlook.steps.values():
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
        return step.kind if step.kind != "command" else "nondeterministic"
    if reuse != "use":
        return reuse
    return "gone" if found.gone else ""


def _is_reused(name: str, outlook: Outlook) -> bool:
    forecast = outlook.forecasts.get(name)
    return forecast is not None and forecast.decision == "reuse"
