"""What a `file:` store keeps when the power goes: everything it said was stored, and what it is."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.harness import disks
from tests.chaos.harness.disks import MIB, Disk

from penstock.blob.disk import MARKER, check_reachable, prepare
from penstock.blob.file import FileStore
from penstock.blob.open import open_store
from penstock.ids import digest_of
from penstock.testing.stores import MinioServer, minio_binary

pytestmark = pytest.mark.skipif(
    not disks.possible(), reason="only root can mount a loop image to cut the power of"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path, "disk", 256)
    disk.make()
    yield disk
    disk.unmount()


def test_a_store_is_still_the_same_store_after_a_power_cut(disk: Disk) -> None:
    store = disk.point / "store"
    name = prepare(store)
    disk.cut()
    disk.come_back()
    check_reachable(store, name)
    assert prepare(store) == name


def test_a_store_that_lost_its_id_gets_one_again(disk: Disk) -> None:
    """As a power cut left it: the name was there, and no byte in it."""
    store = disk.point / "store"
    prepare(store)
    (store / MARKER).write_bytes(b"")
    check_reachable(store, prepare(store))


async def test_what_was_stored_is_there_after_a_power_cut(disk: Disk) -> None:
    store = FileStore(disk.point / "store")
    bodies = [os.urandom(size) for size in (0, 1, 4096, 300_000)]
    for body in bodies:
        assert await store.put(f"cas/{digest_of(body)}", body)
    await store.close()
    await asyncio.to_thread(disk.cut)
    await asyncio.to_thread(disk.come_back)
    store = FileStore(disk.point / "store")
    for body in bodies:
        assert await store.get(f"cas/{digest_of(body)}") == body
    await store.close()


@pytest.mark.server
async def test_what_a_synced_minio_acknowledged_is_there_after_a_power_cut(disk: Disk) -> None:
    """As deploy/ starts it: MINIO_FS_OSYNC=on."""
    if minio_binary() is None:
        pytest.skip("there is no minio: go install it, see .ci/run")
    server = MinioServer(disk.point / "minio", synced=True)
    await asyncio.to_thread(server.start)
    try:
        store = open_store(server.url("power"))
        bodies = [os.urandom(size) for size in (1, 4096, 300_000, 6 * MIB)]
        for body in bodies:
            assert await store.put(f"cas/{digest_of(body)}", body)
        await store.close()
        server.pause()
        await asyncio.to_thread(disk.cut)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(disk.come_back)
        await asyncio.to_thread(server.start)
        store = open_store(server.url("power"))
        for body in bodies:
            assert await store.get(f"cas/{digest_of(body)}") == body
        await store.close()
    finally:
        if server.process is not None:
            server.kill()
