"""Bytes of a stored output change on the disk: nobody may be handed the wrong ones."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.bus import Stored
from penstock.bus.nats import connect
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.testing.stores import MinioServer, minio_binary

pytestmark = [pytest.mark.server, pytest.mark.slow]

WAIT_S = 60.0
CONTENT = b"the quick brown fox jumps over the lazy dog\n" * 20_000
"""880 kB: above what MinIO keeps inside its metadata, and stored alone."""


def spec_of(content: Path, tag: str) -> dict[str, object]:
    return {
        "name": "damage",
        "settings": {"deadline": 40},
        "steps": {
            "make": {
                "command": f"cat {content} > ${{{{outputs.o}}}}",
                "outputs": {"o": {"type": "uri_file"}},
            },
            "use": {
                "command": f"echo {tag}; sha256sum < ${{{{inputs.i}}}} > ${{{{outputs.o}}}}",
                "inputs": {"i": {"type": "uri_file", "path": "${{parent.jobs.make.outputs.o}}"}},
                "outputs": {"o": {"type": "uri_file"}},
            },
        },
    }


@pytest.fixture(params=["file", "minio"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """A store's URL and the folder that its bytes lie in."""
    folder = tmp_path / "store"
    if request.param == "file":
        yield f"file:{folder}", folder
        return
    if minio_binary() is None:
        pytest.skip("there is no minio: go install it, see .ci/run")
    server = MinioServer(folder)
    server.start()
    yield server.url("damage"), folder
    server.kill()


async def ran(
    nats: NatsServer, names: Subjects, spec: dict[str, object], reuse: str = "use"
) -> list[dict[str, object]]:
    """Run a pipeline and return its events."""
    bus = await connect(nats.url, name="watcher")
    try:
        body = json.dumps({"spec": spec, "reuse": reuse}).encode()
        answer = json.loads((await bus.request(names.request("run"), body, timeout_s=20)).data)
        events: list[dict[str, object]] = []
        over = asyncio.Event()

        async def on_event(stored: Stored) -> None:
            events.append(json.loads(stored.data))
            if ".run." in stored.subject and events[-1]["what"] in ("succeeded", "failed"):
                over.set()

        follow = await bus.follow(
            names.stream("events"), [names.run_events(answer["run"])], on_event
        )
        await asyncio.wait_for(over.wait(), WAIT_S)
        await follow.close()
        return events
    finally:
        await bus.close()


def flipped(folder: Path) -> int:
    """Change one byte in every file below that holds the content; return how many that were."""
    count = 0
    for path in folder.rglob("*"):
        if path.is_file() and (at := path.read_bytes().find(CONTENT[:100])) >= 0:
            mode = path.stat().st_mode
            path.chmod(0o600)
            with path.open("r+b") as file:
                file.seek(at + 5000)
                file.write(b"X")
            path.chmod(mode)
            count += 1
    return count


async def test_a_flipped_byte_in_the_store_reaches_no_step(
    tmp_path: Path, nats: NatsServer, workspace: str, store: tuple[str, Path]
) -> None:
    names = Subjects(workspace)
    url, folder = store
    content = tmp_path / "content"
    content.write_bytes(CONTENT)
    with Fleet(tmp_path / "fleet", bus=nats.url, store=url, workspace=workspace) as fleet:
        for service in ("artifact", "planner", "scheduler", "executor"):
            await asyncio.to_thread(fleet.start, service)
        first = await ran(nats, names, spec_of(content, "one"))
        assert first[-1]["what"] == "succeeded"
        right = next(e for e in first if e["what"] == "succeeded" and e.get("step") == "use")
        await asyncio.to_thread(fleet.terminate, "executor-1")
        assert await asyncio.to_thread(flipped, folder) >= 1
        await asyncio.to_thread(fleet.start, "executor")  # with an empty cache
        second = await ran(nats, names, spec_of(content, "two"))
        third = await ran(nats, names, spec_of(content, "three"), reuse="refresh")
    for events in (second, third):
        used = [e for e in events if e["what"] == "succeeded" and e.get("step") == "use"]
        assert all(e["outputs"] == right["outputs"] for e in used), "computed with wrong bytes"
    assert third[-1]["what"] == "succeeded", "what is made again replaces what was damaged"
