"""Every stream, bucket and durable consumer of a workspace: one table, made by whoever starts first.

Ensuring is idempotent and safe to race, so each service ensures what it needs at its start.
The sum of `max_bytes` (about 5.5 GiB) stays below 80 % of the store limit that `penstock up` gives
nats-server; an operator who needs more edits the stream (`nats stream edit`), and it stays so.
"""

import logging

from penstock.bus import Bus, ConsumerSpec, StreamSpec
from penstock.bus.buckets import bucket_spec
from penstock.contracts.subjects import Subjects
from penstock.errors import Transient
from penstock.ids import PARTITIONS
from penstock.units import GIB, KIB, MIB

log = logging.getLogger("penstock.bus")

DAY_S = 86_400.0
WORK_ACK_WAIT_S = 15.0


def streams(names: Subjects) -> dict[str, StreamSpec]:
    """Return the streams of a workspace by short name."""
    root = names.workspace
    return {
        "requests": StreamSpec(
            name=names.stream("requests"),
            subjects=(f"{root}.request.*",),
            retention="workqueue",
            max_bytes=128 * MIB,
            discard="new",
            no_ack=True,
            duplicate_window_s=120,
            description="wishes of outsiders until planned; no_ack: the planner answers, not the stream",
        ),
        "inbox": StreamSpec(
            name=names.stream("inbox"),
            subjects=(f"{root}.inbox.>",),
            retention="workqueue",
            max_bytes=512 * MIB,
            discard="new",
            max_msg_size=1 * MIB,
            duplicate_window_s=120,
            description="what scheduler partitions have to take in",
        ),
        "runs": StreamSpec(
            name=names.stream("runs"),
            subjects=(f"{root}.own.*", f"{root}.runlog.*"),
            max_bytes=1 * GIB,
            discard="new",
            duplicate_window_s=120,
            description="the run log, one fenced writer per partition: the only truth",
        ),
        "timers": StreamSpec(
            name=names.stream("timers"),
            subjects=(f"{root}.timer.>", f"{root}.due.>"),
            retention="workqueue",
            max_bytes=128 * MIB,
            discard="old",  # the server refuses schedules with "new"; timers are re-derivable
            allow_schedules=True,
            allow_ttl=True,
            description="timers of the scheduler",
        ),
        "work": StreamSpec(
            name=names.stream("work"),
            subjects=(f"{root}.work.>",),
            retention="workqueue",
            max_bytes=256 * MIB,
            discard="new",
            max_msgs_per_subject=1,
            discard_new_per_subject=True,
            allow_together=True,
            duplicate_window_s=7200,
            # Derived from the run log, and yet not persist_async: a killed server forgets the newest
            # messages of such a stream, gives their sequences again, and a consumer that had
            # delivered them never delivers what comes under the same numbers.
            description="attempts waiting for an executor; derived from the run log",
        ),
        "events": StreamSpec(
            name=names.stream("events"),
            subjects=(f"{root}.event.>",),
            max_bytes=1 * GIB,
            max_age_s=90 * DAY_S,
            duplicate_window_s=7200,
            allow_together=True,
            description="what everybody may read",
        ),
        "logs": StreamSpec(
            name=names.stream("logs"),
            subjects=(f"{root}.log.>",),
            max_bytes=1 * GIB,
            max_age_s=7 * DAY_S,
            max_msg_size=256 * KIB,
            persist_async=True,
            compression=True,
            duplicate_window_s=1,
            description="what steps write, live; archives are artifacts",
        ),
        "dead": StreamSpec(
            name=names.stream("dead"),
            subjects=(f"{root}.dead.>",),
            max_bytes=64 * MIB,
            max_age_s=30 * DAY_S,
            description="messages nobody could take in, with the reason",
        ),
    }


def buckets(names: Subjects) -> dict[str, StreamSpec]:
    """Return the buckets of a workspace by short name."""
    return {
        name: bucket_spec(names.bucket(name), max_bytes=size, max_age_s=max_age_s, description=text)
        for name, size, max_age_s, text in (
            ("pipelines", 64 * MIB, 0, "<name>.<version> → PipelineView; <name>.latest"),
            ("specs", 256 * MIB, 0, "digest → PipelineSpec"),
            ("keys", 128 * MIB, 30 * DAY_S, "idempotency key → run"),
            ("runs", 256 * MIB, 0, "run → RunSummary"),
            ("reuse", 256 * MIB, 0, "fingerprint → ReuseEntry"),
            ("latest", 128 * MIB, 0, "<pipeline>.<step> → LatestEntry"),
            ("schedules", 16 * MIB, 0, "name → Schedule"),
            ("cursors", 16 * MIB, 0, "name → ScheduleState"),
            ("computes", 4 * MIB, 0, "name → ComputeView"),
            ("datastores", 4 * MIB, 0, "name → DatastoreView"),
            ("assets", 128 * MIB, 0, "<kind>.<name>.<version> → AssetView"),
            ("artifacts", 256 * MIB, 0, "tree digest → TreeRef and owner"),
        )
    }


def work_consumer(names: Subjects, target: str) -> ConsumerSpec:
    """Return the consumer that executors of one compute target share.

    It delivers for ever. A server that gives up keeps the message, never delivers it again, and says
    so once, in passing: if it dies just then, nobody learns that the attempt is lost. Giving up is
    decided by those who can be asked again: the scheduler counts starts, an executor what it took.
    """
    return ConsumerSpec(
        stream=names.stream("work"),
        name=f"target-{target}",
        filter_subjects=(names.work_of(target),),
        ack_wait_s=WORK_ACK_WAIT_S,
        max_ack_pending=4096,
    )


def inbox_consumer(names: Subjects, partition: int) -> ConsumerSpec:
    """Return the pinned consumer of a partition's inbox: whoever is pinned owns the partition."""
    return ConsumerSpec(
        stream=names.stream("inbox"),
        name=f"partition-{partition}",
        filter_subjects=(names.inbox_of(partition),),
        ack_wait_s=10,
        pinned=True,
        pinned_ttl_s=2,
    )


def due_consumer(names: Subjects, partition: int) -> ConsumerSpec:
    """Return the consumer of a partition's fired timers, pulled by the owner only."""
    return ConsumerSpec(
        stream=names.stream("timers"),
        name=f"due-{partition}",
        filter_subjects=(names.due_of(partition),),
        ack_wait_s=10,
    )


def requests_consumer(names: Subjects) -> ConsumerSpec:
    """Return the consumer that planners share."""
    return ConsumerSpec(
        stream=names.stream("requests"),
        name="planner",
        filter_subjects=(f"{names.workspace}.request.*",),
        ack_wait_s=30,
        max_deliver=5,
    )


async def ensure(bus: Bus, names: Subjects, wanted: tuple[str, ...]) -> None:
    """Ensure the named streams and buckets (short names; "runs" names a stream and a bucket).

    Now, and again after every reconnect: a server that came back may have lost its disk.
    """
    tables = (streams(names), buckets(names))
    specs = [table[name] for name in wanted for table in tables if name in table]
    unknown = [name for name in wanted if not any(name in table for table in tables)]
    if unknown:
        raise KeyError(*unknown)

    async def make() -> None:
        for spec in specs:
            await bus.ensure_stream(spec)

    async def make_again() -> None:
        try:
            await make()
        except Transient as error:  # lost again: so we shall be called again
            log.warning("streams were not looked at: %s", error)

    await make()
    bus.on_reconnect(make_again)


ALL_PARTITIONS = range(PARTITIONS)
