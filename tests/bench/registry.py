"""What can be measured: one table of workloads, each with its rows, its floor and its bound.

To add a workload, write a function in a module of `workloads/` that returns samples:

    @workload("chain-50", "s", floor="a shell loop of python noop.py", bound=at_most(1.0))
    def chain_50(bench: Bench) -> Samples:
        return bench.paired(lambda: chain(bench, 50), lambda: bench.shell("chain.sh", 50))

Nothing here measures, and nothing here asserts how quick anything is.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from tests.bench.bench import Bench

WORKLOADS = "tests.bench.workloads"


class Missing(Exception):
    """Something this workload needs is not on this machine; it is left out by name."""


@dataclass(frozen=True)
class Bound:
    """What the issue asks of a figure."""

    sign: Literal["≤", "≥"]
    limit: float
    of: Literal["ratio", "ours"] = "ratio"

    def holds(self, ours: float, floor: float) -> bool:
        """Say whether a figure keeps the bound."""
        value = ours if self.of == "ours" else ours / floor
        return value <= self.limit if self.sign == "≤" else value >= self.limit


def at_most(limit: float, of: Literal["ratio", "ours"] = "ratio") -> Bound:
    """Return a bound from above."""
    return Bound("≤", limit, of)


def at_least(limit: float, of: Literal["ratio", "ours"] = "ratio") -> Bound:
    """Return a bound from below."""
    return Bound("≥", limit, of)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    unit: str
    floor: str
    """What the floor is, in a few words."""
    bound: Bound | None = None


@dataclass(frozen=True)
class Samples:
    """What was measured for one row: every repetition, ours and the floor's."""

    ours: list[float]
    floor: list[float]
    more: Mapping[str, object] = field(default_factory=dict)
    """Whatever else is worth keeping beside the figures."""


Measured = Samples | Mapping[str, Samples]
"""Of one row, or by the name of the row."""


@dataclass(frozen=True)
class Workload:
    """Something to measure: `run` returns the samples of all `rows`."""

    name: str
    rows: tuple[Row, ...]
    run: "Callable[[Bench], Measured]"
    heavy: bool = False
    """Left out of a whole run, to be asked for by name."""


Function = TypeVar("Function", bound=Callable[..., Measured])
_known: dict[str, Workload] = {}


def workload(
    name: str,
    unit: str = "",
    *rows: Row,
    floor: str = "",
    bound: Bound | None = None,
    heavy: bool = False,
) -> Callable[[Function], Function]:
    """Enter a function into the table; with `rows` it measures several things at once."""
    rows = rows or (Row(name, unit, floor, bound),)

    def enter(function: Function) -> Function:
        names = [other for known in _known.values() for other in names_of(known)]
        for new in names_of(Workload(name, rows, function)):
            assert new not in names, f"two workloads are called {new}"
        _known[name] = Workload(name, rows, function, heavy)
        return function

    return enter


def names_of(one: Workload) -> list[str]:
    """Return every name that means this workload: its own and its rows'."""
    return list(dict.fromkeys([one.name, *(row.name for row in one.rows)]))


def workloads() -> dict[str, Workload]:
    """Return all workloads by name, in the order of the modules and of their lines."""
    package = importlib.import_module(WORKLOADS)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{WORKLOADS}.{module.name}")
    return dict(_known)


def chosen(names: Iterable[str]) -> list[Workload]:
    """Return the workloads that are named, each once; all that are not heavy when none is.

    Raises:
        KeyError: a name that is none.
    """
    known = workloads()
    by_name = {name: one for one in known.values() for name in names_of(one)}
    wanted = [by_name[name] for name in names]
    return list({one.name: one for one in wanted}.values()) or [
        one for one in known.values() if not one.heavy
    ]
