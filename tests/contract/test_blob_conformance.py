"""What every object store must do, asked of a dictionary, a directory, MinIO and SeaweedFS."""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import urllib3

from penstock.blob import BlobStore
from penstock.blob.file import FileStore
from penstock.blob.open import open_store
from penstock.blob.parts import checksum_of, declared
from penstock.blob.s3 import S3Store
from penstock.blob.transfer import PART_BYTES, Transfer
from penstock.contracts.artifacts import Grant, GrantedPart, part_bytes, part_count
from penstock.errors import (
    BlobUnavailable,
    Corrupt,
    Invalid,
    NotAllowed,
    NotFound,
    PenstockError,
    Transient,
)
from penstock.ids import digest_of
from penstock.testing.stores import MinioServer, WeedServer
from penstock.units import MIB

EVERY = ["memory", "file", pytest.param("minio", marks=pytest.mark.server)]
EVERY.append(pytest.param("weed", marks=pytest.mark.server))
S3 = EVERY[2:]


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    """A store without objects, of the kind the test is parametrized with."""
    kind = request.param
    if kind == "memory":
        url = "memory:"
    elif kind == "file":
        url = f"file:{tmp_path / 'store'}"
    else:
        url = request.getfixturevalue(f"{kind}_url")
    store = open_store(url)
    yield store
    await store.close()


@pytest.fixture
def transfer() -> Transfer:
    return Transfer(patience_s=2)


async def grant_to_write(store: BlobStore, key: str, size: int) -> Grant:
    signed = await store.upload_url(key, size)
    return Grant(key=key, url=signed.url, headers=signed.headers)


async def grant_declared(store: BlobStore, key: str, data: bytes) -> Grant:
    step = part_bytes(len(data))
    sums = [checksum_of(data[at : at + step]) for at in range(0, len(data), step)]
    signed = await store.upload_url(key, len(data), checksums=sums)
    parts = tuple(GrantedPart(url=part.url, headers=part.headers) for part in signed.parts)
    return Grant(key=key, url=signed.url, headers=signed.headers, parts=parts)


async def grant_to_read(store: BlobStore, key: str) -> Grant:
    signed = await store.download_url(key)
    return Grant(key=key, url=signed.url, headers=signed.headers)


@pytest.mark.parametrize("store", EVERY, indirect=True)
class TestEveryStore:
    async def test_what_was_put_is_there(self, store: BlobStore) -> None:
        data = os.urandom(100_000)
        assert await store.put("cas/ab/one", data)
        assert await store.get("cas/ab/one") == data
        assert await store.size("cas/ab/one") == len(data)
        assert await store.digest("cas/ab/one") == digest_of(data)

    async def test_an_object_may_be_empty(self, store: BlobStore) -> None:
        assert await store.put("cas/ab/none", b"")
        assert await store.get("cas/ab/none") == b""
        assert await store.size("cas/ab/none") == 0
        assert await store.digest("cas/ab/none") == digest_of(b"")

    async def test_a_second_write_changes_nothing(self, store: BlobStore) -> None:
        assert await store.put("tree/aa/x", b"first")
        assert not await store.put("tree/aa/x", b"second, and longer")
        assert await store.get("tree/aa/x") == b"first"

    async def test_one_of_eight_racing_writers_wins(self, store: BlobStore) -> None:
        for number in range(4):
            key = f"race/{number}"
            bodies = [bytes([writer]) * 2000 for writer in range(8)]
            won = await asyncio.gather(*(store.put(key, body) for body in bodies))
            assert sum(won) == 1
            assert await store.get(key) == bodies[won.index(True)]

    async def test_a_range_is_read_without_the_rest(self, store: BlobStore) -> None:
        data = bytes(range(256)) * 10
        await store.put("a/b", data)
        assert await store.get("a/b", offset=300, size=7) == data[300:307]
        assert await store.get("a/b", offset=2550) == data[2550:]
        assert await store.get("a/b", offset=2550, size=500) == data[2550:]
        assert await store.get("a/b", offset=5000) == b""
        assert await store.get("a/b", offset=5, size=0) == b""

    async def test_what_is_not_there_is_not_found(self, store: BlobStore) -> None:
        assert await store.size("no/such") is None
        for read in (store.get("no/such"), store.get("no/such", size=0), store.digest("no/such")):
            with pytest.raises(NotFound):
                await read
        await store.delete("no/such")

    async def test_what_was_deleted_is_gone_and_may_be_written_again(
        self, store: BlobStore
    ) -> None:
        await store.put("a/b", b"one")
        await store.delete("a/b")
        assert await store.size("a/b") is None
        assert await store.put("a/b", b"two")
        assert await store.get("a/b") == b"two"

    async def test_keys_are_listed_by_prefix(self, store: BlobStore) -> None:
        for key in ("tree/aa/1", "tree/ab/2", "cas/aa/3", "trees/x"):
            await store.put(key, b"x")
        assert {key async for key in store.keys("tree/")} == {"tree/aa/1", "tree/ab/2"}
        assert {key async for key in store.keys("tree/a")} == {"tree/aa/1", "tree/ab/2"}
        everything = {key async for key in store.keys("")}
        assert everything == {"tree/aa/1", "tree/ab/2", "cas/aa/3", "trees/x"}
        assert [key async for key in store.keys("nothing/")] == []

    @pytest.mark.parametrize(
        "key",
        ["", "/a", "a//b", "../a", "a/../b", "a/..b", "A", "a b", "a\n", "a/", "é", "a\\b", ".a"],
    )
    async def test_what_could_leave_the_store_is_no_key(self, store: BlobStore, key: str) -> None:
        for call in (
            store.put(key, b"x"),
            store.get(key),
            store.size(key),
            store.delete(key),
            store.upload_url(key, 1),
            store.download_url(key),
        ):
            with pytest.raises(Invalid, match="E_KEY"):
                await call

    async def test_a_grant_writes_one_object(self, store: BlobStore, transfer: Transfer) -> None:
        grant = await grant_to_write(store, "cas/ab/c", 6)
        assert transfer_done(transfer, grant, [b"abc", b"def"], 6)
        assert await store.get("cas/ab/c") == b"abcdef"

    async def test_a_grant_works_once(self, store: BlobStore, transfer: Transfer) -> None:
        grant = await grant_to_write(store, "cas/ab/c", 3)
        assert transfer_done(transfer, grant, [b"abc"], 3)
        assert not transfer_done(transfer, grant, [b"xyz"], 3)
        assert await store.get("cas/ab/c") == b"abc"

    async def test_eight_uploads_on_grants_make_one_object(
        self, store: BlobStore, transfer: Transfer
    ) -> None:
        size = 300_000
        grants = [await grant_to_write(store, "cas/ab/c", size) for _ in range(8)]
        bodies = [bytes([number]) * size for number in range(8)]
        won = await asyncio.gather(
            *(
                asyncio.to_thread(transfer.upload, grant, [body], size)
                for grant, body in zip(grants, bodies, strict=True)
            )
        )
        assert sum(won) == 1
        assert await store.get("cas/ab/c") == bodies[won.index(True)]

    async def test_a_file_of_another_size_than_granted_is_not_stored(
        self,
        store: BlobStore,
        transfer: Transfer,
        tmp_path: Path,
        request: pytest.FixtureRequest,
    ) -> None:
        for number, size in enumerate((4, 6)):
            key = f"cas/ab/{number}"
            path = tmp_path / str(number)
            path.write_bytes(b"x" * size)
            grant = await grant_to_write(store, key, 5)
            with pytest.raises(Invalid, match="E_SIZE"):
                await asyncio.to_thread(transfer.upload, grant, [path], 5)
            # SeaweedFS 4.48 keeps an empty object of an upload that was cut short (measured); the
            # artifact service deletes what has another size than it must have.
            left = await store.size(key)
            assert left is None or (left == 0 and "weed" in request.node.name)

    async def test_a_grant_reads_an_object_or_a_range(
        self, store: BlobStore, transfer: Transfer
    ) -> None:
        data = os.urandom(3 * MIB)
        await store.put("cas/ab/c", data)
        grant = await grant_to_read(store, "cas/ab/c")
        assert await asyncio.to_thread(transfer.download, grant) == data
        part = await asyncio.to_thread(
            lambda: transfer.download(grant, offset=1_000_000, size=1_500_000)
        )
        assert part == data[1_000_000:2_500_000]

    async def test_a_large_object_is_fetched_in_parallel_ranges(
        self, store: BlobStore, transfer: Transfer, tmp_path: Path
    ) -> None:
        data = os.urandom(MIB) * (2 * PART_BYTES // MIB) + b"end"
        source = tmp_path / "source"
        source.write_bytes(data)
        grant = await grant_to_write(store, "cas/ab/c", len(data))
        await asyncio.to_thread(transfer.upload, grant, [source], len(data))
        grant = await grant_to_read(store, "cas/ab/c")
        target = tmp_path / "target"
        await asyncio.to_thread(transfer.download_to, grant, target, len(data))
        assert target.read_bytes() == data

    async def test_a_grant_for_what_is_not_there_says_so(
        self, store: BlobStore, transfer: Transfer
    ) -> None:
        grant = await grant_to_read(store, "cas/ab/c")
        with pytest.raises(NotFound):
            await asyncio.to_thread(transfer.download, grant)

    async def test_a_download_shorter_than_promised_is_an_error(
        self, store: BlobStore, transfer: Transfer, tmp_path: Path
    ) -> None:
        await store.put("cas/ab/c", b"short")
        grant = await grant_to_read(store, "cas/ab/c")
        # Whoever waits for a file to grow waits in vain; a server may have been cut off.
        expected = Corrupt if grant.url.startswith("file:") else BlobUnavailable
        with pytest.raises(expected):
            await asyncio.to_thread(transfer.download_to, grant, tmp_path / "x", 50)


def transfer_done(transfer: Transfer, grant: Grant, pieces: list[Path | bytes], size: int) -> bool:
    return transfer.upload(grant, pieces, size)


@pytest.mark.parametrize("store", S3, indirect=True)
class TestS3:
    async def test_the_server_itself_refuses_what_a_grant_does_not_say(
        self, store: BlobStore
    ) -> None:
        leave = await store.upload_url("cas/ab/c", 5)
        put = urllib3.PoolManager(retries=False).request
        everything = {"content-length": "5", "if-none-match": "*"}
        assert (
            put(
                "PUT", leave.url, body=b"123456", headers=everything | {"content-length": "6"}
            ).status
            == 403
        )
        assert put("PUT", leave.url, body=b"12345").status in (400, 403)
        assert (
            put("PUT", leave.url.replace("/c?", "/d?"), body=b"12345", headers=everything).status
            == 403
        )
        assert put("GET", leave.url, headers={"if-none-match": "*"}).status == 403
        assert await store.size("cas/ab/c") is None
        assert put("PUT", leave.url, body=b"12345", headers=everything).status == 200
        assert put("PUT", leave.url, body=b"54321", headers=everything).status == 412
        assert await store.get("cas/ab/c") == b"12345"

    async def test_an_expired_grant_asks_for_a_new_one(
        self, store: BlobStore, transfer: Transfer
    ) -> None:
        await store.put("cas/ab/c", b"x")
        signed = await store.download_url("cas/ab/c", expires_s=1)
        grant = Grant(key="cas/ab/c", url=signed.url)

        async def read_until_refused() -> None:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:  # the server's clock decides; nothing tells us when
                transfer.download(grant)
                await asyncio.sleep(0.1)

        with pytest.raises(Transient, match="E_GRANT") as raised:
            await read_until_refused()
        assert "X-Amz" not in str(raised.value)

    async def test_parts_are_put_together_once(self, store: BlobStore) -> None:
        assert isinstance(store, S3Store)
        store._multipart_bytes = 5 * MIB
        data = os.urandom(11 * MIB)
        assert await store.put("cas/ab/c", data)
        assert not await store.put("cas/ab/c", data[::-1])
        assert await store.digest("cas/ab/c") == digest_of(data)

    async def test_an_upload_is_compared_with_its_checksum_by_the_store(
        self, store: BlobStore, transfer: Transfer
    ) -> None:
        assert await store.refuses_wrong_bytes()
        data = os.urandom(100_000)
        wrong = data[:-1] + bytes([data[-1] ^ 1])
        grant = await grant_declared(store, "cas/ab/c", data)
        with pytest.raises(Transient, match="E_DIGEST"):
            transfer.upload(grant, [wrong], len(wrong))
        assert not await store.size("cas/ab/c")
        await store.delete("cas/ab/c")
        assert not await store.is_checked("cas/ab/c")
        assert transfer.upload(grant, [data], len(data))
        assert await store.is_checked("cas/ab/c")
        await store.put("cas/ab/d", data)
        assert not await store.is_checked("cas/ab/d"), "it came without a checksum"

    async def test_a_big_object_is_uploaded_in_parts_once(
        self, store: BlobStore, transfer: Transfer, tmp_path: Path
    ) -> None:
        data = os.urandom(MIB) * (2 * PART_BYTES // MIB) + b"end"
        path = tmp_path / "big"
        path.write_bytes(data)
        assert declared(path, len(data))[0] == digest_of(data)
        first = await grant_declared(store, "cas/ab/c", data)
        second = await grant_declared(store, "cas/ab/c", data)
        assert len(first.parts) == part_count(len(data)) == 3
        assert await asyncio.to_thread(transfer.upload, first, [path], len(data))
        assert await store.is_checked("cas/ab/c")
        assert not await asyncio.to_thread(transfer.upload, second, [path], len(data))
        assert await store.digest("cas/ab/c") == digest_of(data)

    async def test_a_part_with_wrong_bytes_is_refused_and_nothing_appears(
        self, store: BlobStore, transfer: Transfer, tmp_path: Path
    ) -> None:
        data = os.urandom(MIB) * (PART_BYTES // MIB) + b"end"
        grant = await grant_declared(store, "cas/ab/c", data)
        path = tmp_path / "big"
        path.write_bytes(data[:-1] + b"!")
        with pytest.raises(Transient, match="E_DIGEST"):
            await asyncio.to_thread(transfer.upload, grant, [path], len(data))
        path.write_bytes(data[:-1])
        with pytest.raises(Invalid, match="E_SIZE"):
            await asyncio.to_thread(transfer.upload, grant, [path], len(data))
        assert await store.size("cas/ab/c") is None

    async def test_parts_that_nobody_finished_are_forgotten(
        self, store: BlobStore, transfer: Transfer
    ) -> None:
        data = os.urandom(MIB) * (PART_BYTES // MIB) + b"end"
        grant = await grant_declared(store, "cas/ab/c", data)
        assert await store.abandon_uploads(3600) == 0
        assert await store.abandon_uploads(-3600) >= 1
        with pytest.raises(Transient, match="E_GRANT"):
            await asyncio.to_thread(transfer.upload, grant, [data], len(data))
        assert await store.size("cas/ab/c") is None

    async def test_a_wrong_secret_is_said_to_be_one_and_not_repeated(
        self, store: BlobStore, request: pytest.FixtureRequest
    ) -> None:
        address = store.address.removeprefix("s3+http://")
        stranger = open_store(f"s3+http://penstock:not-the-secret@{address}")
        with pytest.raises(NotAllowed, match="E_STORE_DENIED") as raised:
            await stranger.put("a/b", b"x")
        assert "not-the-secret" not in str(raised.value)
        await stranger.close()

    async def test_a_stranger_may_nothing(self, store: BlobStore) -> None:
        await store.put("a/b", b"x")
        url = store.address.removeprefix("s3+") + "/a/b"
        http = urllib3.PoolManager(retries=False)
        assert http.request("GET", url).status == 403
        assert http.request("PUT", url, body=b"y").status == 403
        assert http.request("DELETE", url).status == 403


@pytest.mark.server
async def test_the_back_door_of_seaweedfs_is_locked(weed_server: WeedServer) -> None:
    store = open_store(weed_server.url("backdoor"))
    await store.put("a/b", b"x")
    http = urllib3.PoolManager(retries=False)
    filer = f"http://127.0.0.1:{weed_server.ports['filer']}/buckets/backdoor/a"
    assert http.request("GET", f"{filer}/b").status == 401
    assert http.request("PUT", f"{filer}/c", body=b"x").status == 401
    assert http.request("DELETE", f"{filer}/b").status == 401
    assert await store.get("a/b") == b"x"
    await store.close()


@pytest.mark.server
@pytest.mark.parametrize(
    ("kind", "fixture"), [(MinioServer, "minio_url"), (WeedServer, "weed_url")]
)
async def test_a_killed_store_is_unavailable_at_once(
    kind: type[MinioServer | WeedServer],
    fixture: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    request.getfixturevalue(fixture)  # skips where the program is missing
    server = kind(tmp_path)
    server.start()
    try:
        store = open_store(server.url("penstock"))
        await store.put("a/b", b"x")
        to_write = await grant_to_write(store, "a/c", 1)
        to_read = await grant_to_read(store, "a/b")
    finally:
        server.kill()
    transfer = Transfer(patience_s=0.2)
    started = time.monotonic()
    for call in (
        store.put("a/d", b"x"),
        store.get("a/b"),
        store.size("a/b"),
        store.digest("a/b"),
        store.delete("a/b"),
        anext(store.keys("a/")),
        asyncio.to_thread(transfer.upload, to_write, [b"x"], 1),
        asyncio.to_thread(transfer.download, to_read),
    ):
        with pytest.raises(BlobUnavailable) as raised:
            await call
        assert server.secret not in str(raised.value)
        assert "Signature" not in str(raised.value)
    assert time.monotonic() - started < 20
    await store.close()


@pytest.mark.server
async def test_what_minio_acknowledged_is_there_after_a_kill(
    minio_url: str, tmp_path: Path
) -> None:
    server = MinioServer(tmp_path)
    server.start()
    store = open_store(server.url("penstock"))
    acknowledged = []
    for number in range(30):
        await store.put(f"a/{number}", b"x" * 1000)
        acknowledged.append(f"a/{number}")
    server.kill()
    server.start()
    try:
        for key in acknowledged:
            assert await store.get(key) == b"x" * 1000
    finally:
        server.kill()
        await store.close()


class TestDirectory:
    async def test_a_full_disk_is_said_to_be_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = FileStore(tmp_path / "store")
        await store.put("a/b", b"x")

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(BlobUnavailable, match="E_STORE_FULL"):
            await store.put("a/c", b"x")
        monkeypatch.undo()
        assert await store.size("a/c") is None
        assert list((tmp_path / "store" / ".incoming").iterdir()) == []

    async def test_a_directory_that_cannot_be_made_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        store = FileStore(tmp_path / "file" / "store")
        for call in (store.put("a/b", b"x"), store.upload_url("a/b", 1)):
            with pytest.raises(BlobUnavailable, match="E_STORE"):
                await call

    async def test_a_grant_of_another_machine_is_explained(
        self, tmp_path: Path, transfer: Transfer
    ) -> None:
        store = FileStore(tmp_path / "store")
        grant = await grant_to_write(store, "a/b", 1)
        (tmp_path / "store").rename(tmp_path / "away")
        for _ in range(2):
            with pytest.raises(Invalid, match=r"E_STORE_REMOTE.*--store s3"):
                transfer.upload(grant, [b"x"], 1)
            other = FileStore(tmp_path / "store")  # a store of the same name is still another one
            await other.put("x/y", b"z")

    async def test_a_grant_that_points_elsewhere_is_refused(
        self, tmp_path: Path, transfer: Transfer
    ) -> None:
        store = FileStore(tmp_path / "store")
        grant = await grant_to_write(store, "a/b", 1)
        with pytest.raises(PenstockError):
            transfer.upload(Grant(key="c/d", url=grant.url, headers=grant.headers), [b"x"], 1)
        assert await store.size("a/b") is None

    async def test_stored_bytes_share_no_inode_with_the_file_they_came_from(
        self, tmp_path: Path, transfer: Transfer
    ) -> None:
        store = FileStore(tmp_path / "store")
        source = tmp_path / "source"
        source.write_bytes(b"good")
        transfer.upload(await grant_to_write(store, "a/b", 4), [source], 4)
        source.write_bytes(b"evil")
        assert await store.get("a/b") == b"good"

    async def test_a_link_in_place_of_an_object_is_not_followed(self, tmp_path: Path) -> None:
        store = FileStore(tmp_path / "store")
        await store.put("a/b", b"x")
        secret = tmp_path / "secret"
        secret.write_text("secret")
        (tmp_path / "store" / "a" / "c").symlink_to(secret)
        with pytest.raises(BlobUnavailable):
            await store.get("a/c")

    async def test_what_interrupted_writers_left_is_swept(self, tmp_path: Path) -> None:
        root = tmp_path / "store"
        await FileStore(root).put("a/b", b"x")
        old, new = root / ".incoming" / "old", root / ".incoming" / "new"
        for path in (old, new):
            path.write_bytes(b"half")
        os.utime(old, (0, 0))
        await FileStore(root).put("a/c", b"x")
        assert not old.exists()
        assert new.exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store",
        "file:relative",
        "file://host/dir",
        "s3://key:hidden@host/bucket",
        "s3+http://host:1/bucket",
        "s3+http://key:hidden@host:1/",
        "s3+http://key:hidden@host:1/a/b",
        "s3+http://key:hidden@host:port/bucket",
        "http://key:hidden@host/bucket",
    ],
)
def test_an_url_of_another_shape_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(Invalid, match="E_CONFIG") as raised:
        open_store(url)
    assert "hidden" not in str(raised.value)


async def test_an_address_has_no_credentials() -> None:
    store = open_store("s3+http://key:p%40ss@127.0.0.1:1/bucket")
    assert store.address == "s3+http://127.0.0.1:1/bucket"
    assert "p@ss" not in repr(vars(store))
    with contextlib.suppress(PenstockError):
        await store.close()
