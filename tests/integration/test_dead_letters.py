"""Poison for every stream that services take from, and what an operator does about it afterwards."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.bus import dead
from penstock.bus.nats import NatsBus, connect
from penstock.bus.topology import ensure
from penstock.contracts.codec import encoded
from penstock.contracts.inbox import CancelRun
from penstock.contracts.subjects import Subjects
from penstock.errors import Transient
from penstock.ids import run_id
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.units import Seconds

pytestmark = pytest.mark.server
WAIT_S = 60.0
EVIL = (
    b'{"type":"who.knows.v9","text":"\x1b[2J\x1b]0;owned\x07 \xff\xfe \xe2\x80\xae"}\nsecond line'
)
SPEC = {"name": "hello", "steps": {"a": {"command": "true"}}}


@dataclass
class Operator:
    """Somebody at a terminal."""

    folder: Path
    bus: str
    workspace: str

    async def penstock(self, *words: str, code: int = 0) -> str:
        """Run a command, check its exit code, and return what it printed."""
        environ = {**os.environ, "PENSTOCK_BUS": self.bus, "PENSTOCK_WORKSPACE": self.workspace}
        command = [sys.executable, "-m", "penstock.cli.main", "dead-letters", *words]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=self.folder,
            env=environ,
            capture_output=True,
            timeout=WAIT_S,
            check=False,
        )
        text = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, text
        assert "Traceback" not in text
        return done.stdout.decode()

    async def letters(self, *words: str, count: int = 0) -> list[dict[str, Any]]:
        """Return the list, once it holds `count` letters."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found: list[dict[str, Any]] = json.loads(
                    await self.penstock("list", *words, "-o", "json")
                )
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def fleet(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    workspace = f"t{secrets.token_hex(5)}"
    store = f"file:{directory / 'store'}"
    with Fleet(directory, bus=nats.url, store=store, workspace=workspace) as fleet:
        for service in ("artifact", "planner", "scheduler", "executor"):
            fleet.start(service)
        yield fleet


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[NatsBus]:
    connection = await connect(nats.url, name="poisoner")
    yield connection
    await connection.close()


@pytest.fixture
def names(fleet: Fleet) -> Subjects:
    return Subjects(fleet.workspace)


@pytest.fixture
async def operator(
    fleet: Fleet, bus: NatsBus, names: Subjects, tmp_path: Path
) -> AsyncIterator[Operator]:
    await ensure(bus, names, ("dead",))
    yield Operator(tmp_path, fleet.bus, fleet.workspace)
    await bus.purge(names.stream("dead"), names.dead())


def a_run() -> str:
    return run_id(Seconds(time.time()), secrets.token_hex(8))


async def test_poison_of_every_stream_is_listed_with_where_it_came_from_and_why(
    operator: Operator, bus: NatsBus, names: Subjects
) -> None:
    run = a_run()
    inbox = names.inbox(run, "planner", "cancel")
    due = names.due(run, "a", "retry-1")
    work = names.work("default", run, "a", 1)
    for subject in (inbox, due, work):
        await bus.append(subject, EVIL)
    letters = await operator.letters(count=3)
    found = {letter["stream"]: letter for letter in letters}
    assert {stream: letter["subject"] for stream, letter in found.items()} == {
        "inbox": inbox,
        "timers": due,
        "work": work,
    }
    assert {letter["code"] for letter in letters} == {"E_CORRUPT"}
    assert all(letter["reason"] and letter["size_bytes"] == len(EVIL) for letter in letters)
    assert found["inbox"]["deliveries"] == found["timers"]["deliveries"] == 5
    assert [letter["id"] for letter in letters] == sorted(
        (letter["id"] for letter in letters), reverse=True
    )
    (only,) = await operator.letters("--stream", "work")
    assert only == found["work"]


async def test_a_hostile_body_is_shown_and_moves_no_cursor(
    operator: Operator, bus: NatsBus, names: Subjects
) -> None:
    await bus.append(names.work("default", a_run(), "a", 1), EVIL)
    (letter,) = await operator.letters(count=1)
    text = await operator.penstock("show", str(letter["id"]))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "  | second line\n" in text
    assert "\\x1b[2J" in text
    assert "\\xff\\xfe" in text
    view = json.loads(await operator.penstock("show", str(letter["id"]), "-o", "json"))
    assert view["letter"] == letter
    assert view["body"].endswith("second line")


async def test_a_letter_is_replayed_once_and_is_off_the_list(
    operator: Operator, bus: NatsBus, names: Subjects
) -> None:
    """A request that no planner could fulfil then."""
    request = {"spec": SPEC, "reuse": "off"}
    stored = _stored(names.request("run"), json.dumps(request).encode())
    error = Transient("no artifact service", code="E_NO_RESPONDER")
    await dead.keep(bus, names, "requests", stored, error, deliveries=5)
    await dead.keep(bus, names, "requests", stored, error, deliveries=5)
    (letter,) = await operator.letters(count=1)
    number = str(letter["id"])
    (row,) = json.loads(await operator.penstock("replay", number, "-o", "json"))
    assert row["done"]
    run = row["answer"].split()[1]
    async with asyncio.timeout(WAIT_S):
        async for event in bus.stored(names.stream("events"), [names.run_events(run)]):
            if event.subject.endswith(".run.succeeded"):
                break
    assert await operator.letters() == []
    again = json.loads(await operator.penstock("replay", number, "-o", "json", code=2))
    assert again[0]["answer"].startswith("E_NOT_FOUND")


async def test_what_still_is_poison_comes_back_as_a_new_letter(
    operator: Operator, bus: NatsBus, names: Subjects
) -> None:
    await bus.append(names.inbox(a_run(), "planner", "cancel"), EVIL)
    (letter,) = await operator.letters(count=1)
    await operator.penstock("replay", "--all")
    async with asyncio.timeout(WAIT_S):
        while True:
            (again,) = await operator.letters(count=1)
            if again["id"] != letter["id"]:
                break
    assert again["subject"] == letter["subject"]
    show = json.loads(await operator.penstock("show", str(again["id"]), "-o", "json"))
    assert show["body"].endswith("second line")


async def test_what_cannot_be_replayed_says_why_and_can_be_deleted(
    operator: Operator, bus: NatsBus, names: Subjects
) -> None:
    await bus.append(names.work("default", a_run(), "a", 1), b"no work")
    (letter,) = await operator.letters(count=1)
    (row,) = json.loads(await operator.penstock("replay", str(letter["id"]), "-o", "json", code=2))
    assert row["answer"].startswith("E_NOT_REPLAYABLE")
    assert "rerun" in row["answer"]
    assert json.loads(await operator.penstock("replay", "--all", "-o", "json")) == []
    assert len(await operator.letters()) == 1
    await operator.penstock("delete", "--all")
    assert await operator.letters() == []
    await operator.penstock("delete", "99999", code=2)
    await operator.penstock("show", "99999", code=3)
    await operator.penstock("replay", code=2)


async def test_a_letter_of_a_stranger_is_not_put_back_where_it_says(
    operator: Operator, bus: NatsBus, names: Subjects
) -> None:
    """Whoever may publish a dead letter must not gain the subjects that a scheduler may publish to."""
    stored = _stored(names.own(3), encoded(CancelRun(run=a_run())))
    await dead.keep(bus, names, "inbox", stored, Transient("forged"))
    (letter,) = await operator.letters(count=1)
    (row,) = json.loads(await operator.penstock("replay", str(letter["id"]), "-o", "json", code=2))
    assert row["answer"].startswith("E_NOT_REPLAYABLE")
    last = await bus.last(names.stream("runs"), names.own(3))
    assert last is None or last.data != stored.data


def _stored(subject: str, data: bytes) -> Any:
    from penstock.bus import Stored

    return Stored(subject, data, secrets.randbelow(1 << 40), time.time())
