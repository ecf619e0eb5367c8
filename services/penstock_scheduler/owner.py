"""A replica's candidacy for one partition: elected by the pin on its inbox, for as long as it lasts."""

from penstock.bus import Consumption, Delivery
from penstock.bus.topology import due_consumer, inbox_consumer
from penstock.errors import Corrupt
from penstock_scheduler.partition import Term
from penstock_scheduler.runlog import taken_over
from penstock_scheduler.tools import Tools


class Owner:
    """A replica's candidacy for one partition."""

    def __init__(self, tools: Tools, number: int) -> None:
        self.tools = tools
        self.number = number
        self.term: Term | None = None
        self._consumption: Consumption | None = None

    async def start(self) -> None:
        """Stand for election, for ever."""
        spec = inbox_consumer(self.tools.names, self.number)
        await self.tools.bus.ensure_consumer(spec)
        await self.tools.bus.ensure_consumer(due_consumer(self.tools.names, self.number))
        self._consumption = await self.tools.bus.consume(spec, self._take, on_elected=self._elected)

    async def stop(self, drain_s: float) -> None:
        """Take in nothing more, tell what was decided, and let the next one take over."""
        if self._consumption is not None:
            await self._consumption.close()
        if self.term is not None:
            await self.term.drain(drain_s)
            await self.term.end()
            self.term = None

    @property
    def owns(self) -> bool:
        """Whether this replica writes this partition's log now."""
        return self.term is not None and not self.term.over

    def redispatch(self) -> None:
        """After a reconnect: offer again what the server may have lost."""
        if self.term is not None and self.owns:
            self.term.redispatch()

    async def _take(self, delivery: Delivery) -> None:
        if not self.owns:
            # We are still the one who gets the messages: whoever took over has lost the pin again.
            await self._elected()
        assert self.term is not None  # noqa: S101 - _elected made one, or raised
        await self.term.take(delivery)

    async def _elected(self) -> None:
        if self.term is not None:
            if not self.term.over and await self._owned(self.term.fence):
                return  # the pin went astray and came back; nobody wrote meanwhile
            await self.term.end()
            self.term = None
        term = Term(self.tools, self.number, await taken_over(self.tools, self.number))
        self.tools.crash("scheduler.after-takeover")
        try:
            await term.begin()
        except BaseException as error:
            await term.end()
            if isinstance(error, Corrupt):
                # A newer version wrote the log. Leaving is the only way to let it have the pin.
                self.tools.fail(error)
            raise
        self.term = term

    async def _owned(self, fence: int) -> bool:
        names = self.tools.names
        own = await self.tools.bus.last(names.stream("runs"), names.own(self.number))
        return own is not None and own.sequence == fence
