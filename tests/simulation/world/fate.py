"""Misfortunes that come over somebody from outside, drawn by the seed's mix."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world.play import World


def strike(world: "World", name: str) -> None:
    """Let a misfortune happen to somebody."""
    chance = world.chance
    victim = chance.choice(world.services)
    world.landed[name] += 1
    about = ""
    match name:
        case "crash":
            world.landed[f"crash of {victim.name[:-1]}"] += 1
            about = victim.name
            victim.crash(chance.choice([0.1, 0.1, 1.0, 5.0, 40.0]))
        case "pause":
            about = victim.name
            victim.until = max(victim.until, world.now + chance.choice([1, 3, 12, 40, 200]))
        case "cut":
            about = victim.name
            victim.cut_until = max(victim.cut_until, world.now + chance.choice([1, 3, 12, 60]))
        case "clock_jump":
            victim.offset = chance.choice([-3600.0, -30.0, 0.0, 30.0, 3600.0])
            about = f"{victim.name} {victim.offset:+g}"
        case "leap":
            world.advance(world.now + chance.choice([1.0, 5.0, 20.0, 100.0]))
        case "bus_away":
            world.server.away_until = world.now + chance.choice([0.5, 5.0, 30.0])
            world.bus_trouble = world.server.away_until
        case "work_lost":
            _kill_server(world)
        case "store_away":
            world.store.away_until = world.now + chance.choice([1.0, 10.0, 100.0])
        case "bytes_lost":
            _lose_bytes(world)
        case "poison":
            about = _poison(world)
    if victim.until > world.now or victim.cut_until > world.now or name == "crash":
        world.trouble[victim] = max(world.now, victim.until, victim.cut_until)
    if world.trace is not None:
        world.note("fate", f"{name} {about}")


def _kill_server(world: "World") -> None:
    """The server dies and comes back: its newest work was not on disk, and clients reconnect."""
    work = world.server.work.entries
    if work:
        lost = work.pop(max(work))
        _, _, run, step, attempt = lost.subject.split(".")
        world.server.ids.pop(f"{run}.{step}.{attempt}", None)  # known from the stream alone
    world.bus_trouble = world.now
    for scheduler in world.schedulers:
        for term in scheduler.terms.values():
            term.reoffer = not term.over


def _lose_bytes(world: "World") -> None:
    objects = world.store.objects
    if objects:
        key = world.chance.choice(list(objects))
        del objects[key]
        world.store.lost_at[key] = world.now


def _poison(world: "World") -> str:
    server, roll = world.server, world.chance.random()
    fresh = [entry for entry in server.work.entries.values() if not entry.deliveries]
    data = b'{"garbage": %d, "\xff' % server.next()
    if roll < 0.3 and fresh:
        entry = world.chance.choice(fresh)
        entry.data = data
        return entry.subject
    if roll < 0.6:
        server.requests.put("penstock.request.run", data)
        return "a request"
    world.garbage.append(data)
    server.inbox[world.chance.randrange(world.shape.partitions)].put("inbox.x.garbage", data)
    return "inbox"
