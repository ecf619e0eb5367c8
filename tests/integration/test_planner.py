"""Real planner processes on a real nats-server, asked by a program that knows nothing of us."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from penstock.bus import Stored
from penstock.bus.buckets import Bucket
from penstock.bus.nats import NatsBus
from penstock.contracts.artifacts import ExistAnswer, ExistRequest, TreeRef
from penstock.contracts.codec import decoded, encoded, inbound
from penstock.contracts.events import RunEvent
from penstock.contracts.inbox import CancelRun
from penstock.contracts.plans import Given, PlanPart
from penstock.contracts.queries import RunSummary, RunView, StepView
from penstock.contracts.requests import RunAnswer
from penstock.contracts.subjects import Subjects
from penstock.ids import is_run_id
from penstock.runtime.logs import logger
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock_planner.decide.reading import wish_of
from penstock_planner.shell.callers import Callers
from penstock_planner.shell.intake import Intake
from penstock_planner.shell.pipelines import Pipelines
from penstock_planner.shell.runs import Runs

pytestmark = pytest.mark.server

WAIT_S = 20.0
SPEC = {
    "name": "digits",
    "inputs": {"lr": {"type": "number", "default": 0.1}},
    "outputs": {"model": None},
    "steps": {
        "prepare": {"command": "prepare > ${{outputs.clean}}/x", "outputs": {"clean": None}},
        "train": {
            "command": "train ${{inputs.data}} ${{inputs.lr}}",
            "inputs": {
                "data": "${{parent.jobs.prepare.outputs.clean}}",
                "lr": "${{parent.inputs.lr}}",
            },
            "outputs": {"model": "${{parent.outputs.model}}"},
        },
    },
}
DIGEST = "a" * 64


@pytest.fixture
async def fleet(
    nats: NatsServer, workspace: str, tmp_path: Path, client: Client
) -> AsyncIterator[Fleet]:
    """Processes to start; the workspace's streams reserve space and go when the test ends."""
    with Fleet(tmp_path, bus=nats.url, store="", workspace=workspace) as members:
        yield members
    manager = client.jetstream()
    for stream in await manager.streams_info():
        name = stream.config.name or ""
        if name.removeprefix("KV_").startswith(f"{workspace}-"):
            await manager.delete_stream(name)


@pytest.fixture
async def client(nats: NatsServer) -> AsyncIterator[Client]:
    connection = Client()
    await connection.connect(nats.url)
    yield connection
    await connection.close()


class Program:
    """What an outsider can do: send JSON to a subject."""

    def __init__(self, client: Client, names: Subjects) -> None:
        self.client = client
        self.names = names

    async def ask(self, subject: str, body: object, **headers: str) -> dict[str, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.request(subject, data, timeout=WAIT_S, headers=named or None)
        result: dict[str, Any] = json.loads(answer.data)
        return result

    async def request(self, what: str, body: object, **headers: str) -> dict[str, Any]:
        return await self.ask(self.names.request(what), body, **headers)

    async def query(self, what: str, body: object) -> dict[str, Any]:
        return await self.ask(self.names.query(what), body)


@pytest.fixture
def program(client: Client, names: Subjects) -> Program:
    return Program(client, names)


async def contents(bus: NatsBus, stream: str) -> list[Any]:
    """Return the messages of a stream one by one: a work queue lets nobody else consume it."""
    manager = JetStreamContext(bus.connection.client)
    found: list[Any] = []
    sequence = 1
    while True:
        try:
            message = await manager.get_msg(stream, sequence, subject=">", next=True)
        except NotFoundError:
            return found
        assert message.seq is not None
        sequence = message.seq + 1
        found.append(message)


async def count(bus: NatsBus, stream: str) -> int:
    state = (await JetStreamContext(bus.connection.client).stream_info(stream)).state
    return state.messages


async def inbox(bus: NatsBus, names: Subjects) -> list[Any]:
    """Return what is in all inboxes now."""
    return [inbound(message.data) for message in await contents(bus, names.stream("inbox"))]


async def plans(bus: NatsBus, names: Subjects) -> list[PlanPart]:
    return [message for message in await inbox(bus, names) if isinstance(message, PlanPart)]


async def until_plans(bus: NatsBus, names: Subjects, wanted: int) -> int:
    """Wait until `wanted` parts are in the inbox; return how many there are then."""
    stream = names.stream("inbox")
    arrived = asyncio.Event()

    async def take(message: object) -> None:
        arrived.set()

    subscription = await bus.subscribe(f"{names.workspace}.inbox.>", take)
    async with asyncio.timeout(WAIT_S):
        while (found := await count(bus, stream)) < wanted:
            await arrived.wait()
            arrived.clear()
    await subscription.close()
    return found


async def until_settled(bus: NatsBus, names: Subjects, wait_s: float = WAIT_S) -> None:
    """Wait until every request is acknowledged: the work queue is empty."""
    async with asyncio.timeout(wait_s):
        while await count(bus, names.stream("requests")):  # noqa: ASYNC110 - no event tells of an ack
            await asyncio.sleep(0.05)


async def refused_events(
    bus: NatsBus, names: Subjects
) -> list[tuple[str, RunEvent, dict[str, str]]]:
    found: list[tuple[str, RunEvent, dict[str, str]]] = []
    await bus.replay(
        names.stream("events"),
        [names.events()],
        lambda s: found.append((s.subject, decoded(s.data, RunEvent), dict(s.headers))),
    )
    return found


# -- answers ---------------------------------------------------------------------------------------


async def test_a_plain_program_gets_a_run_and_the_plan_is_in_the_inbox(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    answer = await program.request("run", {"spec": SPEC, "parameters": {"lr": 0.5}, "who": "me"})
    assert answer == {"run": answer["run"], "state": "queued"}
    assert is_run_id(answer["run"])
    (part,) = await plans(bus, names)
    assert (part.head.run, part.head.pipeline, part.head.who) == (answer["run"], "digits", "me")
    assert part.head.parameters == {"lr": 0.5}
    assert part.head.outputs == {"model": ("train", "model")}
    assert [step.name for step in part.steps] == ["prepare", "train"]
    specs: Bucket[Any] = Bucket(bus, names.bucket("specs"), dict)
    kept = await specs.get(part.head.spec)
    assert kept is not None
    assert sorted(kept.value["steps"]) == ["prepare", "train"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (
            {"spec": SPEC},
            {"ce_id": "1", "ce_source": "/x", "ce_type": "t", "ce_specversion": "1.0"},
        ),
        (
            {"specversion": "1.0", "id": "1", "source": "/x", "type": "t", "data": {"spec": SPEC}},
            {"content_type": "application/cloudevents+json"},
        ),
    ],
    ids=["binary", "structured"],
)
async def test_a_cloudevent_is_answered_too(
    fleet: Fleet, program: Program, body: object, headers: dict[str, str]
) -> None:
    fleet.start("planner")
    answer = await program.request("run", body, **headers)
    assert answer["state"] == "queued"


async def test_bad_requests_are_answered_and_recorded_and_the_next_good_one_is_planned(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    bad: list[tuple[bytes, str, str]] = [
        (b"", "E_EMPTY", "unknown"),
        (b"\xff", "E_DECODE", "unknown"),
        (b"[" * 100_000, "E_DECODE", "unknown"),
        (b'{"parameters": {"lr": NaN}}', "E_NUMBER", "unknown"),
        (b"{}", "E_REQUEST", "unknown"),
        (b'{"pipeline": "nobody"}', "E_NOT_FOUND", "nobody"),
        (b'{"spec": {"name": "mine", "steps": {}}}', "E_EMPTY", "mine"),
        (b'{"spec": {"steps": {"a": {"comand": "x"}}}}', "E_UNKNOWN_FIELD", "unnamed"),
    ]
    for body, code, _ in bad:
        answer = await program.request("run", body)
        assert answer["error"]["code"] == code, answer
    answer = await program.request("rum", {})
    assert answer["error"]["code"] == "E_REQUEST"
    events = await refused_events(bus, names)
    assert [(e.pipeline, e.error.code if e.error else "") for _, e, _ in events] == [
        (pipeline, code) for _, code, pipeline in bad
    ]
    subject, event, headers = events[0]
    assert subject == names.run_event("unknown", event.run, "refused")
    assert (event.seq, headers["ce-id"], headers["ce-type"]) == (
        1,
        f"{event.run}.1",
        "penstock.run.refused.v1",
    )
    assert (await program.request("run", {"spec": SPEC}))["state"] == "queued"
    assert len(await plans(bus, names)) == 1
    await until_settled(bus, names)


async def test_a_publish_without_a_reply_is_planned_exactly_once(
    fleet: Fleet, client: Client, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    fleet.start("planner")
    await client.publish(names.request("run"), json.dumps({"spec": SPEC}).encode())
    await until_plans(bus, names, 1)
    await until_settled(bus, names)
    assert len(await plans(bus, names)) == 1


async def test_a_request_made_while_no_planner_runs_is_planned_later(
    fleet: Fleet, client: Client, bus: NatsBus, names: Subjects
) -> None:
    planner = fleet.start("planner")
    assert fleet.terminate(planner) == 0
    await client.publish(names.request("run"), json.dumps({"spec": SPEC}).encode())
    await client.flush()
    fleet.restart(planner)
    await until_plans(bus, names, 1)


async def test_a_reply_address_of_ours_is_not_published_to(
    fleet: Fleet, client: Client, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    stream = names.stream("events")
    for reply in (f"$JS.API.STREAM.PURGE.{stream}", names.request("cancel")):
        body = json.dumps({"spec": {"steps": {}}}).encode()
        await client.publish(names.request("run"), body, reply=reply)
    await client.flush()
    await until_settled(bus, names)
    assert len(await refused_events(bus, names)) == 2


# -- several planners ------------------------------------------------------------------------------


async def test_fifty_equal_requests_at_once_are_fifty_runs_and_fifty_answers(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    fleet.start("planner")
    answers = await asyncio.gather(*(program.request("run", {"spec": SPEC}) for _ in range(50)))
    runs = {answer["run"] for answer in answers}
    assert len(runs) == 50
    parts = await plans(bus, names)
    assert len(parts) == 50
    assert {part.head.run for part in parts} == runs


async def test_each_caller_gets_the_answer_to_its_own_request(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    fleet.start("planner")
    answers = await asyncio.gather(
        *(program.request("run", {"spec": SPEC, "name": f"n{number}"}) for number in range(60))
    )
    parts = await plans(bus, names)
    assert len(parts) == 60
    named = {part.head.run: part.head.display_name for part in parts}
    assert [named[answer["run"]] for answer in answers] == [f"n{number}" for number in range(60)]


@pytest.mark.slow
async def test_a_killed_planner_loses_and_doubles_nothing(
    fleet: Fleet, client: Client, bus: NatsBus, names: Subjects
) -> None:
    planner = fleet.start("planner", concurrency="4")
    for number in range(200):
        body = {"spec": SPEC, "name": f"n{number}"}
        if number % 2:
            body["idempotency_key"] = f"key/{number}"
        await client.publish(names.request("run"), json.dumps(body).encode())
    await client.flush()
    for enough in (30, 80, 130):
        seen = await until_plans(bus, names, enough)
        fleet.kill(planner)
        assert seen < 200, "the kill came too late to prove anything"
        fleet.restart(planner)
    await until_settled(bus, names, 60)
    parts = await plans(bus, names)
    assert sorted(part.head.display_name for part in parts) == sorted(f"n{n}" for n in range(200))
    assert len({part.head.run for part in parts}) == 200


@pytest.mark.slow
async def test_a_caller_is_answered_when_the_planner_that_works_for_it_dies(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    first, second = fleet.start("planner"), fleet.start("planner")
    asked = [
        asyncio.create_task(program.request("run", {"spec": SPEC, "name": f"n{n}"}))
        for n in range(100)
    ]
    await until_plans(bus, names, 10)
    fleet.kill(first)
    results = await asyncio.gather(*asked, return_exceptions=True)
    answered = [r for r in results if isinstance(r, dict)]
    lost = [r for r in results if isinstance(r, NatsTimeout)]
    assert len(answered) + len(lost) == 100
    assert answered, "the survivor answers whoever asked through it"
    await until_settled(bus, names, 60)
    parts = await plans(bus, names)
    assert sorted(part.head.display_name for part in parts) == sorted(f"n{n}" for n in range(100))
    assert {r["run"] for r in answered} <= {part.head.run for part in parts}
    assert fleet.alive(second)


# -- idempotency -----------------------------------------------------------------------------------


async def test_one_key_is_one_run_whoever_asks_and_another_body_is_a_conflict(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    fleet.start("planner")
    body = {"spec": SPEC, "idempotency_key": "schedule/nightly/1/2026-01-01T02:30"}
    answers = await asyncio.gather(*(program.request("run", body) for _ in range(20)))
    assert len({answer["run"] for answer in answers}) == 1
    assert len(await plans(bus, names)) == 1
    other = await program.request("run", {**body, "parameters": {"lr": 2}})
    assert other["error"]["code"] == "E_IDEMPOTENCY_CONFLICT"
    assert answers[0]["run"] in other["error"]["message"]
    assert len(await plans(bus, names)) == 1


async def test_a_key_used_by_two_planners_in_two_seconds_is_one_run(
    fleet: Fleet, bus: NatsBus, names: Subjects
) -> None:
    started = fleet.start("planner")
    assert fleet.terminate(started) == 0
    trees = TreeClient(bus, names, patience_s=0)
    body = json.dumps({"spec": SPEC, "idempotency_key": "k"}).encode()
    wish = wish_of("run", body, {})
    answers = await asyncio.gather(
        *(
            Runs(bus, names, Pipelines(bus, names, trees), trees).fulfil(
                wish, Stored(names.request("run"), body, number, 1.8e9 + number), again=False
            )
            for number in range(1, 9)
        )
    )
    assert len({answer.run for answer in answers}) == 1
    (part,) = await plans(bus, names)
    assert part.head.run == answers[0].run
    await trees.close()


async def test_who_loses_a_race_for_a_key_plans_the_winner_s_run_from_the_beginning(
    fleet: Fleet, bus: NatsBus, names: Subjects
) -> None:
    """The winner dies with the key in its hand: the others' plan is that of its run and moment, all of it."""
    started = fleet.start("planner")
    assert fleet.terminate(started) == 0
    trees = TreeClient(bus, names, patience_s=0)
    texts = {"run": "${{name}}", "at": "${{creation_context.trigger_time}}"}
    bound = {name: f"${{{{parent.inputs.{name}}}}}" for name in texts}
    own = {"own": "${{name}} ${{creation_context.trigger_time}}"}
    steps = {"a": {"command": "true", "inputs": bound | own}}
    spec = {"name": "p", "inputs": texts, "steps": steps}
    body = json.dumps({"spec": spec, "idempotency_key": "k"}).encode()
    wish = wish_of("run", body, {})
    claimed: list[str] = []

    class Killed(Exception):
        """What a kill is to those around it."""

    def die(point: str) -> None:
        if point == "planner.after-key":
            claimed.append(point)
            if len(claimed) == 1:
                raise Killed

    answers = await asyncio.gather(
        *(
            Runs(bus, names, Pipelines(bus, names, trees), trees, crash=die).fulfil(
                wish, Stored(names.request("run"), body, number, 1.8e9 + number), again=False
            )
            for number in range(1, 9)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Killed) for answer in answers) == 1
    (part,) = await plans(bus, names)
    head = part.head
    assert {answer.run for answer in answers if isinstance(answer, RunAnswer)} == {head.run}
    moment = datetime.fromtimestamp(head.requested_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert head.parameters == {"run": head.run, "at": moment}
    values = {name: bound.value for name, bound in part.steps[0].inputs.items()}
    assert values == {"run": head.run, "at": moment, "own": f"{head.run} {moment}"}
    await trees.close()


async def test_a_refused_request_does_not_use_up_its_key(fleet: Fleet, program: Program) -> None:
    fleet.start("planner")
    body = {"spec": SPEC, "idempotency_key": "k", "parameters": {"lr": "x"}}
    assert (await program.request("run", body))["error"]["code"] == "E_TYPE"
    assert (await program.request("run", {**body, "parameters": {}}))["state"] == "queued"


# -- registered pipelines --------------------------------------------------------------------------


async def test_pipelines_are_registered_listed_shown_and_run(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    first = await program.query("pipeline.create", {"spec": {**SPEC, "git": {"commit": "c1"}}})
    assert (first["name"], first["version"], first["created"]) == ("digits", "1", True)
    same = await program.query("pipeline.create", {"spec": {**SPEC, "git": {"commit": "c2"}}})
    assert (same["version"], same.get("created", False)) == ("1", False)
    changed = {**SPEC, "description": "better"}
    second = await program.query("pipeline.create", {"name": "digits", "spec": changed})
    assert (second["version"], second["created"]) == ("2", True)
    listed = await program.query("pipeline.list", {})
    assert [(p["name"], p["version"]) for p in listed["pipelines"]] == [("digits", "2")]
    listed = await program.query("pipeline.list", {"name": "digits"})
    assert [p["version"] for p in listed["pipelines"]] == ["1", "2"]
    shown = await program.query("pipeline.show", {"name": "digits@1"})
    assert sorted(shown["definition"]["steps"]) == ["prepare", "train"]
    for wanted, version in (("digits", "2"), ("digits@1", "1"), ("digits@latest", "2")):
        answer = await program.request("run", {"pipeline": wanted})
        parts = {p.head.run: p for p in await plans(bus, names)}
        assert parts[answer["run"]].head.version == version
    assert parts[answer["run"]].head.git.commit == ""
    missing = await program.request("run", {"pipeline": "digit"})
    assert missing["error"]["hint"] == "did you mean 'digits'?"
    missing = await program.request("run", {"pipeline": "digits@9"})
    assert missing["error"]["hint"] == "the newest is 2"
    refused = await program.query("pipeline.create", {"name": "x", "spec": {"steps": {}}})
    assert refused["error"]["code"] == "E_EMPTY"
    refused = await program.query("pipeline.create", {"spec": {**SPEC, "name": "unnamed"}})
    assert refused["error"]["where"] == "request.name"


async def test_creators_who_race_get_versions_without_a_gap(fleet: Fleet, program: Program) -> None:
    fleet.start("planner")
    fleet.start("planner")
    views = await asyncio.gather(
        *(
            program.query("pipeline.create", {"spec": {**SPEC, "description": f"d{n % 8}"}})
            for n in range(24)
        )
    )
    by_content: dict[str, set[str]] = {}
    for number, view in enumerate(views):
        by_content.setdefault(f"d{number % 8}", set()).add(view["version"])
    assert all(len(versions) == 1 for versions in by_content.values()), by_content
    assert set.union(*by_content.values()) == {str(n) for n in range(1, 9)}
    latest = await program.query("pipeline.show", {"name": "digits"})
    assert latest["version"] == "8"


# -- plan, cancel, rerun ---------------------------------------------------------------------------


async def test_a_plan_is_forecast_without_running(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    forecast = await program.query("plan", {"spec": SPEC})
    assert forecast["pipeline"] == "digits"
    assert [(s["step"], s["decision"], s["reason"]) for s in forecast["steps"]] == [
        ("prepare", "run", "first run of this step"),
        ("train", "unknown", "depends on what prepare will make"),
    ]
    refused = await program.query("plan", {"spec": SPEC, "parameters": {"lrr": 1}})
    assert refused["error"]["code"] == "E_PARAM"
    assert await inbox(bus, names) == []


async def test_a_cancel_reaches_the_run_or_is_told_why_not(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("planner")
    unknown = await program.request("cancel", {"run": "0" * 15})
    assert unknown["error"]["code"] == "E_NOT_FOUND"
    run = (await program.request("run", {"spec": SPEC}))["run"]
    assert await program.request("cancel", {"run": run, "reason": "enough"}) == {
        "run": run,
        "state": "queued",
    }
    cancels = [m for m in await inbox(bus, names) if isinstance(m, CancelRun)]
    assert cancels == [CancelRun(run=run, reason="enough")]
    summaries = Bucket(bus, names.bucket("runs"), RunSummary)
    await summaries.put(run, RunSummary(run=run, pipeline="digits", state="succeeded"))
    ended = await program.request("cancel", {"run": run})
    assert (ended["run"], ended["state"], ended["error"]["code"]) == (run, "succeeded", "E_ENDED")
    assert await refused_events(bus, names) == []


async def test_a_rerun_from_failed_takes_over_what_succeeded(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    """Scheduler and artifact service are played by their contracts: one run that failed in train."""
    fleet.start("planner")
    run = (await program.request("run", {"spec": SPEC}))["run"]
    (part,) = await plans(bus, names)
    steps = (
        StepView(
            step="prepare",
            state="succeeded",
            outputs={"clean": TreeRef(digest=DIGEST)},
            metrics={"rows": 3},
            fingerprint="f",
        ),
        StepView(step="train", state="failed"),
    )

    async def query_run(message: Any) -> None:
        first = json.loads(message.data).get("first", 0)
        view = RunView(
            run=run,
            pipeline="digits",
            state="failed",
            steps=steps[first : first + 1],  # one step a page
            steps_total=len(steps),
        )
        await bus.publish(message.reply, encoded(view))

    async def exist(message: Any) -> None:
        asked = decoded(message.data, ExistRequest)
        await bus.publish(message.reply, encoded(ExistAnswer(digests=asked.digests)))

    subscriptions = [
        await bus.subscribe(names.query("run"), query_run),
        await bus.subscribe(names.artifact("exist"), exist),
    ]
    early = await program.request("rerun", {"run": run})
    assert early["error"]["code"] == "E_NOT_ENDED"
    summary = RunSummary(
        run=run,
        pipeline="digits",
        state="failed",
        spec=part.head.spec,
        parameters=dict(part.head.parameters),
        tags={"a": "b"},
    )
    await Bucket(bus, names.bucket("runs"), RunSummary).put(run, summary)

    async def rerun(**body: Any) -> tuple[PlanPart, dict[str, Any]]:
        answer = await program.request("rerun", {"run": run, **body})
        found = [p for p in await plans(bus, names) if p.head.run == answer.get("run")]
        assert answer["run"] != run
        return found[0], answer

    prepared = Given(run=run, outputs={"clean": DIGEST}, metrics={"rows": 3}, fingerprint="f")
    new, _ = await rerun()
    assert (new.head.rerun_of, new.head.tags) == (run, {"a": "b"})
    assert [step.given for step in new.steps] == [prepared, None]
    new, _ = await rerun(**{"from": "start"})
    assert [step.given for step in new.steps] == [None, None]
    new, _ = await rerun(**{"from": ["prepare"]})
    assert [(step.given, step.fresh) for step in new.steps] == [(None, True), (None, False)]
    new, _ = await rerun(parameters={"lr": 3}, **{"from": ["train"]})
    assert new.head.parameters == {"lr": 3}
    assert [step.given for step in new.steps] == [prepared, None]
    wrong = await program.request("rerun", {"run": run, "from": ["trian"]})
    assert wrong["error"]["hint"] == "did you mean 'train'?"
    wrong = await program.request("rerun", {"run": "0" * 15})
    assert wrong["error"]["code"] == "E_NOT_FOUND"
    for subscription in subscriptions:
        await subscription.close()


# -- set aside -------------------------------------------------------------------------------------


async def test_a_request_that_never_succeeds_is_set_aside_and_answered(
    fleet: Fleet, program: Program, bus: NatsBus, names: Subjects
) -> None:
    """The spec is an artifact and no artifact service runs: five tries, then the dead letter."""
    started = fleet.start("planner")  # makes streams and buckets
    assert fleet.terminate(started) == 0
    log = logger("planner", "test")
    trees = TreeClient(bus, names, patience_s=0)
    callers = Callers(bus, names, log)
    runs = Runs(bus, names, Pipelines(bus, names, trees), trees)
    intake = Intake(bus, names, runs, callers, log=log, concurrency=4, delays_s=(0.01,))
    await callers.start()
    await intake.start()
    with contextlib.suppress(asyncio.CancelledError):
        bad, good = await asyncio.gather(
            program.request("run", {"spec": f"artifact:{DIGEST}"}),
            program.request("run", {"spec": SPEC}),
        )
    assert bad["error"]["code"] == "E_NO_RESPONDER"
    assert good["state"] == "queued"
    await until_settled(bus, names)
    dead: list[Any] = []
    await bus.replay(names.stream("dead"), [names.dead("requests")], dead.append)
    (letter,) = dead
    assert json.loads(letter.data) == {"spec": f"artifact:{DIGEST}"}
    assert letter.headers["Penstock-Code"] == "E_NO_RESPONDER"
    assert letter.headers["Penstock-Deliveries"] == "5"
    await intake.close()
    await callers.close()
    await trees.close()


# -- delivered again -------------------------------------------------------------------------------


async def test_a_request_delivered_again_long_after_makes_no_second_plan(
    fleet: Fleet, bus: NatsBus, names: Subjects
) -> None:
    """The bus forgets message ids after a while; the inbox and the bucket `runs` do not."""
    started = fleet.start("planner")
    assert fleet.terminate(started) == 0
    manager = JetStreamContext(bus.connection.client)
    forgetful = (await manager.stream_info(names.stream("inbox"))).config
    forgetful.duplicate_window = 0.1
    await manager.update_stream(forgetful)
    trees = TreeClient(bus, names, patience_s=0)
    runs = Runs(bus, names, Pipelines(bus, names, trees), trees)
    many = {"name": "wide", "steps": {f"s{n}": {"command": "true"} for n in range(1200)}}
    body = json.dumps({"spec": many}).encode()
    message = Stored(names.request("run"), body, sequence=7, at=1_800_000_000.0)
    wish = wish_of("run", body, {})

    async def forgotten(message_id: str) -> None:
        """Wait until the stream takes a message of this id again, as it does when it forgot."""
        async with asyncio.timeout(WAIT_S):
            while True:
                subject = names.inbox("0" * 15, "probe", "x")
                answer = await bus.append(subject, b"{}", message_id=message_id)
                if not answer.duplicate:
                    break
        await bus.purge(names.stream("inbox"), names.inbox("0" * 15, "probe", "x"))

    first = await runs.fulfil(wish, message, again=False)
    parts = await plans(bus, names)
    assert [part.part for part in parts] == [0, 1, 2]
    await forgotten(f"{first.run}.plan.2")

    # killed after the parts: they lie in the inbox, and nothing is added
    assert await runs.fulfil(wish, message, again=True) == first
    assert await plans(bus, names) == parts

    # killed between two parts: the missing one is added, byte for byte
    await bus.purge(names.stream("inbox"), names.inbox(first.run, "plan", "part1"))
    assert await runs.fulfil(wish, message, again=True) == first
    assert sorted(await plans(bus, names), key=lambda part: part.part) == parts

    # killed before the ack, while the scheduler took everything in: nothing comes back
    await bus.purge(names.stream("inbox"), names.inbox(first.run, "plan", "*"))
    summary = RunSummary(run=first.run, pipeline="wide", state="running")
    await Bucket(bus, names.bucket("runs"), RunSummary).put(first.run, summary)
    assert await runs.fulfil(wish, message, again=True) == first
    assert await plans(bus, names) == []
    await trees.close()
