"""Artifact services, object stores and clients, killed in the middle of moving trees."""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from penstock.blob import BlobStore
from penstock.blob.open import open_store
from penstock.bus.nats import connect
from penstock.contracts.artifacts import PART_BYTES, TreeRef
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.testing.stores import MinioServer
from penstock.trees.client import TreeClient
from penstock.trees.hashing import Scan
from penstock.trees.scan import scanned
from penstock.units import MIB

pytestmark = [pytest.mark.server, pytest.mark.slow]

PUT = """
import asyncio, sys
from pathlib import Path
from penstock.bus.nats import connect
from penstock.contracts.subjects import Subjects
from penstock.trees.client import TreeClient

async def put(bus, workspace, folder):
    client = TreeClient(await connect(bus, name="victim"), Subjects(workspace), patience_s=60)
    await client.put_folder(Path(folder), "run/r/s/1")

asyncio.run(put(*sys.argv[1:]))
"""


@pytest.fixture
def workspace() -> str:
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind = getattr(request, "param", "file")
    url: str = (
        f"file:{tmp_path / 'store'}" if kind == "file" else request.getfixturevalue(f"{kind}_url")
    )
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[BlobStore]:
    """The store as the test looks into it."""
    store = open_store(store_url)
    yield store
    await store.close()


@pytest.fixture
def fleet(nats: NatsServer, workspace: str, store_url: str, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path / "fleet", bus=nats.url, store=store_url, workspace=workspace) as fleet:
        yield fleet


@pytest.fixture
async def client(nats: NatsServer, workspace: str) -> AsyncIterator[TreeClient]:
    bus = await connect(nats.url, name="client")
    client = TreeClient(bus, Subjects(workspace), patience_s=60)
    yield client
    await client.close()
    await bus.close()


def big_folder(root: Path, files: int = 30, size: int = 2 * MIB, parts: int = 2) -> Scan:
    """Return a folder of files, one of them so big that S3 gets it in parts."""
    root.mkdir()
    (root / "in parts").write_bytes(os.urandom(MIB) * (parts * PART_BYTES // MIB) + b"end")
    for number in range(files):
        (root / f"{number}").write_bytes(os.urandom(size))
    (root / "small").write_bytes(os.urandom(10))
    return scanned(root, ignore=False)


async def eventually(check: Callable[[], Awaitable[bool]], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not await check():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)


async def count(store: BlobStore, prefix: str) -> int:
    return len([key async for key in store.keys(prefix)])


async def check_whole(client: TreeClient, tree: TreeRef, scan: Scan, into: Path) -> None:
    assert tree == scan.ref
    await client.fetch(tree.digest, into)
    assert scanned(into, ignore=False).manifest == scan.manifest


@pytest.mark.parametrize("store_url", ["file", "minio"], indirect=True)
async def test_what_one_copy_began_another_finishes(
    fleet: Fleet, store: BlobStore, client: TreeClient, tmp_path: Path
) -> None:
    first = fleet.start("artifact")
    scan = big_folder(tmp_path / "root")
    putting = asyncio.ensure_future(client.put(scan, "run/r/s/1"))

    async def began() -> bool:
        return await count(store, "cas/") > 0

    await eventually(began)
    assert not putting.done()
    fleet.kill(first)
    fleet.start("artifact")
    await check_whole(client, await putting, scan, tmp_path / "into")


async def test_copies_that_die_again_and_again_lose_nothing(
    fleet: Fleet, store: BlobStore, client: TreeClient, tmp_path: Path
) -> None:
    fleet.start("artifact")
    fleet.start("artifact")
    scans = [big_folder(tmp_path / f"root{n}", files=6, parts=1) for n in range(6)]

    async def put(scan: Scan) -> TreeRef:
        return await client.put(scan, "run/r/s/1")

    for number, scan in enumerate(scans):
        putting = asyncio.ensure_future(put(scan))
        victim = f"artifact-{number % 2 + 1}"
        await asyncio.sleep(0.02 * number)  # another moment of the conversation each time
        fleet.kill(victim)
        tree = await putting
        await check_whole(client, tree, scan, tmp_path / f"into{number}")
        await asyncio.to_thread(fleet.restart, victim)
    assert await client.exist([scan.ref.digest for scan in scans]) == {s.ref.digest for s in scans}


async def test_an_object_store_that_dies_in_the_middle_is_waited_for(
    nats: NatsServer, workspace: str, minio_url: str, client: TreeClient, tmp_path: Path
) -> None:
    server = MinioServer(tmp_path / "minio")
    server.start()
    url = server.url("penstock")
    try:
        with Fleet(tmp_path / "fleet", bus=nats.url, store=url, workspace=workspace) as fleet:
            name = fleet.start("artifact")
            store = open_store(url)
            scan = big_folder(tmp_path / "root")
            putting = asyncio.ensure_future(client.put(scan, "run/r/s/1"))

            async def began() -> bool:
                return await count(store, "cas/") > 3

            await eventually(began)
            assert not putting.done()
            server.kill()
            await asyncio.to_thread(server.start)
            await check_whole(client, await putting, scan, tmp_path / "into")
            assert fleet.alive(name), "an outage of the store is no reason to end"
            await store.close()
    finally:
        server.kill()


@pytest.mark.parametrize("store_url", ["file", "minio", "weed"], indirect=True)
async def test_a_client_that_dies_leaves_no_tree_and_the_next_one_finishes(
    fleet: Fleet,
    nats: NatsServer,
    store: BlobStore,
    client: TreeClient,
    tmp_path: Path,
) -> None:
    fleet.start("artifact")
    scan = big_folder(tmp_path / "root")
    words = [PUT, nats.url, fleet.workspace, str(tmp_path / "root")]
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", *words)

    async def began() -> bool:
        return await count(store, "cas/") > 0

    await eventually(began)
    assert victim.returncode is None, "it was too quick to be killed"
    victim.kill()
    assert await victim.wait() == -9
    assert await client.exist([scan.ref.digest]) == set()
    assert await count(store, "tree/") == 0
    tree = await client.put(scan, "run/r/s/2")
    await check_whole(client, tree, scan, tmp_path / "into")
