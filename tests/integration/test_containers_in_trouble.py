"""Containers when something goes wrong around them: secrets of a build, an engine that is away, kills.

The engine is the real one, seen through a relay that cuts the connections of one kind of request.
"""

import asyncio
import base64
import contextlib
import io
import os
import re
import secrets
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import structlog

from penstock.bus.nats import connect
from penstock.contracts.resources import Resources
from penstock.contracts.spec import EnvironmentSpec
from penstock.contracts.subjects import Subjects
from penstock.errors import Transient
from penstock.testing.attempts import Attempts
from penstock.testing.fleet import Fleet
from penstock.testing.images import BARE, BASE, docker
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock_executor.containers import Containers
from penstock_executor.decide.containers import Box, Rules, box_of, image_digest, shared_name
from penstock_executor.engine import SOCKET, Engine
from penstock_executor.images import BUILD_VERSION, Images
from penstock_executor.process import Command

pytestmark = [pytest.mark.server, pytest.mark.docker]

GONE_S = 20.0
LOG = structlog.get_logger()


# -- what stands around ------------------------------------------------------------------------------
class Web:
    """A package index behind a password that has one package, and a registry of images that is troubled."""

    def __init__(self) -> None:
        self.package = f"tiny{secrets.token_hex(4)}"
        self.password = secrets.token_hex(12)
        self.asked = threading.Event()
        self.hold = threading.Event()
        """Set: answers come. Otherwise whoever asks waits."""
        self.hold.set()
        wheel, web = f"{self.package}-1.0-py3-none-any.whl", self
        data = _wheel(self.package)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.set()
                web.hold.wait()
                given = self.headers.get("Authorization", "")
                if self.path.startswith("/v2/"):
                    self._answer(503, b"not now")
                elif given != "Basic " + base64.b64encode(f"me:{web.password}".encode()).decode():
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", "Basic")
                    self.end_headers()
                elif self.path == f"/simple/{web.package}/":
                    self._answer(200, f'<a href="/{wheel}">{wheel}</a>'.encode())
                elif self.path == f"/{wheel}":
                    self._answer(200, data)
                else:
                    self._answer(404, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                del words

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.index = f"http://me:{self.password}@{self.address}/simple"


def _wheel(name: str) -> bytes:
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    listed = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in {**files, f"{about}/RECORD": listed}.items():
            archive.writestr(path, text)
    return data.getvalue()


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    thread = threading.Thread(target=web.server.serve_forever, daemon=True)
    thread.start()
    yield web
    web.hold.set()
    web.server.shutdown()
    web.server.server_close()
    thread.join()


class Relay:
    """The engine's socket, but for requests that `cut` matches: those get no answer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = ""
        self.cuts = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.when: dict[str, Callable[[], object]] = {}
        """What is to be done when the engine has done what such a request asks for, and nobody knows yet."""

    async def idle(self) -> None:
        """Return when every request has been answered, whether or not somebody waits for that."""
        async with asyncio.timeout(GONE_S):
            while self.tasks:
                await asyncio.wait(self.tasks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; held on to, as the loop itself forgets tasks that nobody else holds."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        await asyncio.wait({task})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            if self.cut and re.match(self.cut.encode(), head):
                self.cuts += 1
            else:
                behind, onward = await asyncio.open_unix_connection(SOCKET)
                onward.write(head)
                sending = asyncio.ensure_future(_copied(reader, onward))
                answer = await behind.read(65536)
                for request, done in self.when.items():
                    if re.match(request.encode(), head):
                        done()
                        await asyncio.sleep(
                            0
                        )  # whoever is cancelled by it is so before there is an answer
                writer.write(answer)
                await _copied(behind, writer)
                sending.cancel()
                onward.close()
        writer.close()


async def _copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(tmp_path / "engine.sock")
    server = await asyncio.start_unix_server(relay.serve, relay.path)
    yield relay
    server.close()


@pytest.fixture
async def containers(relay: Relay, image: str, tmp_path: Path) -> AsyncIterator[Containers]:
    """One berth's worth of containers, by way of the relay."""
    del image
    made = Containers(Engine(str(relay.path)), LOG, tmp_path / "d", 1, owner=(10001, 10001))
    yield made
    relay.cut = ""
    await made.close()
    assert containers_of(tmp_path / "d") == []


@pytest.fixture
async def attempts(nats: NatsServer, workspace: str, tmp_path: Path) -> AsyncIterator[Attempts]:
    names = Subjects(workspace)
    bus = await connect(nats.url, name="attempts")
    trees = TreeClient(bus, names, cache=tmp_path / "cache", patience_s=20)
    attempts = Attempts(bus, names, trees)
    await attempts.open()
    yield attempts
    await trees.close()
    await bus.close()


@pytest.fixture
def fleet(
    nats: NatsServer, image: str, workspace: str, web: Web, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """An executor whose package index has a password."""
    root = tmp_path_factory.mktemp("indexed")
    certificates = root / "ca.pem"
    certificates.write_text("")
    environ = {"PIP_INDEX_URL": web.index, "REQUESTS_CA_BUNDLE": str(certificates)}
    store = f"file:{root / 'store'}"
    with Fleet(root, bus=nats.url, store=store, workspace=workspace, environ=environ) as fleet:
        fleet.start("artifact")
        fleet.start("executor", slots="1", drain_s="0", kind="docker", image=image)
        yield fleet


@pytest.fixture
def base(image: str) -> Iterator[str]:
    """An image that nobody else has containers of."""
    del image
    name = f"penstock-test:{secrets.token_hex(6)}"
    docker("build", "-q", "-t", name, "-", stdin=f"FROM {BASE}\nRUN echo {name} > /name\n")
    yield name
    docker("rmi", name)


def containers_of(folder: Path, *words: str) -> list[str]:
    """Return ids of all containers, running or not, of an executor's data folder."""
    return docker("ps", "-aq", *words, "--filter", f"label=org.penstock.data={folder}").split()


def box(image: str) -> Box:
    about = docker("image", "inspect", "--format", "{{.Id}}", image)
    return box_of(Resources(), Rules("10001:10001", 1 << 30, 1), image=about, owner="run")


def descriptors() -> set[str]:
    """Return what this process has open."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{path.name} {path.readlink()}")
    return found


# -- images ------------------------------------------------------------------------------------------
async def test_the_password_of_a_package_index_is_in_no_image_and_no_step(
    fleet: Fleet, attempts: Attempts, web: Web, base: str
) -> None:
    line = f"{web.package}==1.0"
    given = await attempts.give(
        f"env; python3 -c 'import {web.package} as it; print(it.__file__)'",
        environment=EnvironmentSpec(image=base, pip=(line,)),
    )
    await given.success()
    printed = (await attempts.archived(given))["stdout.txt"].decode()
    assert f"/opt/penstock-env/lib/python3.11/site-packages/{web.package}.py" in printed
    identity = docker("image", "inspect", "--format", "{{.Id}}", base)
    name = shared_name(image_digest("packages", BUILD_VERSION, identity, line))
    told = docker("image", "inspect", name) + docker("history", "--no-trunc", name)
    search = f"grep -rlF {web.password} /opt /etc /root /run /var /requirements.txt || true"
    left = docker("run", "--rm", "--entrypoint", "/bin/sh", name, "-c", search)
    owned = docker(
        "image", "inspect", "--format", '{{index .Config.Labels "org.penstock.data"}}', name
    )
    fleet.terminate("executor-1")  # it keeps the step's container
    docker("rmi", name)
    for text in (printed, told):
        for kept in (web.password, "PIP_INDEX_URL", "REQUESTS_CA_BUNDLE", "PIP_CERT"):
            assert kept not in text
    assert left == ""
    assert owned == ""  # else an executor would sweep whatever anybody runs of this image


async def test_a_build_that_its_executor_did_not_live_to_see_is_swept(
    fleet: Fleet, attempts: Attempts, web: Web, base: str
) -> None:
    web.hold.clear()
    folder = fleet.directory / "executor-1"
    await attempts.give("true", environment=EnvironmentSpec(image=base, pip=(web.package,)))
    assert await asyncio.to_thread(web.asked.wait, GONE_S)
    dead = set(containers_of(folder))
    assert len(dead) == 1
    sibling = fleet.start(
        "executor", slots="1", targets="other", kind="docker", data_dir=str(folder)
    )
    assert dead <= set(containers_of(folder, "--filter", "status=running"))  # of one that lives
    fleet.terminate(sibling)
    fleet.kill("executor-1")
    fleet.restart("executor-1")
    assert not dead & set(containers_of(folder))
    fleet.terminate("executor-1")
    assert docker("ps", "-aq", "--filter", f"ancestor={base}") == ""


@pytest.mark.parametrize("moment", ["create", "[0-9a-f]+/start"])
async def test_a_build_that_nobody_waits_for_any_more_leaves_no_container(
    attempts: Attempts, relay: Relay, web: Web, base: str, moment: str
) -> None:
    web.hold.clear()
    environ = {"PIP_INDEX_URL": web.index}
    images = Images(Engine(str(relay.path)), attempts.trees, LOG, environ, {})
    wanted = EnvironmentSpec(image=base, pip=(web.package,))
    task = asyncio.ensure_future(images.ready(wanted, lambda _: None, "step"))
    relay.when[f"POST /containers/{moment}"] = task.cancel
    with pytest.raises(asyncio.CancelledError):
        await task
    await relay.idle()
    assert docker("ps", "-aq", "--filter", f"ancestor={base}") == ""


async def test_a_registry_in_trouble_or_an_engine_that_goes_away_is_waited_for(
    attempts: Attempts, relay: Relay, web: Web, image: str
) -> None:
    del image
    images = Images(Engine(str(relay.path)), attempts.trees, LOG, {}, {})
    wanted = EnvironmentSpec(image=f"{web.address}/some/image:1")
    with pytest.raises(Transient, match="503"):
        await images.ready(wanted, lambda _: None, "step")
    relay.cut = "POST /images/create"
    with pytest.raises(Transient, match="does not answer"):
        await images.ready(wanted, lambda _: None, "step")


# -- the engine goes away ----------------------------------------------------------------------------
async def test_pipes_are_closed_when_the_engine_goes_away_as_a_command_begins(
    containers: Containers, relay: Relay
) -> None:
    slip, wanted = await containers.taken(""), box(BARE)
    await containers.ready(slip, wanted)
    command = Command(["sh", "-c", "sleep 60"], folder="/", environment={})
    held = descriptors()
    relay.cut = "GET /containers/[0-9a-f]+/json"
    with pytest.raises(Transient):
        await containers.start(slip, wanted, command)
    assert relay.cuts == 1
    assert not {path for path in descriptors() - held if "/talk/" in path}
    relay.cut = ""
    await containers.left(slip)


@pytest.mark.parametrize("name", ["python", "bare"])
async def test_a_container_that_could_not_be_removed_is_the_next_time(
    containers: Containers, relay: Relay, image: str, tmp_path: Path, name: str
) -> None:
    slip, wanted = await containers.taken(""), box(image if name == "python" else BARE)
    command = Command(["sh", "-c", "sleep 60"], folder="/", environment={})
    await containers.ready(slip, wanted)
    if name == "bare":
        running = await containers.start(slip, wanted, command)
        os.close(running.stdout)
        os.close(running.stderr)
    left = containers_of(tmp_path / "d")
    assert len(left) == 1
    relay.cut = "DELETE "
    await containers.dismiss(slip)
    await containers.left(slip)
    again = await containers.taken("")
    with pytest.raises(Transient):
        await containers.ready(again, wanted)
    assert containers_of(tmp_path / "d") == left
    relay.cut = ""
    await containers.ready(again, wanted)
    assert not set(left) & set(containers_of(tmp_path / "d"))
    await containers.left(again)
