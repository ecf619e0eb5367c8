"""A program that has nats-py and json, and nothing of ours, runs a pipeline and misses no event."""

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.testing.fleet import SERVICES, Fleet
from penstock.testing.servers import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

PROGRAM = '''
import asyncio, json, sys
import nats

url, root = sys.argv[1:]
assert "penstock" not in sys.modules

SPEC = {"name": "hello", "steps": {
    "write": {"command": "echo hello > ${{outputs.text}}", "outputs": {"text": {"type": "uri_file"}}},
    "read": {"command": "cat ${{inputs.text}}", "inputs": {"text": "${{parent.jobs.write.outputs.text}}"}},
}}

async def ask(bus, body, subject="request.run", headers=None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await bus.request(f"{root}.{subject}", data, timeout=10, headers=headers)
    return json.loads(answer.data)

async def history(events, run):
    """Read a run's events until its end."""
    seen = []
    while not (seen and seen[-1][0].split(".")[4:] in (["run", "succeeded"], ["run", "failed"])):
        message = await events.next_msg(timeout=30)
        await message.ack()
        if f".{run}." in message.subject:
            assert message.headers["ce-specversion"] == "1.0"
            assert message.headers["ce-type"].startswith("penstock.")
            seen.append((message.subject, json.loads(message.data)))
    return seen

async def main():
    bus = await nats.connect(url)
    stream = bus.jetstream()
    mine = await stream.subscribe(f"{root}.event.>", stream=f"{root}-events", durable="dashboard")

    told = await ask(bus, {"spec": SPEC})
    assert told["state"] == "queued", told
    seen = await history(mine, told["run"])
    assert [event["seq"] for _, event in seen] == list(range(1, len(seen) + 1))
    assert [event["what"] for _, event in seen][0] == "accepted"
    assert seen[-1][1]["counts"] == {"succeeded": 2}

    # Whoever was away finds what it missed.
    await bus.close()
    away = await nats.connect(url)
    second = await ask(away, {"spec": SPEC, "tags": {"try": "2"}})
    await away.publish(f"{root}.request.run", json.dumps({"spec": SPEC, "name": "no answer"}).encode())
    await away.flush()
    back = await nats.connect(url)
    mine = await back.jetstream().subscribe(f"{root}.event.>", stream=f"{root}-events", durable="dashboard")
    runs = {}
    while sum(events[-1] in ("succeeded", "failed") for events in runs.values()) < 2:
        message = await mine.next_msg(timeout=30)
        await message.ack()
        tokens = message.subject.split(".")
        if tokens[4] == "run" or tokens[4] == "step":
            event = json.loads(message.data)
            events = runs.setdefault(tokens[3], [])
            if tokens[4] == "run":
                events.append(event["what"])
            if event["what"] == "succeeded" and tokens[4] == "run":
                assert event["counts"] == {"reused": 2}, event
    assert second["run"] in runs and len(runs) == 2, runs

    # Bad requests are answered, and everything else goes on.
    for body, code in (
        (b"", "E_EMPTY"), (b"{", "E_DECODE"), (b"[1]", "E_TYPE"), ({"pipelin": "x"}, "E_UNKNOWN_FIELD"),
        ({"pipeline": "nowhere"}, "E_NOT_FOUND"), ({}, None),
        ({"spec": {"steps": {"a": {"command": "true", "needs": ["b"]}}}}, "E_REF"),
        ({"spec": {"steps": {"a": {"command": "true", "needs": ["a"]}}}}, None),
    ):
        error = (await ask(back, body))["error"]
        assert error["code"] and error["message"], error
        assert code is None or error["code"] == code, (body, error)
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order", "data": {"spec": SPEC}}
    told = await ask(back, event, headers={"content-type": "application/cloudevents+json"})
    assert told["state"] == "queued", told
    view = {"state": ""}
    while view["state"] not in ("succeeded", "failed"):
        view = await ask(back, {"run": told["run"]}, "query.run")
        await asyncio.sleep(0.05)
    assert view["state"] == "succeeded"
    await back.close()
    await away.close()
    print("ok", len(seen))

asyncio.run(main())
'''


def test_a_plain_nats_program_runs_a_pipeline_and_sees_every_event(
    tmp_path: Path, nats: NatsServer, workspace: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    store = f"file:{tmp_path / 'store'}"
    with Fleet(tmp_path / "fleet", bus=nats.url, store=store, workspace=workspace) as fleet:
        for service in SERVICES:
            fleet.start(service)
        ran = subprocess.run(
            [sys.executable, str(program), nats.url, workspace],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith("ok")
