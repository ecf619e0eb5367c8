"""A pipeline from registration to rerun, with every service real."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer

pytestmark = pytest.mark.server

WAIT_S = 60.0
SPEC = {
    "name": "digits",
    "inputs": {
        "flag": {"type": "string", "default": "bad"},
        "note": {"type": "string", "optional": True},
    },
    "outputs": {"model": None},
    "steps": {
        "prepare": {"command": "echo data > ${{outputs.o}}/x.txt", "outputs": {"o": None}},
        "train": {
            "command": "test ${{inputs.flag}} = good && cp ${{inputs.d}}/x.txt ${{outputs.m}} "
            "$[[&& echo ${{inputs.note}}]]",
            "inputs": {
                "d": "${{parent.jobs.prepare.outputs.o}}",
                "flag": "${{parent.inputs.flag}}",
                "note": "${{parent.inputs.note}}",
            },
            "outputs": {"m": "${{parent.outputs.model}}"},
        },
    },
}


@pytest.fixture
async def client(nats: NatsServer, workspace: str) -> AsyncIterator[Client]:
    connection = Client()
    await connection.connect(nats.url)
    yield connection
    manager = connection.jetstream()
    for stream in await manager.streams_info():  # they reserve space
        name = stream.config.name or ""
        if name.removeprefix("KV_").startswith(f"{workspace}-"):
            await manager.delete_stream(name)
    await connection.close()


async def test_a_failed_run_is_rerun_with_another_parameter_and_keeps_what_succeeded(
    nats: NatsServer, client: Client, workspace: str, names: Subjects, tmp_path: Path
) -> None:
    async def ask(subject: str, **body: Any) -> dict[str, Any]:
        answer = await client.request(subject, json.dumps(body).encode(), timeout=WAIT_S)
        result: dict[str, Any] = json.loads(answer.data)
        return result

    async def ended(run: str) -> dict[str, Any]:
        over = asyncio.Event()

        async def take(message: object) -> None:
            over.set()

        subscriptions = [
            await client.subscribe(names.run_event("digits", run, what), cb=take)
            for what in ("succeeded", "failed", "cancelled")
        ]
        await client.flush()
        view = await ask(names.query("run"), run=run)
        if view.get("state") not in ("succeeded", "failed", "cancelled"):
            await asyncio.wait_for(over.wait(), WAIT_S)
        for subscription in subscriptions:
            await subscription.unsubscribe()
        async with asyncio.timeout(WAIT_S):
            while view.get("state") not in ("succeeded", "failed", "cancelled"):
                view = await ask(names.query("run"), run=run)
        return view

    def told(view: dict[str, Any]) -> dict[str, str]:
        return {step["step"]: step["state"] for step in view["steps"]}

    store = f"file:{tmp_path}/store"
    with Fleet(tmp_path / "fleet", bus=nats.url, store=store, workspace=workspace) as fleet:
        for service in ("artifact", "planner", "scheduler", "executor"):
            fleet.start(service)
        await ask(names.query("pipeline.create"), spec=SPEC)
        first = (await ask(names.request("run"), pipeline="digits"))["run"]
        assert told(await ended(first)) == {"prepare": "succeeded", "train": "failed"}

        forecast = await ask(names.query("plan"), pipeline="digits", parameters={"flag": "good"})
        assert [(s["step"], s["decision"], s["reason"]) for s in forecast["steps"]] == [
            ("prepare", "reuse", f"same as run {first}"),
            ("train", "run", "first run of this step"),
        ]

        again = await ask(names.request("rerun"), run=first, parameters={"flag": "good"})
        view = await ended(again["run"])
        assert (view["state"], view["rerun_of"]) == ("succeeded", first)
        assert told(view) == {"prepare": "reused", "train": "succeeded"}
        assert view["parameters"] == {"flag": "good"}

        third = await ask(names.request("run"), pipeline="digits@1", parameters={"flag": "good"})
        assert told(await ended(third["run"])) == {"prepare": "reused", "train": "reused"}
        over = await ask(names.request("cancel"), run=third["run"])
        assert (over["state"], over["error"]["code"]) == ("succeeded", "E_ENDED")
        last = await ask(names.request("rerun"), run=again["run"])
        assert last["notes"] == [
            f"every step of run {again['run']} has succeeded; nothing will run again"
        ]
        assert told(await ended(last["run"])) == {"prepare": "reused", "train": "reused"}
