"""Users: each submits, asks again when no answer comes, and may cancel or run it again.

Without a key nobody asks twice: two such requests are two runs.
"""

from dataclasses import dataclass

from tests.simulation.world.clockwork import Box, Process, Wait, Work, call
from tests.simulation.world.planner import subject_and_data
from tests.simulation.world.wishes import Submission, request_bytes

from penstock.contracts.requests import CancelRequest, RerunRequest, RunAnswer

ANSWER_S = 5.0
ASKED_MAX = 12


@dataclass(eq=False)
class Client(Process):
    """One user at one terminal. Its machine does not fail: what it saw is what it may rely on."""

    wish: Submission | None = None
    busy: bool = True

    def boot(self) -> None:
        """Begin."""
        self.spawn(self._life(), "client")

    def _life(self) -> Work[None]:
        wish, world = self.wish, self.world
        assert wish is not None
        yield world.now + world.chance.choice([0.0, 0.0, 1.0, 40.0])
        data = request_bytes(wish)
        answer = yield from requested(self, "run", data, repeat=bool(wish.key))
        world.audit.answered(wish, answer)
        if wish.again and wish.key:
            second = yield from requested(self, "run", data, repeat=True)
            world.audit.answered_again(wish, answer, second)
        if answer is not None and answer.run:
            yield from self._after(wish, answer.run)
        self.busy = False

    def _after(self, wish: Submission, run: str) -> Work[None]:
        world = self.world
        if wish.cancel_after >= 0:
            for _ in range(wish.cancel_after):
                yield None
            world.audit.cancelled.add(run)
            request = CancelRequest(run=run, reason="enough", who="me")
            yield from requested(self, "cancel", request, repeat=True)
        if wish.rerun:
            yield Wait(lambda: world.has_ended(run))
            key = f"rerun.{run}.{wish.rerun}"
            again = RerunRequest(run=run, from_=wish.rerun, idempotency_key=key)
            answer = yield from requested(self, "rerun", again, repeat=True)
            world.audit.reran(run, answer)


def requested(
    process: Process, kind: str, request: object, *, repeat: bool, wait_s: float = ANSWER_S
) -> Work[RunAnswer | None]:
    """Return the answer to a request; None when none came. `repeat`: ask again while none comes."""
    world = process.world
    subject, data = subject_and_data(kind, request)
    for _ in range(ASKED_MAX if repeat else 1):
        box = Box()
        yield from call(process, world.ask, subject, data, box)
        yield Wait(box.is_full, world.now + wait_s)
        answer = box.answer
        if isinstance(answer, RunAnswer) and not _passing(answer):
            return answer
        world.landed["asked again"] += 1
    return None


def _passing(answer: RunAnswer) -> bool:
    return answer.error is not None and answer.error.code in ("E_INTERNAL", "E_BUS", "E_STORE")


__all__ = ["Box", "Client", "requested"]
