"""An executor that runs nothing: it answers each attempt at once, by what its command says.

    true        succeeds; each declared output gets a digest made of the command and the inputs
    fail        fails with E_EXIT
    fail-once   fails at the first attempt and succeeds at the second
    hang        begins, and is cancelled by a stop order

For tests and benchmarks of the scheduler, on a real bus:
`python -m penstock.testing.null_executor --bus nats://… --workspace w [--target default]`.
"""

import argparse
import asyncio
import signal
import sys

from penstock.bus import Bus, Delivery, Received
from penstock.bus.nats import connect
from penstock.bus.topology import streams, work_consumer
from penstock.contracts.artifacts import TreeRef
from penstock.contracts.codec import decoded
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Failure,
    StopAttempt,
    WorkItem,
)
from penstock.ids import digest_of
from penstock.runtime.reports import Reporter


class NullExecutor:
    """Takes attempts of one target and reports them."""

    def __init__(
        self, bus: Bus, names: Subjects, *, target: str = "default", name: str = "null"
    ) -> None:
        self.bus = bus
        self.names = names
        self.target = target
        self.name = name
        self.done = 0
        self.begun: list[tuple[str, str, int]] = []
        """(run, step, attempt) of every attempt that was begun, in order."""
        self._hanging: dict[tuple[str, str, int], asyncio.Event] = {}
        self._reporter = Reporter(bus, names)
        self._attempts: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to take attempts."""
        await self.bus.ensure_stream(streams(self.names)["work"])
        await self.bus.subscribe(self.names.stop(), self._stop)
        await self.bus.consume(work_consumer(self.names, self.target), self._take)

    async def _take(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._attempt(delivery))
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)

    async def _attempt(self, delivery: Delivery) -> None:
        item = decoded(delivery.message.data, WorkItem)
        what = (item.run, item.step, item.attempt)
        self.begun.append(what)
        started = AttemptStarted(
            run=item.run,
            step=item.step,
            attempt=item.attempt,
            executor=self.name,
            delivery=delivery.deliveries,
        )
        first = self._reporter.report(started)
        if item.command == "hang":
            stop = self._hanging.setdefault(what, asyncio.Event())
            await first
            await stop.wait()
        await asyncio.gather(first, self._reporter.report(self._result(item, delivery.deliveries)))
        await delivery.ack()
        self.done += 1

    def _result(self, item: WorkItem, delivery: int) -> AttemptSucceeded | AttemptFailed:
        if item.command == "hang":
            code, message = "E_CANCELLED", "stopped"
        elif item.command == "fail" or (item.command == "fail-once" and item.attempt == 1):
            code, message = "E_EXIT", "the command ended with exit code 1"
        else:
            made = (
                f"{item.command} {sorted((k, v.artifact, v.value) for k, v in item.inputs.items())}"
            )
            return AttemptSucceeded(
                run=item.run,
                step=item.step,
                attempt=item.attempt,
                executor=self.name,
                delivery=delivery,
                outputs={
                    name: TreeRef(
                        digest=digest_of(f"{name} {made}".encode()), size_bytes=1, files=1
                    )
                    for name in item.outputs
                },
            )
        return AttemptFailed(
            run=item.run,
            step=item.step,
            attempt=item.attempt,
            executor=self.name,
            delivery=delivery,
            failure=Failure(code=code, message=message, exit_code=1),
        )

    async def _stop(self, received: Received) -> None:
        order = decoded(received.data, StopAttempt)
        event = self._hanging.get((order.run, order.step, order.attempt))
        if event is not None and not order.before:
            event.set()


async def main(arguments: list[str]) -> int:
    """Take attempts until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bus", required=True)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--target", default="default")
    given = parser.parse_args(arguments)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    bus = await connect(given.bus, name="null-executor")
    executor = NullExecutor(bus, Subjects(given.workspace), target=given.target)
    await executor.start()
    await stopping.wait()
    await bus.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
