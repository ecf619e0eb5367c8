"""The registry as its users meet it: real services, the command line, and a planner that is killed meanwhile."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import Client
from penstock.contracts.registry import AssetCommand, DataContent
from penstock.errors import Invalid, PenstockError
from penstock.sdk.async_client import AsyncClient
from penstock.testing.fleet import SERVICES, Fleet
from penstock.testing.servers import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

WORKSPACE = "registry"
WAIT_S = 60

COMPONENT = """
type: command
name: count_lines
version: {version}
inputs:
  data: {{type: uri_file}}
  times: {{type: integer, default: 2}}
outputs:
  out: {{type: uri_file, name: counted}}
code: ./src
environment: azureml:plain@latest
command: python count.py ${{{{inputs.data}}}} ${{{{inputs.times}}}} ${{{{outputs.out}}}}
"""
COUNT = """
import os, pathlib, sys
lines = len(open(sys.argv[1]).readlines()) * int(sys.argv[2])
pathlib.Path(sys.argv[3]).write_text(f"{lines} {os.environ['GREETING']}")
"""
ENVIRONMENT = 'name: plain\nversion: "1.0"\nimage: example/plain:1\nvariables: {GREETING: hello}\n'
DATA = "name: abc\nversion: 1\ntype: uri_file\npath: abc.txt\n"
PIPELINE = """
type: pipeline
inputs:
  lines: {type: uri_file, path: "azureml:abc@latest"}
outputs:
  twice: {type: uri_file}
jobs:
  a:
    component: azureml:count_lines@latest
    inputs: {data: "${{parent.inputs.lines}}"}
    outputs: {out: "${{parent.outputs.twice}}"}
  b:
    component: azureml://registries/azureml/components/count_lines/versions/1
    inputs: {data: {type: uri_file, path: "azureml:abc:1"}, times: 5}
"""


@pytest.fixture(scope="module")
def services(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("registry")
    store = f"file:{folder / 'store'}"
    with Fleet(folder, bus=nats.url, store=store, workspace=WORKSPACE) as fleet:
        for service in SERVICES:
            fleet.start(service)
        yield fleet


@pytest.fixture
def client(services: Fleet) -> Iterator[Client]:
    with Client(bus=services.bus, workspace=WORKSPACE) as client:
        yield client


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "count.py").write_text(COUNT)
    (tmp_path / "component.yml").write_text(COMPONENT.format(version=1))
    (tmp_path / "environment.yml").write_text(ENVIRONMENT)
    (tmp_path / "data.yml").write_text(DATA)
    (tmp_path / "abc.txt").write_text("a\nb\nc\n")
    (tmp_path / "pipeline.yml").write_text(PIPELINE)
    return tmp_path


def penstock(services: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", *words, "--bus", services.bus],
        env={**os.environ, "PENSTOCK_WORKSPACE": WORKSPACE},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_what_is_registered_runs_is_hidden_and_comes_back(
    services: Fleet, client: Client, files: Path, tmp_path: Path
) -> None:
    for kind in ("component", "environment", "data"):
        done = penstock(services, kind, "create", "-f", str(files / f"{kind}.yml"), "-o", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["who"]
    again = penstock(services, "data", "create", "-f", str(files / "data.yml"), "-o", "name")
    assert (again.stdout, "already" in again.stderr) == ("abc@1\n", True)

    run = client.submit(files / "pipeline.yml")
    assert "azureml:count_lines@latest is component count_lines, version 1" in run.notes
    view = client.wait(run.id, WAIT_S)
    assert {step.step: step.state for step in view.steps} == dict.fromkeys(
        ("a", "b", "copy--a--out", "copy--b--out"), "succeeded"
    )
    client.download(run.id, tmp_path / "got", output="twice")
    assert [f.read_text() for f in (tmp_path / "got").rglob("*") if f.is_file()] == ["6 hello"]
    counted = penstock(services, "data", "list", "--name", "counted", "-o", "json")
    versions = json.loads(counted.stdout)
    assert sorted(one["version"] for one in versions) == ["1", "2"]  # 6 and 15 are two contents
    assert {one["who"] for one in versions} == {f"run/{run.id}"}

    (files / "abc.txt").write_text("a\n")
    other = penstock(services, "data", "create", "-f", str(files / "data.yml"))
    assert (other.returncode, "E_EXISTS" in other.stderr) == (2, True)
    assert penstock(services, "data", "archive", "abc").returncode == 0
    with pytest.raises(PenstockError) as caught:
        client.submit(files / "pipeline.yml")
    assert "every version of data 'abc' is archived" in str(caught.value)
    assert penstock(services, "data", "list", "-o", "name").stdout == "counted\n"
    assert penstock(services, "data", "restore", "abc@1").returncode == 0
    assert client.wait(client.submit(files / "pipeline.yml").id, WAIT_S).state == "succeeded"
    gone = penstock(services, "component", "show", "count_line")
    assert (gone.returncode, "did you mean 'count_lines'?" in gone.stderr) == (3, True)


def test_a_rerun_means_what_latest_was(services: Fleet, client: Client, files: Path) -> None:
    for kind in ("component", "environment", "data"):
        penstock(services, kind, "create", "-f", str(files / f"{kind}.yml"))
    before = client.wait(client.submit(files / "pipeline.yml").id, WAIT_S)
    (files / "src" / "count.py").write_text("raise SystemExit('the new one')")
    (files / "component.yml").write_text(COMPONENT.format(version=2))
    done = penstock(services, "component", "create", "-f", str(files / "component.yml"))
    assert done.returncode == 0, done.stderr
    again = client.rerun(before.run, from_="start")
    assert client.wait(again.id, WAIT_S).state == "succeeded"
    assert client.wait(client.submit(files / "pipeline.yml").id, WAIT_S).state == "failed"


async def test_versions_that_are_registered_at_once_are_counted_once_while_a_planner_dies(
    services: Fleet,
) -> None:
    services.start("planner")
    digest = "artifact:" + "0" * 63

    async def one(number: int) -> str:
        content = DataContent(path=digest + f"{number % 10}")
        command = AssetCommand(kind="data", name="raced", data=content)
        for _ in range(60):
            try:
                async with AsyncClient(bus=services.bus, workspace=WORKSPACE) as client:
                    talk = await client.open()
                    from penstock.contracts.registry import AssetView

                    view = await talk.ask("asset.create", command, AssetView, "planner")
                    return view.version
            except Invalid:
                raise
            except PenstockError:  # the planner that was asked is dead
                await asyncio.sleep(0.2)
        raise AssertionError("nobody answered")

    work = [asyncio.create_task(one(number)) for number in range(40)]
    await asyncio.sleep(0.3)
    services.kill("planner-1")
    services.restart("planner-1")
    answered = await asyncio.gather(*work)
    # Ten contents, each asked for four times: at most a race may number one content twice.
    async with AsyncClient(bus=services.bus, workspace=WORKSPACE) as client:
        views = await client.assets("list", AssetCommand(kind="data", name="raced"))
    assert set(answered) <= {view.version for view in views}
    assert sorted(int(view.version) for view in views) == list(range(1, len(views) + 1))
    assert {view.data.path for view in views if view.data} == {digest + str(n) for n in range(10)}
