"""Attempts that were delivered as often as they may be: nobody will report them, so we do.

The server only says so in passing, and keeps the message in the work stream for ever. The stream
`dead` catches what it says; any replica turns it into a failed attempt in the run's inbox, durably
and once, and takes the message off the queue, from which nobody can get it any more. The decision
that follows does not always do that: the attempt may be late news by then (found by the simulation).
A copy stays as a dead letter.
"""

import msgspec

from penstock.bus import Consumption, Delivery, dead
from penstock.bus.topology import given_up_consumer
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.work import AttemptFailed, Failure, WorkItem
from penstock.errors import Corrupt, Transient
from penstock_scheduler.tools import Tools


class Advisory(msgspec.Struct):
    """What we need of the server's io.nats.jetstream.advisory.v1.max_deliver."""

    stream: str
    stream_seq: int
    deliveries: int = 0


async def report_lost(tools: Tools, delivery: Delivery) -> None:
    """Turn one advisory into a failed attempt."""
    try:
        advisory = decoded(delivery.message.data, Advisory)
        stored = await tools.bus.stored_at(advisory.stream, advisory.stream_seq)
        item = decoded(stored.data, WorkItem) if stored is not None else None
    except Corrupt as error:
        tools.log.error("an advisory or its work is garbage", error=error.message)
        await delivery.term(error.message)
        return
    if item is not None and stored is not None:
        report = AttemptFailed(
            run=item.run,
            step=item.step,
            attempt=item.attempt,
            executor="",
            failure=Failure(
                code="E_LOST",
                message=f"{advisory.deliveries} executors took the attempt and none reported it",
                where=f"steps.{item.step}",
                hint="does it use more memory than its machine has? look at the executors' logs",
            ),
        )
        why = Transient(report.failure.message, code="E_LOST")
        deliveries = advisory.deliveries
        await dead.keep(tools.bus, tools.names, "work", stored, why, deliveries=deliveries)
        tools.log.warning("lost", run=item.run, step=item.step, attempt=item.attempt)
        await tools.bus.append(
            tools.names.inbox(item.run, "scheduler", "lost", item.step),
            encoded(report),
            message_id=f"{item.run}.{item.step}.{item.attempt}.lost",
        )
        subject = tools.names.work(item.target, item.run, item.step, item.attempt)
        await tools.bus.purge(tools.names.stream("work"), subject)
    await delivery.ack()


async def watch(tools: Tools) -> Consumption:
    """Begin to take in advisories, which replicas share."""

    async def take(delivery: Delivery) -> None:
        await report_lost(tools, delivery)

    return await tools.bus.consume(given_up_consumer(tools.names), take)
