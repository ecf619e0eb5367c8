"""Where steps go: targets that nobody made, and executors in which a step fits or does not."""

import pytest

from penstock.contracts.computes import Compute
from penstock.contracts.plans import PlanHead, PlannedStep
from penstock.contracts.resources import Offer, Resources
from penstock.errors import Invalid
from penstock.units import GIB
from penstock_executor.decide.room import Room
from penstock_planner.decide.computes import checked_compute, placed
from penstock_planner.decide.plan import Plan


def plan(**steps: str) -> Plan:
    made = (PlannedStep(name=name, command="x", compute=to) for name, to in steps.items())
    return Plan(PlanHead(run="r", pipeline="p"), tuple(made))


def test_a_step_of_a_target_that_nobody_made_goes_to_the_default_one_with_a_note() -> None:
    found = placed(plan(a="cpu-cluster", b="gpu", c="default", d="cpu-cluster"), {"gpu"}, "default")
    assert [step.compute for step in found.steps] == ["default", "gpu", "default", "default"]
    (note,) = found.notes
    assert "'cpu-cluster', so 2 of its steps go to 'default'" in note
    assert "penstock compute create cpu-cluster" in note


class Counted(str):
    """A target that counts how often targets are compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)


def test_many_targets_that_nobody_made_are_not_looked_through_for_each_step() -> None:
    steps = {f"s{n}": Counted(f"cluster-{n:03}") for n in range(400)}
    made = plan(**steps)
    Counted.compared = 0
    found = placed(made, set(), "default")
    assert {step.compute for step in found.steps} == {"default"}
    assert Counted.compared < 20 * len(steps)


def test_a_workspace_may_refuse_unknown_targets_or_let_their_steps_wait() -> None:
    with pytest.raises(Invalid) as refused:
        placed(plan(a="cpu-clusted"), {"cpu-cluster"}, "refuse")
    assert (refused.value.code, refused.value.where) == ("E_REF", "steps.a.compute")
    assert "cpu-cluster" in refused.value.hint
    waiting = plan(a="cpu-cluster")
    assert placed(waiting, set(), "wait") == waiting


@pytest.mark.parametrize(
    "compute", [Compute(memory="lots"), Compute(labels=("a b",)), Compute(slots=-1)]
)
def test_a_target_that_cannot_be_is_refused(compute: Compute) -> None:
    with pytest.raises(Invalid) as refused:
        checked_compute(compute)
    assert refused.value.code == "E_RANGE"


def test_a_step_begins_only_where_what_it_asks_for_is_free() -> None:
    room = Room(Offer(cores=4, memory_bytes=8 * GIB, gpus=2, labels=("ssd",)), ("0", "1"))
    large = Resources(cores=3, memory="6g", gpus=1)
    assert room.never(Resources(cores=5, labels=("hdd",))) == "5 cores (4 offered), label hdd"
    assert room.take("a", large) == ("0",)
    assert room.lacking(large) == "3 cores (1 free), 6 GiB of memory (2 GiB free)"
    assert room.never(large) == ""
    assert room.lacking(Resources(gpus=1)) == ""
    assert room.take("b", Resources(gpus=1)) == ("1",)
    assert room.lacking(Resources(gpus=1)) == "1 GPUs (0 free)"
    room.leave("a")
    room.leave("a")
    assert room.take("c", large) == ("0",)
