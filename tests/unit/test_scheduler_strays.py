"""Which attempts nobody owes to an executor any more, by what the server says."""

import pytest

from penstock.bus import Standing, Stored
from penstock.contracts.work import WorkItem
from penstock_scheduler.strays import unreachable

IDLE = Standing()


def item(step: str, target: str = "default") -> WorkItem:
    return WorkItem(
        run="6q9c8w0k3f7m2ax", pipeline="p", step=step, attempt=1, target=target, command="true"
    )


def stored(sequence: int) -> Stored:
    return Stored(subject="w.work.default.r.s.1", data=b"", sequence=sequence, at=0)


def found(message: Stored | None, work: Standing, inbox: Standing) -> bool:
    return bool(unreachable([item("a")], [message], lambda target: work, inbox))


@pytest.mark.parametrize(
    ("message", "work", "inbox", "lost"),
    [
        (stored(7), Standing(floor=6, pending=1), IDLE, False),  # it waits for an executor
        (stored(7), Standing(floor=6, on_loan=1), IDLE, False),  # an executor has it
        (stored(7), Standing(floor=7), IDLE, True),  # the server believes that it is settled
        (stored(7), Standing(floor=9, on_loan=3), Standing(pending=5), True),
        (None, Standing(floor=9), IDLE, True),  # settled, and no report is on its way
        (None, Standing(floor=9), Standing(pending=1), False),  # that may be its report
        (None, Standing(floor=9), Standing(on_loan=1), False),  # we have not dealt with it yet
        (stored(7), Standing(), IDLE, False),  # nobody has ever served this target
    ],
)
def test_an_attempt_is_lost_when_nobody_owes_it_to_an_executor(
    message: Stored | None, work: Standing, inbox: Standing, lost: bool
) -> None:
    assert found(message, work, inbox) is lost


def test_each_target_is_judged_by_its_own_consumer() -> None:
    floors = {"cpu": Standing(floor=9), "gpu": Standing(floor=3)}
    items = [item("a", "cpu"), item("b", "gpu"), item("c", "cpu")]
    lost = unreachable(items, [stored(5), stored(6), stored(12)], floors.__getitem__, IDLE)
    assert [step for _, step, _ in lost] == ["a"]
