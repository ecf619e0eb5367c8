"""`penstock schedule` as people and scripts call it, against a real trigger on a real bus."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from penstock.bus.nats import connect
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.planner import RecordingPlanner
from penstock.testing.servers import NATS_BINARY, NatsServer, binary

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server and one trigger process for all tests of this module."""
    if binary(NATS_BINARY) is None:
        pytest.skip(f"{NATS_BINARY} is missing")
    folder = tmp_path_factory.mktemp("stack")
    server = NatsServer(folder / "nats")
    server.start()
    with Fleet(folder / "fleet", bus=server.url, store="", workspace="cli") as fleet:
        fleet.start("trigger")
        yield server
    server.stop()


@pytest.fixture
async def planner(stack: NatsServer) -> AsyncIterator[RecordingPlanner]:
    bus = await connect(stack.url, name="planner")
    planner = RecordingPlanner(bus, Subjects("cli"))
    await planner.start()
    yield planner
    await planner.stop()
    await bus.close()


@dataclass
class Command:
    """The command line, in an empty folder."""

    url: str
    folder: Path

    async def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `penstock schedule …` and return what came of it."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "penstock.cli.main", "schedule", *words,
             "--bus", self.url, "--workspace", "cli"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )  # fmt: skip


@pytest.fixture
def schedule(stack: NatsServer, tmp_path: Path) -> Command:
    return Command(stack.url, tmp_path)


async def test_a_schedule_is_made_listed_paused_run_and_removed(
    schedule: Command, planner: RecordingPlanner
) -> None:
    made = await schedule(
        "create", "nightly", "--pipeline", "digits", "--cron", "30 2 * * *",
        "--time-zone", "Europe/Berlin", "--start", "2027-01-01T00:00:00Z", "--catch-up", "last",
        "--overlap", "skip", "-p", "rate=0.1", "-p", "name=x", "--tag", "team=a", "-o", "json",
    )  # fmt: skip
    assert (made.returncode, made.stderr) == (0, "")
    view = json.loads(made.stdout)
    assert view["schedule"] | {"created_at": 0} == {
        "name": "nightly", "pipeline": "digits", "cron": "30 2 * * *",
        "time_zone": "Europe/Berlin", "start": "2027-01-01T00:00:00Z", "catch_up": "last",
        "overlap": "skip", "paused": False, "parameters": {"rate": 0.1, "name": "x"},
        "tags": {"team": "a"}, "created_at": 0, "revision": 1,
    }  # fmt: skip
    assert len(view["next_due"]) == 5
    assert "02:30 does not exist on 2027-03-28" in " ".join(view["notes"])

    listed = await schedule("list")
    assert "nightly" in listed.stdout
    assert "30 2 * * *  Europe/Berlin" in listed.stdout
    assert (await schedule("list", "-o", "name")).stdout == "nightly\n"
    shown = await schedule("show", "nightly")
    assert "rate = 0.1" in shown.stdout
    assert "fires at 03:00" in shown.stderr

    ran = await schedule("run-now", "nightly", "-o", "json")
    assert json.loads(ran.stdout)["run"] in planner.runs.values()
    request = planner.requests[-1][1]
    assert (request.pipeline, request.parameters) == ("digits", {"rate": 0.1, "name": "x"})

    paused = await schedule("pause", "nightly", "-o", "yaml")
    assert "paused: true" in paused.stdout
    assert "active" in (await schedule("resume", "nightly")).stdout
    assert (await schedule("delete", "nightly")).stdout == "nightly deleted\n"
    empty = await schedule("list")
    assert (empty.stdout, "no schedules yet" in empty.stderr) == ("", True)


async def test_a_file_says_the_same_and_options_go_before_it(
    schedule: Command, planner: RecordingPlanner
) -> None:
    file = schedule.folder / "often.yml"
    file.write_text(
        "name: often\npipeline: digits\nevery: 1.5h\noverlap: queue\nparameters: {rate: 0.2, n: 3}\n"
    )
    made = await schedule("create", "--file", str(file), "-p", "n=4", "-o", "json")
    body = json.loads(made.stdout)["schedule"]
    assert (body["every"], body["overlap"]) == (5400, "queue")
    assert body["parameters"] == {"rate": 0.2, "n": 4}
    again = await schedule("create", "--file", str(file))
    assert again.returncode == 2
    assert "E_EXISTS" in again.stderr
    assert "--replace" in again.stderr
    changed = await schedule(
        "create", "--file", str(file), "--replace", "--cron", "0 4 * * *", "-o", "json"
    )
    body = json.loads(changed.stdout)["schedule"]
    assert (body["cron"], "every" in body, body["revision"]) == ("0 4 * * *", False, 2)
    assert (await schedule("delete", "often")).returncode == 0


async def test_errors_say_what_was_found_what_is_allowed_and_exit_as_documented(
    schedule: Command, planner: RecordingPlanner
) -> None:
    planner.unknown.add("none")
    file = schedule.folder / "bad.yml"
    for words, code, text in (
        (("create", "x", "--pipeline", "p"), 2, "exactly one of cron and every"),
        (("create", "x", "--pipeline", "p", "--cron", "61 * * * *"), 2, "found '61'; allowed: 0 to 59"),
        (("create", "x", "--pipeline", "p", "--cron", "@reboot"), 2, "E_CRON"),
        (("create", "x", "--pipeline", "p", "--every", "soon"), 2, "30s, 5m, 1h"),
        (("create", "x", "--pipeline", "p", "--every", "0.1s"), 2, "E_INTERVAL"),
        (("create", "x", "--pipeline", "p", "--every", "5s", "--time-zone", "Berlin"), 2,
         "did you mean 'Europe/Berlin'?"),
        (("create", "x", "--pipeline", "p", "--every", "5s", "--end", "noon"), 2, "E_TIME"),
        (("create", "x", "--pipeline", "none", "--every", "5s"), 3, "E_NOT_FOUND"),
        (("create", "x", "--pipeline", "p", "--every", "5s", "-p", "lr"), 2, "name=value"),
        (("create",), 2, "give a NAME"),
        (("create", "--file", "absent.yml"), 3, "No such file"),
        (("show", "absent"), 3, "E_NOT_FOUND"),
        (("pause", "a.b"), 2, "E_ID"),
    ):  # fmt: skip
        result = await schedule(*words)
        assert result.returncode == code, (words, result)
        assert text in result.stderr, (words, result.stderr)
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
    for content, text in (
        ("name: x\npipeline: p\ncrn: '* * * * *'\n", "bad.yml:3:1: unknown key 'crn'"),
        ("name: x\nevery: 5s\n", "pipeline is missing"),
        ("name: x\npipeline: p\nevery: [1]\n", "bad.yml:3:"),
        (
            "name: x\ntrigger: {type: cron}\ncreate_job: a.yml\n",
            "bad.yml:3:1: a.yml does not exist",
        ),
        ("- 1\n", "expected keys and values"),
    ):
        file.write_text(content)
        result = await schedule("create", "--file", str(file))
        assert result.returncode == 2, (content, result)
        assert text in result.stderr, (content, result.stderr)
    assert (await schedule("list", "-o", "json")).stdout == "[]\n"
