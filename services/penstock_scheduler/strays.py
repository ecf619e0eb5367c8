"""Attempts that are out, and that no executor can get any more: found, and offered again.

A nats-server that is killed may forget what it had lent: it comes back with its consumer's floor above
a message that nobody has acknowledged, and never delivers it again. If the executor that had it is dead
as well, the run would wait until its deadline. Found by the storm (nats-server 2.15.1).

So for some time after every reconnect and takeover the owner of a partition compares. An attempt that
is out, and whose work message

    lies below the consumer's floor, or
    is not there, though nothing is on its way to us (an executor acknowledges only what is reported)

in two looks one after the other, is offered again, under a new name, since the old one is remembered as
sent. If its executor is alive after all, the step runs twice, and the first result counts.
"""

from collections.abc import Callable, Sequence

from penstock.bus import Standing, Stored
from penstock.bus.topology import inbox_consumer, work_consumer
from penstock.contracts.codec import encoded
from penstock.contracts.work import WorkItem
from penstock.errors import Conflict, Transient
from penstock_scheduler.effects import Dispatch, dispatches
from penstock_scheduler.state import Partition
from penstock_scheduler.tools import Tools

LOOK_S = 5.0
DOUBT_S = 600.0
"""A loan below an older one that still runs shows only when that one has ended."""

Key = tuple[str, str, int]


def unreachable(
    items: Sequence[WorkItem],
    stored: Sequence[Stored | None],
    work: Callable[[str], Standing],
    inbox: Standing,
) -> dict[Key, WorkItem]:
    """Return those attempts that nobody owes to an executor; `work`: of the target's consumer."""
    quiet = not inbox.pending and not inbox.on_loan
    return {
        (item.run, item.step, item.attempt): item
        for item, message in zip(items, stored, strict=True)
        if (quiet if message is None else message.sequence <= work(item.target).floor)
    }


class Strays:
    """What one owner suspects."""

    def __init__(self, tools: Tools, number: int, fence: int) -> None:
        self.tools = tools
        self.number = number
        self.fence = fence
        self.doubt_until = 0.0
        self._suspected: set[Key] = set()
        self._offered = 0

    def doubt(self) -> None:
        """Look from now on: the server, or our predecessor, may have lost something."""
        self.doubt_until = self.tools.clock.monotonic() + DOUBT_S

    @property
    def doubtful(self) -> bool:
        """Whether a look is worth its questions."""
        return self.tools.clock.monotonic() < self.doubt_until

    async def look(self, state: Partition) -> None:
        """Offer again what was unreachable at the last look and still is."""
        items = [e.item for e in dispatches(state) if isinstance(e, Dispatch)]
        try:
            found = await self._found(items) if items else {}
            for key in found.keys() & self._suspected:
                await self._offer(found.pop(key))
        except Transient as error:  # the next look asks again
            self.tools.log.debug("could not look for lost work", error=str(error))
            return
        self._suspected = set(found)

    async def _found(self, items: list[WorkItem]) -> dict[Key, WorkItem]:
        bus, names = self.tools.bus, self.tools.names
        stream = names.stream("work")
        subjects = [names.work(i.target, i.run, i.step, i.attempt) for i in items]
        stored = await bus.last_many(stream, subjects)
        standings = {
            target: await bus.standing(stream, work_consumer(names, target).name)
            for target in dict.fromkeys(item.target for item in items)
        }
        # The inbox last: what was acknowledged before has been reported before.
        inbox = inbox_consumer(names, self.number)
        arriving = await bus.standing(inbox.stream, inbox.name)
        return unreachable(items, stored, standings.__getitem__, arriving)

    async def _offer(self, item: WorkItem) -> None:
        bus, names = self.tools.bus, self.tools.names
        subject = names.work(item.target, item.run, item.step, item.attempt)
        self.tools.log.warning(
            "offered again: nobody could get it", run=item.run, step=item.step, attempt=item.attempt
        )
        await bus.purge(names.stream("work"), subject)
        self._offered += 1
        name = f"{item.run}.{item.step}.{item.attempt}.{self.fence}.{self._offered}"
        try:
            await bus.append(subject, encoded(item), message_id=name)
        except Conflict:  # somebody else has just offered it
            return
