"""`azure.ai.ml.sweep`: search spaces, and steps that run another one for choices of its inputs."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.azure.ai.ml.nodes import Node, Tree
from penstock.azure.ai.ml.values import Settings, settled
from penstock.errors import Invalid

_OF_TRIAL = (
    "command", "code", "environment", "environment_variables", "distribution", "resources",
    "is_deterministic",
)  # fmt: skip
"""Settings of a command that its trials have; of a component, what the script sets goes before them."""
_OF_STEP = ("compute", "display_name", "description", "comment", "tags", "properties", "identity")


class Space(Settings):
    """Values that an input may have."""


class Choice(Space):
    """One of these."""

    def __init__(self, values: Sequence[Any] | None = None) -> None:
        super().__init__(type="choice", values=list(values or ()))


class Randint(Space):
    """A whole number from 0, below `upper`."""

    def __init__(self, upper: int | None = None) -> None:
        super().__init__(type="randint", upper=upper)


class Uniform(Space):
    """A number between two."""

    kind = "uniform"

    def __init__(self, min_value: float | None = None, max_value: float | None = None) -> None:
        super().__init__(type=self.kind, min_value=min_value, max_value=max_value)


class LogUniform(Uniform):
    """A number whose logarithm lies between two."""

    kind = "loguniform"


class QUniform(Space):
    """A multiple of `q` between two numbers."""

    kind = "quniform"

    def __init__(
        self,
        min_value: float | None = None,
        max_value: float | None = None,
        q: float | None = None,
    ) -> None:
        super().__init__(type=self.kind, min_value=min_value, max_value=max_value, q=q)


class QLogUniform(QUniform):
    """A multiple of `q` whose logarithm lies between two numbers."""

    kind = "qloguniform"


class Normal(Space):
    """A number around `mu`."""

    kind = "normal"

    def __init__(self, mu: float | None = None, sigma: float | None = None) -> None:
        super().__init__(type=self.kind, mu=mu, sigma=sigma)


class LogNormal(Normal):
    """A number whose logarithm lies around `mu`."""

    kind = "lognormal"


class QNormal(Space):
    """A multiple of `q` around `mu`."""

    kind = "qnormal"

    def __init__(
        self, mu: float | None = None, sigma: float | None = None, q: float | None = None
    ) -> None:
        super().__init__(type=self.kind, mu=mu, sigma=sigma, q=q)


class QLogNormal(QNormal):
    """A multiple of `q` whose logarithm lies around `mu`."""

    kind = "qlognormal"


class Objective(Settings):
    """What the best trial has most, or least, of."""

    def __init__(self, goal: str | None, primary_metric: str | None = None) -> None:
        super().__init__(goal=goal, primary_metric=primary_metric)


class SweepJobLimits(Settings):
    """How many trials there are, and how long they may run."""

    def __init__(
        self,
        *,
        max_concurrent_trials: int | None = None,
        max_total_trials: int | None = None,
        timeout: int | None = None,
        trial_timeout: int | str | None = None,
    ) -> None:
        super().__init__(
            max_concurrent_trials=max_concurrent_trials, max_total_trials=max_total_trials,
            timeout=timeout, trial_timeout=trial_timeout,
        )  # fmt: skip


class RandomSamplingAlgorithm(Settings):
    """Points are drawn."""

    def __init__(
        self, *, rule: str | None = None, seed: int | None = None, logbase: Any = None
    ) -> None:
        super().__init__(type="random", rule=rule, seed=seed, logbase=logbase)


class GridSamplingAlgorithm(Settings):
    """All points, one after the other."""

    def __init__(self) -> None:
        super().__init__(type="grid")


class BayesianSamplingAlgorithm(Settings):
    """Points are drawn, as a note says: nothing is learnt from the points before."""

    def __init__(self) -> None:
        super().__init__(type="bayesian")


class BanditPolicy(Settings):
    """An early end that Azure ML would make; here every trial runs to its end, as a note says."""

    kind = "bandit"

    def __init__(self, **settings: Any) -> None:
        super().__init__(type=self.kind, **settings)


class MedianStoppingPolicy(BanditPolicy):
    """As `BanditPolicy`."""

    kind = "median_stopping"


class TruncationSelectionPolicy(BanditPolicy):
    """As `BanditPolicy`."""

    kind = "truncation_selection"


class Sweep(Node):
    """A step that runs its trial for choices of the trial's inputs."""

    settable: tuple[str, ...] = (
        *Node.settable, "objective", "search_space", "sampling_algorithm", "early_termination",
    )  # fmt: skip

    @property
    def component(self) -> Any:
        """Refused: a component of type sweep is none in Azure ML either.

        Raises:
            Invalid: E_UNSUPPORTED.
        """
        raise Invalid(
            "a sweep is no component", code="E_UNSUPPORTED", where=self.name,
            hint="register its trial, and call sweep where it is used",
        )  # fmt: skip

    def set_limits(self, **limits: Any) -> None:
        """Say how many trials there are, and how long they may run; what is said before stays."""
        self.limits = {**settled(self.limits), **settled(limits)}

    def set_objective(self, *, goal: str | None = None, primary_metric: str | None = None) -> None:
        """Say what the best trial has most, or least, of."""
        said = {"goal": goal, "primary_metric": primary_metric}
        given = {key: value for key, value in said.items() if value is not None}
        self.objective: Any = {**settled(self.objective or {}), **given}


def swept(
    node: Node,
    *,
    primary_metric: str | None = None,
    goal: str | None = None,
    sampling_algorithm: Any = "random",
    compute: Any = None,
    max_concurrent_trials: int | None = None,
    max_total_trials: int | None = None,
    timeout: int | None = None,
    trial_timeout: int | None = None,
    early_termination_policy: Any = None,
    search_space: Mapping[str, Any] | None = None,
    **unused: Any,
) -> Sweep:
    """Return the step that runs `node` for choices of those of its inputs that were given a `Space`.

    It is the `type: sweep` that YAML would have: read, and refused, as that is.

    Raises:
        Invalid: E_UNSUPPORTED, a pipeline, or a sweep, as the trial.
    """
    if isinstance(node, Sweep) or node._body.get("type", "command") != "command":
        raise Invalid(
            "only a command can be swept", code="E_UNSUPPORTED", where=node.name,
            hint="sweep the step inside that trains",
        )  # fmt: skip
    inputs = {name: v for name, v in node.inputs.items() if not isinstance(v, Space)}
    space = {name: v for name, v in node.inputs.items() if isinstance(v, Space)}
    space |= search_space or {}
    said = {key: value for key, value in vars(node).items() if key in node.settable}
    said = {key: value for key, value in said.items() if value not in (None, {})}
    whole = {**node._body, **said}
    trial = node._body.get("component")
    own = {key: whole.get(key) for key in _OF_STEP}
    if trial is None:
        trial = {key: settled(whole.get(key)) for key in _OF_TRIAL}
        trial = {key: value for key, value in trial.items() if value not in (None, {})}
        trial["inputs"] = {
            name: declared
            for name, declared in node._declared_inputs.items()
            if declared and name not in {*inputs, *space}
        }
    else:
        own |= {key: said.get(key) for key in _OF_TRIAL}
    if compute is not None:
        own["compute"] = compute
    body: Tree = {
        "type": "sweep",
        "trial": trial,
        "search_space": {name: settled(values) for name, values in space.items()},
        "sampling_algorithm": settled(sampling_algorithm),
        "objective": {"goal": goal, "primary_metric": primary_metric},
        "early_termination": settled(early_termination_policy),
        "limits": settled(
            SweepJobLimits(
                max_concurrent_trials=max_concurrent_trials, max_total_trials=max_total_trials,
                timeout=timeout, trial_timeout=trial_timeout,
            )
        ),
        **own,
    }  # fmt: skip
    made = Sweep(
        {key: value for key, value in body.items() if value is not None},
        name=node.name,
        inputs={name: value for name, value in inputs.items() if name not in space},
        declared_inputs={n: d for n, d in node._declared_inputs.items() if n not in space},
        declared_outputs={n: port._declared for n, port in node.outputs.items()},
        declaring=node._declaring,
    )
    if node.named:
        made.name = node.name
    for name, port in node.outputs.items():
        made.outputs[name]._set.update(port._set)
    made._after.extend(node._after)
    made.experiment_name = getattr(node, "experiment_name", None)
    node.leave()
    return made


__all__ = [
    "BanditPolicy",
    "BayesianSamplingAlgorithm",
    "Choice",
    "GridSamplingAlgorithm",
    "LogNormal",
    "LogUniform",
    "MedianStoppingPolicy",
    "Normal",
    "Objective",
    "QLogNormal",
    "QLogUniform",
    "QNormal",
    "QUniform",
    "Randint",
    "RandomSamplingAlgorithm",
    "SweepJobLimits",
    "TruncationSelectionPolicy",
    "Uniform",
]
