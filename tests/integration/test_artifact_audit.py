"""What was committed last is looked at after an unclean end, and what a reader found wrong at once."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from penstock.blob.file import FileStore
from penstock.blob.memory import MemoryStore
from penstock.bus.memory import MemoryBus, MemoryServer
from penstock.bus.nats import connect
from penstock.bus.topology import ensure
from penstock.clock import SystemClock
from penstock.contracts.artifacts import PACK_BYTES, SMALL_BYTES
from penstock.contracts.subjects import Subjects
from penstock.errors import NotFound
from penstock.runtime.logs import logger
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock_artifact.audit import Audit
from penstock_artifact.shell import Shell
from penstock_artifact.store import Store

FILES = {"big": b"1" * SMALL_BYTES, "small": b"2"}
LOG = logger("artifact", "test", "critical")


class Copy:
    """One copy of the service, with what it keeps of its life."""

    def __init__(self, bus: MemoryBus, blobs: MemoryStore | FileStore, name: str) -> None:
        names, clock = Subjects(), SystemClock()
        store = Store(blobs, LOG, clock, grant_s=900, patience_s=5)
        self.bus = bus
        self.shell = Shell(bus=bus, names=names, store=store, log=LOG, clock=clock, verify_max=4)
        self.audit = Audit(
            bus,
            names,
            LOG,
            clock,
            instance=name,
            recent_s=3600,
            trees_max=100,
            doubt=self.shell.doubts.add,
        )

    @contextlib.asynccontextmanager
    async def life(self, *, clean: bool) -> AsyncIterator[int]:
        """Serve; end as a stop ends it, or as a power cut does."""
        await ensure(self.bus, Subjects(), ("artifacts", "events"))
        doubtful = await self.audit.begin()
        service = await self.bus.serve("penstock-artifact", self.shell.endpoints())
        try:
            yield doubtful
        finally:
            await service.close()
            await self.shell.close()
            if clean:
                await self.audit.end()


@pytest.fixture
def blobs() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = await MemoryServer().connect("artifact")
    yield bus
    await bus.close()


@pytest.fixture
async def client(bus: MemoryBus) -> AsyncIterator[TreeClient]:
    client = TreeClient(bus, Subjects(), patience_s=600)
    yield client
    await client.close()


def altered(blobs: MemoryStore, prefix: str, data: bytes | None) -> str:
    (key,) = (key for key in blobs.objects if key.startswith(prefix))
    if data is None:
        del blobs.objects[key]
    else:
        blobs.objects[key] = data
    return key


DAMAGE = [("cas/", b"x" * SMALL_BYTES), ("cas/", b"short"), ("cas/", None), ("pack/", b"x")]
DAMAGE += [("tree/", b"x" * 100), ("tree/", None)]


@pytest.mark.parametrize(("prefix", "data"), DAMAGE)
async def test_what_a_power_cut_damaged_is_found_before_anybody_uses_it(
    prefix: str, data: bytes | None, bus: MemoryBus, blobs: MemoryStore, client: TreeClient
) -> None:
    async with Copy(bus, blobs, "a").life(clean=False):
        tree = await client.put_bytes(FILES, "run/r/s/1")
        other = await client.put_bytes({"other": b"3"}, "run/r/t/1")
    key = next(k for k in blobs.objects if k.startswith(prefix) and other.digest not in k)
    blobs.objects.pop(key)
    if data is not None:
        blobs.objects[key] = data
    async with Copy(bus, blobs, "a").life(clean=True) as doubtful:
        assert doubtful == 2
        assert await client.exist([tree.digest, other.digest]) == {other.digest}
        assert await client.put_bytes(FILES, "run/r/s/2") == tree
        assert await client.read(tree.digest, "big") == FILES["big"]
        assert await client.exist([tree.digest, other.digest]) == {tree.digest, other.digest}


async def test_after_a_clean_stop_nothing_is_looked_at(
    bus: MemoryBus, blobs: MemoryStore, client: TreeClient
) -> None:
    async with Copy(bus, blobs, "a").life(clean=True):
        await client.put_bytes(FILES, "run/r/s/1")
    async with Copy(bus, blobs, "a").life(clean=False) as doubtful:
        assert doubtful == 0
    async with Copy(bus, blobs, "a").life(clean=True) as doubtful:
        assert doubtful == 1, "a mark of our own name is that of an earlier life"


async def test_a_copy_that_lives_is_not_doubted(bus: MemoryBus, blobs: MemoryStore) -> None:
    async with (
        Copy(bus, blobs, "a").life(clean=True),
        Copy(bus, blobs, "b").life(clean=True) as doubtful,
    ):
        assert doubtful == 0


@pytest.mark.parametrize("damage", [*DAMAGE[:2], DAMAGE[3]])
async def test_bytes_that_a_reader_finds_wrong_are_deleted_and_stored_anew(
    damage: tuple[str, bytes],
    bus: MemoryBus,
    blobs: MemoryStore,
    client: TreeClient,
    tmp_path: Path,
) -> None:
    prefix, data = damage
    async with Copy(bus, blobs, "a").life(clean=True):
        tree = await client.put_bytes(FILES, "run/r/s/1")
        key = altered(blobs, prefix, data)
        with pytest.raises(NotFound):
            await client.fetch(tree.digest, tmp_path / "into")
        assert key not in blobs.objects
        assert await client.exist([tree.digest]) == set(), "so that the step runs again"
        await client.put_bytes(FILES, "run/r/s/2")
        await client.fetch(tree.digest, tmp_path / "again")
        assert (tmp_path / "again" / "big").read_bytes() == FILES["big"]


async def test_a_doubt_that_is_wrong_changes_nothing(
    bus: MemoryBus, blobs: MemoryStore, client: TreeClient
) -> None:
    async with Copy(bus, blobs, "a").life(clean=True):
        tree = await client.put_bytes(FILES, "run/r/s/1")
        before = dict(blobs.objects)
        await client._doubt(tree.digest, next(key for key in before if key.startswith("cas/")))
        await client._doubt(tree.digest, "no/such")
        assert blobs.objects == before
        assert await client.exist([tree.digest]) == {tree.digest}


class Slow(MemoryStore):
    """Reads when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()

    async def digest(self, key: str) -> str:
        await self.go.wait()
        return await super().digest(key)


async def test_who_asks_for_a_doubtful_tree_waits_until_it_was_read(
    bus: MemoryBus, client: TreeClient
) -> None:
    blobs = Slow()
    async with Copy(bus, blobs, "a").life(clean=False):
        tree = await client.put_bytes(FILES, "run/r/s/1")
    blobs.go.clear()
    async with Copy(bus, blobs, "a").life(clean=True):
        asking = asyncio.ensure_future(client.exist([tree.digest]))
        done, _ = await asyncio.wait({asking}, timeout=0.2)
        assert not done
        blobs.go.set()
        assert await asking == {tree.digest}


@pytest.mark.parametrize("path", ["big", "small/7"])
async def test_one_file_is_read_without_the_rest_of_its_tree(
    path: str, bus: MemoryBus, client: TreeClient, tmp_path: Path
) -> None:
    class Counting(MemoryStore):
        read_bytes = 0

        def read(self, key: str, offset: int, size: int | None) -> bytes:
            data = super().read(key, offset, size)
            self.read_bytes += len(data)
            return data

    blobs = Counting()
    files = {f"small/{n}": bytes([n]) * 4000 for n in range(200)}
    files |= {"big": b"1" * SMALL_BYTES, "bigger": b"2" * 10 * SMALL_BYTES}
    async with Copy(bus, blobs, "a").life(clean=True):
        tree = await client.put_bytes(files, "run/r/s/1")
        manifest = await client.manifest(tree.digest)
        assert len(manifest.entries) == len(files)
        blobs.read_bytes = 0
        assert await client.read(tree.digest, path) == files[path]
        assert blobs.read_bytes == len(files[path]) < PACK_BYTES
        blobs.read_bytes = 0
        assert await client.fetch_files(tree.digest, tmp_path / "into", path) == [path]
        assert blobs.read_bytes == len(files[path])
        assert (tmp_path / "into" / path).read_bytes() == files[path]
        assert len([*(tmp_path / "into").rglob("*")]) <= 2
        with pytest.raises(NotFound):
            await client.fetch_files(tree.digest, tmp_path / "into", "no/such")


# -- as processes ---------------------------------------------------------------------------------
@pytest.fixture
def fleet(nats: NatsServer, tmp_path: Path) -> Iterator[Fleet]:
    store, workspace = f"file:{tmp_path / 'store'}", f"t{secrets.token_hex(5)}"
    with Fleet(tmp_path / "fleet", bus=nats.url, store=store, workspace=workspace) as fleet:
        yield fleet


@pytest.mark.server
@pytest.mark.slow
async def test_a_service_that_was_killed_looks_at_the_last_trees_when_it_starts_again(
    nats: NatsServer, fleet: Fleet, tmp_path: Path
) -> None:
    bus = await connect(nats.url, name="client")
    client = TreeClient(bus, Subjects(fleet.workspace), patience_s=60)
    name = fleet.start("artifact")
    tree = await client.put_bytes({"big": os.urandom(SMALL_BYTES)}, "run/r/s/1")
    fleet.kill(name)
    (stored,) = (tmp_path / "store" / "cas").glob("*/*")
    stored.chmod(0o644)
    stored.write_bytes(b"\0" * SMALL_BYTES)  # as a torn write leaves it
    await asyncio.to_thread(fleet.restart, name)
    assert await client.exist([tree.digest]) == set()
    assert not stored.exists()
    await client.close()
    await bus.close()
