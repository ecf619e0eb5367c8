"""What an outsider can read after the storm: the bus, the store, the ledger, and /proc."""

import asyncio
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.harness.side_ledger import Execution, executions
from tests.chaos.harness.stack import Landed, Stack
from tests.chaos.harness.workload import Submission, Workload

from penstock.bus import Stored
from penstock.bus.topology import buckets, streams
from penstock.errors import PenstockError
from penstock.testing.attempts import marked_processes
from penstock.trees.client import TreeClient

Event = dict[str, Any]
LINK, BODY = "_link", "_body"
"""Under these names an event carries its header and its bytes as they were stored."""
READERS = 8


@dataclass(frozen=True)
class Queue:
    """A work queue at rest, or not."""

    stream: str
    messages: int
    pending: int
    on_loan: int


@dataclass(frozen=True)
class Vitals:
    """How large a service has become."""

    rss_mib: float
    fds: int
    threads: int


@dataclass
class Evidence:
    """All of it."""

    submissions: list[Submission]
    runs: dict[str, list[Event]]
    """Events of each run, in the order of the stream."""
    ticks: list[float]
    fired: list[Event]
    skipped: list[Event]
    executions: list[Execution]
    views: dict[str, str]
    """Run → state, as the scheduler answers it."""
    queues: list[Queue]
    dead: list[str]
    """Subjects of messages that were set aside."""
    processes: list[int]
    """Processes of steps that are still there."""
    folders: list[str]
    """Folders of attempts that are still there."""
    mounts: list[str]
    vitals: dict[str, Vitals]
    busy: dict[str, int]
    landed: Landed
    trees: dict[str, dict[str, str] | str] = field(default_factory=dict)
    """Digest of a tree → SHA-256 of each file, or why it could not be read."""
    logs: dict[str, dict[str, bytes] | str] = field(default_factory=dict)
    """Digest of an archive → its files, or why it could not be read."""
    reuse: dict[str, dict[str, Any]] = field(default_factory=dict)


async def collected(stack: Stack, workload: Workload) -> Evidence:
    """Read everything."""
    runs: dict[str, list[Event]] = {}
    fired: list[Event] = []
    skipped: list[Event] = []

    def take(stored: Stored) -> None:
        event: Event = json.loads(stored.data)
        event[LINK], event[BODY] = stored.headers.get("penstock-chain", ""), stored.data
        if ".event.trigger." in stored.subject:
            {"fired": fired, "skipped": skipped}.get(event["what"], []).append(event)
        else:
            runs.setdefault(event["run"], []).append(event)

    names, bus = stack.names, workload.bus
    await bus.replay(names.stream("events"), [names.events()], take)
    found = Evidence(
        submissions=workload.submissions,
        runs=runs,
        ticks=workload.ticks,
        fired=fired,
        skipped=skipped,
        executions=executions(workload.where.ledger),
        views=await views(workload, list(runs)),
        queues=await queues(stack, workload),
        dead=await dead(stack, workload),
        processes=left_processes(stack, workload.where.mark),
        folders=left_folders(stack),
        mounts=left_mounts(stack),
        vitals=vitals(stack),
        busy=await busy(stack, workload),
        landed=stack.landed,
    )
    await read_trees(found, workload.trees)
    await read_reuse(found, stack, workload)
    return found


async def views(workload: Workload, runs: list[str]) -> dict[str, str]:
    """Ask for the state of each run."""
    states = {}
    for run in runs:
        body = json.dumps({"run": run, "steps": False}).encode()
        for _ in range(3):
            try:
                answer = await workload.bus.request(workload.stack.names.query("run"), body)
                states[run] = json.loads(answer.data).get("state", answer.data.decode())
                break
            except PenstockError as error:
                states[run] = str(error)
    return states


async def queues(stack: Stack, workload: Workload) -> list[Queue]:
    """Return how every work queue stands; give what is on its way a moment.

    Timers of runs that have ended do not count: a late one changes nothing, and it lies there until
    its partition has an owner again, which nobody needs as long as nothing is to be done.
    """
    manager = workload.client.jetstream()
    wanted = [n for n, s in streams(stack.names).items() if s.retention == "workqueue"]
    for _ in range(40):
        found = []
        for name in wanted:
            info = await manager.stream_info(stack.names.stream(name), subjects_filter=">")
            over = 0
            if name == "timers":
                held = (info.state.subjects or {}).items()
                over = sum(n for subject, n in held if subject.split(".")[3] in workload.ended)
            consumers = await manager.consumers_info(stack.names.stream(name))
            pending = sum(consumer.num_pending or 0 for consumer in consumers)
            on_loan = sum(consumer.num_ack_pending or 0 for consumer in consumers)
            messages = info.state.messages - over
            found.append(Queue(name, messages, min(pending, messages), on_loan))
        if not any(q.messages or q.pending or q.on_loan for q in found):
            break
        await asyncio.sleep(0.5)
    return found


async def waiting(stack: Stack, workload: Workload) -> list[dict[str, object]]:
    """Describe what lies in work queues, and how their consumers stand: for whoever looks into it."""
    manager = workload.client.jetstream()
    found: list[dict[str, object]] = []
    for name in (n for n, s in streams(stack.names).items() if s.retention == "workqueue"):
        stream = stack.names.stream(name)
        info = await manager.stream_info(stream, subjects_filter=">")
        if not info.state.messages:
            continue
        consumers = await manager.consumers_info(stream)
        found.append(
            {
                "stream": name,
                "state": str(info.state),
                "consumers": [f"{c.name} {c.delivered} {c.ack_floor} {c}" for c in consumers],
            }
        )
    return found


async def dead(stack: Stack, workload: Workload) -> list[str]:
    """Return what was set aside by services; what the server says of lost attempts is expected."""
    subjects: list[str] = []
    stream = stack.names.stream("dead")
    filters = [f"{stack.workspace}.dead.>"]
    await workload.bus.replay(stream, filters, lambda stored: subjects.append(stored.subject))
    return subjects


async def busy(stack: Stack, workload: Workload) -> dict[str, int]:
    """Ask the executors how many slots are taken; none may be."""
    found: dict[str, int] = {}
    for _ in range(20):
        inbox = workload.client.new_inbox()
        subscription = await workload.client.subscribe(inbox)
        await workload.client.publish(stack.names.query("executors"), b"{}", reply=inbox)
        try:
            while len(found) < sum(name.startswith("executor") for name in stack.fleet.members):
                message = await subscription.next_msg(timeout=2)
                if not message.data:  # nobody listens yet
                    break
                told = json.loads(message.data)
                found[told["executor"]] = told["busy"]
        except TimeoutError:
            pass
        await subscription.unsubscribe()
        if found and not any(found.values()):
            break
        await asyncio.sleep(0.5)
        found = {}
    return found


def left_processes(stack: Stack, mark: str) -> list[int]:
    """Return processes of steps: by their variables, and by the folder they work in."""
    ours = {member.process.pid for member in stack.fleet.members.values()}
    found = set(marked_processes(mark))
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                place = (folder / "cwd").readlink()
            except OSError:
                continue
            if place.is_relative_to(stack.fleet.directory) and "attempts" in place.parts:
                found.add(int(folder.name))
    return sorted(found - ours)


def left_folders(stack: Stack) -> list[str]:
    """Return the folders of attempts that nobody removed."""
    return [str(p) for p in stack.fleet.directory.glob("executor-*/attempts/*") if p.is_dir()]


def left_mounts(stack: Stack) -> list[str]:
    """Return what is mounted below the fleet's folder."""
    lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if str(stack.fleet.directory) in line]


def vitals(stack: Stack) -> dict[str, Vitals]:
    """Measure every service."""
    found = {}
    for name, member in stack.fleet.members.items():
        folder = Path("/proc", str(member.process.pid))
        try:
            pages = int((folder / "statm").read_text().split()[1])
            fds, threads = (len(list((folder / part).iterdir())) for part in ("fd", "task"))
        except OSError:
            continue
        found[name] = Vitals(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, fds, threads)
    return found


async def read_trees(found: Evidence, trees: TreeClient) -> None:
    """Read every output and every archive of logs that an event names, each once."""
    outputs: set[str] = set()
    archives: set[str] = set()
    for events in found.runs.values():
        for event in events:
            outputs |= {tree["digest"] for tree in event.get("outputs", {}).values()}
            if event["what"] == "succeeded" and event.get("logs"):
                archives.add(event["logs"]["digest"])
    gate = asyncio.Semaphore(READERS)

    async def read(digest: str) -> dict[str, bytes] | str:
        async with gate:
            try:
                entries = (await trees.manifest(digest)).entries
                return {e.path: await trees.read(digest, e.path) for e in entries if e.digest}
            except (PenstockError, OSError) as error:
                return f"{type(error).__name__}: {error}"

    async def output(digest: str) -> None:
        files = await read(digest)
        if not isinstance(files, str):
            hashes = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
            found.trees[digest] = hashes
        else:
            found.trees[digest] = files

    async def archive(digest: str) -> None:
        found.logs[digest] = await read(digest)

    await asyncio.gather(*map(output, outputs), *map(archive, archives))


async def read_reuse(found: Evidence, stack: Stack, workload: Workload) -> None:
    """Read the table of what may be reused."""
    assert "reuse" in buckets(stack.names)
    bucket = stack.names.bucket("reuse")

    def take(stored: Stored) -> None:
        key = stored.subject.rpartition(".")[2]
        if stored.data:
            found.reuse[key] = json.loads(stored.data)
        else:
            found.reuse.pop(key, None)

    await workload.bus.replay(f"KV_{bucket}", [f"$KV.{bucket}.>"], take)
