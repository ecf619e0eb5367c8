"""A scheduler's process, as owner.py and shell.py have it.

The server pins one replica to each partition's inbox; that elects, and the compare-and-set on
own.<p> makes it safe. A replica that stands still loses the pin, wakes up and goes on: a zombie.
"""

from dataclasses import dataclass, field

from tests.simulation.world.clockwork import Process, Wait, Work, call
from tests.simulation.world.server import Pin
from tests.simulation.world.term import Term

from penstock.contracts.codec import encoded
from penstock.contracts.inbox import Wake
from penstock.errors import Conflict

PINNED_TTL_S = 2.0
WAKE_S = 5.0


@dataclass(eq=False)
class Scheduler(Process):
    """One replica: a candidate for every partition."""

    terms: dict[int, Term] = field(default_factory=dict)
    electing: set[int] = field(default_factory=set)

    def boot(self) -> None:
        """Stand for election."""
        self.terms, self.electing = {}, set()
        for number in range(self.world.shape.partitions):
            self.spawn(self._stand(number), f"candidate {number}")
        self.spawn(self._wake(), "wake")

    def owns(self, number: int) -> bool:
        """Say whether it writes this partition's log, as far as it knows."""
        term = self.terms.get(number)
        return term is not None and not term.over

    def is_pinned(self, number: int) -> bool:
        """Say whether the server gives this partition's messages to this process."""
        pin = self.world.server.pins[number]
        return pin.process is self and pin.life == self.life

    # -- election --------------------------------------------------------------------------------
    def _stand(self, number: int) -> Work[None]:
        server = self.world.server
        wanted = Wait(lambda: self._may_be_elected(number))
        while True:
            yield wanted
            if not self._may_be_elected(number):
                continue
            if not self.is_pinned(number):
                server.pins[number] = Pin(self, self.life)
            self.electing.add(number)
            yield from self._elected(number)
            self.electing.discard(number)

    def _may_be_elected(self, number: int) -> bool:
        server = self.world.server
        if number in self.electing or not self.is_reachable():
            return False
        if not server.inbox[number].has_free():
            return False
        if self.is_pinned(number):
            return not self.owns(number)
        pin = server.pins[number]
        if pin.process is None or pin.life != pin.process.life:
            return True
        return pin.process.is_silent(PINNED_TTL_S) or self.world.happens("pin_astray")

    def _elected(self, number: int) -> Work[None]:
        server, term = self.world.server, self.terms.get(number)
        if term is not None:
            if not term.over:
                own = yield from call(self, lambda: server.own.get(number, 0))
                if own == term.fence:
                    return  # the pin went astray and came back; nobody wrote meanwhile
            yield from term.end()
        while True:
            last = yield from call(self, lambda: server.own.get(number, 0))
            try:
                fence = yield from call(self, server.take_over, number, last)
                break
            except Conflict:
                continue
        self.world.landed["takeover"] += last > 0
        term = self.terms[number] = Term(self, number, fence)
        if self.world.trace is not None:
            self.world.say(self, f"owns partition {number}, fence {fence}")
        yield from term.begin()

    def _wake(self) -> Work[None]:
        """Wake partitions that have live runs and may have no owner."""
        server = self.world.server
        while True:
            yield Wait(self._asleep)
            yield self.world.now + WAKE_S
            for number in range(self.world.shape.partitions):
                live = yield from call(self, server.live.get, number, 0)
                if live and not self.owns(number):
                    period = int(self.wall() // WAKE_S)
                    word = Wake(partition=number)
                    name = f"wake.{number}.{period}"
                    yield from call(self, self._say, number, word, name)

    def _say(self, number: int, word: Wake, message_id: str) -> None:
        server = self.world.server
        if not server.is_copy(message_id):
            server.inbox[number].put(f"inbox.wake.{number}", encoded(word))

    def _asleep(self) -> bool:
        """Say whether a wake-up might matter: others change nothing and would only cost actions."""
        return any(
            live and not self.owns(number) and not self._somebody_else(number)
            for number, live in self.world.server.live.items()
        )

    def _somebody_else(self, number: int) -> bool:
        return any(
            other.owns(number) and not other.is_silent(PINNED_TTL_S) and other.is_pinned(number)
            for other in self.world.schedulers
        )
