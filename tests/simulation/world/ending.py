"""When is everything over, and what is left until then?"""

from typing import TYPE_CHECKING

from penstock_scheduler.state import RUN_ENDED, RunStatus

if TYPE_CHECKING:
    from tests.simulation.world.play import World


def is_over(world: "World") -> bool:
    """Say whether nothing is left to do."""
    server = world.server
    if any(client.busy for client in world.clients):
        return False
    if server.requests.entries or server.work.entries:
        return False
    if any(queue.entries for queue in server.inbox.values()):
        return False
    if any(queue.entries and server.live.get(n) for n, queue in server.due.items()):
        return False  # of a partition without live runs they wait for its next owner
    if any(executor.loans for executor in world.executors):
        return False
    return not unfinished(world) and _is_schedule_over(world)


def unfinished(world: "World") -> list[str]:
    """Return the runs that have not ended for everybody to see."""
    found = []
    for shadow in world.audit.shadow.values():
        for name, run in shadow.runs.items():
            if run.status is RunStatus.ARRIVING and name not in world.audit.accepted:
                continue
            events = world.server.events.get(name, [])
            line = world.server.value("runs", name)[1]
            told = len(events) >= run.seq
            listed = line is not None and line.ended_at
            if run.status not in RUN_ENDED or not told or not listed:
                found.append(name)
    return found


def _is_schedule_over(world: "World") -> bool:
    if world.schedule is None:
        return True
    cursor = world.server.value("cursors", "s")[1]
    last = world.schedule.created_at + world.wishes.every * world.wishes.ticks
    return bool(
        cursor is not None and cursor.last_due >= last and not cursor.pending and not cursor.queued
    )


def left(world: "World") -> str:
    """Return what is not over yet."""
    server = world.server
    queues = {
        "requests": server.requests,
        "work": server.work,
        **{f"inbox{n}": q for n, q in server.inbox.items()},
        **{f"due{n}": q for n, q in server.due.items()},
    }
    queued = {n: [e.subject for e in q.entries.values()] for n, q in queues.items() if q.entries}
    busy = [client.name for client in world.clients if client.busy]
    loans = {e.name: list(e.loans) for e in world.executors if e.loans}
    cursor = "" if _is_schedule_over(world) else f", cursor {server.value('cursors', 's')}"
    runs = f"runs {unfinished(world)}, {queued}, {busy}, {loans}{cursor}"
    return f"{runs}, at {world.now - world.began_at:.0f} s"
