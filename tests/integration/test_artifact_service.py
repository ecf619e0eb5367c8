"""Trees in and out of a real artifact service on a real bus, with every kind of object store."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.blob import BlobStore
from penstock.blob.file import FileStore
from penstock.blob.memory import MemoryStore
from penstock.blob.open import open_store
from penstock.blob.s3 import S3Store
from penstock.blob.transfer import Transfer
from penstock.bus.buckets import Bucket
from penstock.bus.nats import NatsBus
from penstock.bus.topology import ensure
from penstock.clock import SystemClock
from penstock.contracts.artifacts import (
    CARRIED_BYTES_MAX,
    MANIFEST_INLINE_BYTES_MAX,
    PART_BYTES,
    SMALL_BYTES,
    ArtifactRecord,
    CommitAnswer,
    CommitRequest,
    Named,
    Problem,
    StageRequest,
    UploadAnswer,
    UploadRequest,
    layout_of,
    manifest_bytes,
    staging_key,
    tree_key,
)
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.events import DataEvent
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable, Invalid, NotFound, PenstockError, Refused, Transient
from penstock.ids import digest_of
from penstock.runtime.logs import logger
from penstock.trees.client import TreeClient
from penstock.trees.scan import scanned, scanned_bytes
from penstock.units import KIB, MIB
from penstock_artifact.shell import Shell
from penstock_artifact.state import FRESH_S
from penstock_artifact.store import Store

pytestmark = pytest.mark.server

STORES = ["memory", "file", "minio", "weed"]


@pytest.fixture
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    """A store without objects; in memory unless the test is parametrized with a kind."""
    kind = getattr(request, "param", "memory")
    if kind == "file":
        store = open_store(f"file:{tmp_path / 'store'}")
    elif kind == "memory":
        store = open_store("memory:")
    else:
        store = open_store(request.getfixturevalue(f"{kind}_url"))
    yield store
    await store.close()


@contextlib.asynccontextmanager
async def serving(
    bus: NatsBus, names: Subjects, blobs: BlobStore, patience_s: float = 5
) -> AsyncIterator[Shell]:
    log = logger("artifact", "test", "critical")
    clock = SystemClock()
    store = Store(blobs, log, clock, grant_s=900, patience_s=patience_s)
    shell = Shell(bus=bus, names=names, store=store, log=log, clock=clock, verify_max=4)
    await ensure(bus, names, ("artifacts", "events"))
    service = await bus.serve("penstock-artifact", shell.endpoints())
    try:
        yield shell
    finally:
        await service.close()
        await shell.close()


@pytest.fixture
async def service(bus: NatsBus, names: Subjects, blobs: BlobStore) -> AsyncIterator[Shell]:
    async with serving(bus, names, blobs) as shell:
        yield shell


@pytest.fixture
async def client(bus: NatsBus, names: Subjects) -> AsyncIterator[TreeClient]:
    """A client without a cache: every byte comes from the store."""
    client = TreeClient(bus, names, patience_s=10)
    yield client
    await client.close()


@pytest.fixture
async def cached(bus: NatsBus, names: Subjects, tmp_path: Path) -> AsyncIterator[TreeClient]:
    client = TreeClient(bus, names, cache=tmp_path / "cache", patience_s=10)
    yield client
    await client.close()


def folder_of_everything(root: Path) -> Path:
    for path, data in {
        "model.bin": os.urandom(5 * MIB + 7),
        "again/model copy.bin": b"",
        "データ/café.csv": "é,ü\n".encode(),
        "none": b"",
        "small": b"x",
        "edge": os.urandom(SMALL_BYTES),
        "below": os.urandom(SMALL_BYTES - 1),
    }.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (root / "again" / "model copy.bin").write_bytes((root / "model.bin").read_bytes())
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "empty" / "deeper").mkdir(parents=True)
    return root


def hidden_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


async def ask(bus: NatsBus, names: Subjects, verb: str, request: object) -> bytes:
    return (await bus.request(names.artifact(verb), encoded(request), timeout_s=20)).data


async def refusal(bus: NatsBus, names: Subjects, verb: str, body: bytes) -> str:
    answer = await bus.request(names.artifact(verb), body, timeout_s=20)
    error = decoded(answer.data, Problem).error
    return error.code if error else ""


async def eventually(check: Callable[[], Awaitable[bool]], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not await check():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)


# -- round trips ----------------------------------------------------------------------------------
@pytest.mark.parametrize("blobs", STORES, indirect=True)
async def test_a_tree_comes_back_as_it_was(
    blobs: BlobStore, service: Shell, client: TreeClient, cached: TreeClient, tmp_path: Path
) -> None:
    root = folder_of_everything(tmp_path / "root")
    before = scanned(root, ignore=False)
    tree = await client.put_folder(root, "run/r/s/1")
    assert tree == before.ref
    for number, (who, read_only) in enumerate(
        [(client, False), (client, True), (cached, False), (cached, True)]
    ):
        into = tmp_path / f"into{number}"
        assert await who.fetch(tree.digest, into, read_only=read_only) == before.manifest
        assert scanned(into, ignore=False).manifest == before.manifest
    assert await client.read(tree.digest, "データ/café.csv") == "é,ü\n".encode()
    assert await client.read(tree.digest, "none") == b""
    assert await client.read(tree.digest, "edge") == (root / "edge").read_bytes()
    assert await cached.read(tree.digest, "small") == b"x"
    assert await client.exist([tree.digest, digest_of(b"other")]) == {tree.digest}
    assert hidden_in(tmp_path) == [], "nothing is left beside"


@pytest.mark.parametrize("blobs", STORES, indirect=True)
async def test_thousands_of_small_files_take_few_objects(
    blobs: BlobStore, service: Shell, client: TreeClient, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    for number in range(5000):
        path = root / f"{number % 50}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(4 * KIB))
    scan = scanned(root, ignore=True)
    assert len(manifest_bytes(scan.manifest)) > MANIFEST_INLINE_BYTES_MAX
    tree = await client.put(scan, "snapshot")
    keys = [key async for key in blobs.keys("")]
    assert sorted(key.split("/")[0] for key in keys) == ["pack", "pack", "tree"]
    await client.fetch(tree.digest, tmp_path / "into")
    assert scanned(tmp_path / "into", ignore=False).manifest == scan.manifest


async def test_a_part_of_a_tree_is_fetched_by_pattern(
    service: Shell, client: TreeClient, cached: TreeClient, tmp_path: Path
) -> None:
    files = {"a/1": b"1", "a/2": b"2" * SMALL_BYTES, "b/1": b"3", "b/2": b"4" * SMALL_BYTES}
    tree = await client.put_bytes(files, "data/x")
    for number, who in enumerate((client, cached)):
        into = tmp_path / str(number)
        await who.fetch(tree.digest, into, paths=["a/*", "*/1"])
        assert [e.path for e in scanned(into, ignore=False).manifest.entries] == [
            "a/1",
            "a/2",
            "b/1",
        ]
    kept = [p.name for p in (tmp_path / "cache" / "cas").rglob("*") if p.is_file()]
    assert kept == [digest_of(files["a/2"])], "what was not asked for was not fetched"


async def test_an_empty_tree_is_a_tree(service: Shell, client: TreeClient, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    tree = await client.put_folder(tmp_path / "root", "run/r/s/1")
    await client.fetch(tree.digest, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize("blobs", ["file"], indirect=True)
async def test_between_shielded_steps_nothing_is_copied(
    bus: NatsBus, names: Subjects, blobs: BlobStore, service: Shell, tmp_path: Path
) -> None:
    assert isinstance(blobs, FileStore)
    root = folder_of_everything(tmp_path / "root")
    scan = scanned(root, ignore=False)
    inodes = {path.stat().st_ino for path in root.rglob("model*")}
    client = TreeClient(bus, names, cache=tmp_path / "cache", shielded=True, patience_s=10)
    tree = await client.put_folder(root, "run/r/s/1", give=True)
    await client.fetch(tree.digest, tmp_path / "into", read_only=True)
    assert scanned(tmp_path / "into", ignore=False).manifest == scan.manifest
    digest = next(e.digest for e in scan.manifest.entries if e.path == "model.bin")
    stored = blobs.root / "cas" / digest[:2] / digest
    inode = stored.stat().st_ino
    assert inode in inodes
    assert (tmp_path / "into" / "model.bin").stat().st_ino == inode
    await client.fetch(tree.digest, tmp_path / "copy")
    assert (tmp_path / "copy" / "model.bin").stat().st_ino != inode, "what may be changed is a copy"
    other = TreeClient(bus, names, cache=tmp_path / "cache2", shielded=True, patience_s=10)
    await other.fetch(tree.digest, tmp_path / "elsewhere", read_only=True)
    assert scanned(tmp_path / "elsewhere", ignore=False).manifest == scan.manifest
    assert (tmp_path / "elsewhere" / "model.bin").stat().st_ino == inode
    await client.close()
    await other.close()


@pytest.mark.parametrize("blobs", ["file"], indirect=True)
async def test_a_given_file_whose_bytes_went_wrong_is_not_committed(
    bus: NatsBus, names: Subjects, service: Shell, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(SMALL_BYTES))
    scan = scanned(root, ignore=False)
    with (root / "big").open("r+b") as file:
        file.write(b"wrong")
    stamp = next(iter(scan.stamps.values()))
    os.utime(root / "big", ns=(0, stamp.modified_ns))  # as a failing disk would: nobody can see it
    client = TreeClient(bus, names, cache=tmp_path / "cache", shielded=True, patience_s=5)
    with pytest.raises(PenstockError, match="E_DIGEST"):
        await client.put(scan, "run/r/s/1", give=True)
    assert await client.exist([scan.ref.digest]) == set()
    assert not list((tmp_path / "cache").glob("cas/*/*")), "nor does it stay in the cache"
    await client.close()


class Untouched(S3Store):
    """Is not to be read by the service."""

    async def digest(self, key: str) -> str:
        raise AssertionError(key)

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        raise AssertionError(key)


@pytest.mark.parametrize("blobs", ["minio", "weed"], indirect=True)
@pytest.mark.parametrize("cache", ["", "cache"])
async def test_what_the_store_compared_is_not_read_back(
    bus: NatsBus, names: Subjects, blobs: BlobStore, cache: str, tmp_path: Path
) -> None:
    blobs.__class__ = Untouched
    root = folder_of_everything(tmp_path / "root")
    (root / "parts").write_bytes(os.urandom(PART_BYTES + 1))
    scan = scanned(root, ignore=False)
    client = TreeClient(bus, names, cache=tmp_path / cache if cache else None, patience_s=10)
    reader = TreeClient(bus, names, patience_s=10)
    async with serving(bus, names, blobs):
        tree = await client.put(scan, "run/r/s/1", give=True)
        await reader.fetch(tree.digest, tmp_path / "into")
    assert scanned(tmp_path / "into", ignore=False).manifest == scan.manifest
    await client.close()
    await reader.close()


@pytest.mark.parametrize("blobs", ["minio"], indirect=True)
async def test_a_client_that_declares_nothing_is_read_back(
    bus: NatsBus, names: Subjects, blobs: BlobStore, service: Shell
) -> None:
    scan = scanned_bytes({"a": b"1" * SMALL_BYTES})
    request = UploadRequest(tree=Named(manifest=scan.manifest))
    answer = decoded(await ask(bus, names, "upload", request), UploadAnswer)
    (grant,) = answer.grants
    Transfer().upload(grant, [b"2" * SMALL_BYTES], SMALL_BYTES)
    commit = CommitRequest(tree=Named(manifest=scan.manifest))
    assert await refusal(bus, names, "commit", encoded(commit)) == "E_DIGEST"
    assert await blobs.size(grant.key) is None


@pytest.mark.parametrize("blobs", ["minio"], indirect=True)
async def test_checksums_that_are_none_are_refused(
    bus: NatsBus, names: Subjects, blobs: BlobStore, service: Shell
) -> None:
    scan = scanned_bytes({"a": b"1" * SMALL_BYTES})
    for bad in ((), ("x",), ("AAAAAA==",) * 2, ("AAAAA\n==",)):
        request = UploadRequest(
            tree=Named(manifest=scan.manifest),
            declares=True,
            checksums={layout_of(scan.manifest).objects[0].key: bad},
        )
        assert await refusal(bus, names, "upload", encoded(request)) == "E_CHECKSUM"


# -- once is enough -------------------------------------------------------------------------------
@pytest.mark.parametrize("blobs", STORES, indirect=True)
async def test_what_is_stored_is_not_uploaded_again(
    bus: NatsBus, names: Subjects, blobs: BlobStore, service: Shell, client: TreeClient
) -> None:
    shared = os.urandom(SMALL_BYTES)
    await client.put_bytes({"a": shared, "b": b"1"}, "snapshot")

    async def granted(files: dict[str, bytes]) -> set[str]:
        tree = Named(manifest=scanned_bytes(files).manifest)
        answer = decoded(await ask(bus, names, "upload", UploadRequest(tree=tree)), UploadAnswer)
        return {grant.key.split("/")[0] for grant in answer.grants}

    assert await granted({"a": shared, "b": b"1"}) == set()
    assert await granted({"renamed": shared}) == set()
    assert await granted({"a": shared, "b": b"2"}) == {"pack"}
    assert await granted({"a": shared[::-1], "b": b"2"}) == {"cas", "pack"}


async def test_own_outputs_are_fetched_from_the_cache_without_any_service(
    bus: NatsBus, names: Subjects, blobs: BlobStore, cached: TreeClient, tmp_path: Path
) -> None:
    root = folder_of_everything(tmp_path / "root")
    manifest = scanned(root, ignore=False).manifest
    async with serving(bus, names, blobs):
        tree = await cached.put_folder(root, "run/r/s/1", give=True)
    await cached.fetch(tree.digest, tmp_path / "into", read_only=True)
    assert scanned(tmp_path / "into", ignore=False).manifest == manifest
    given = {path.stat().st_ino for path in root.rglob("model*")}
    assert (tmp_path / "into" / "model.bin").stat().st_ino in given, "linked, not copied"


async def test_a_cached_input_that_was_tampered_with_is_fetched_anew(
    service: Shell, cached: TreeClient, tmp_path: Path
) -> None:
    data = os.urandom(SMALL_BYTES)
    tree = await cached.put_bytes({"big": data}, "snapshot")
    await cached.fetch(tree.digest, tmp_path / "one", read_only=True)
    linked = tmp_path / "one" / "big"
    linked.chmod(0o644)
    linked.write_bytes(b"tampered")
    await cached.fetch(tree.digest, tmp_path / "two", read_only=True)
    assert (tmp_path / "two" / "big").read_bytes() == data


async def test_a_cache_smaller_than_the_tree_still_fetches_it(
    bus: NatsBus, names: Subjects, service: Shell, client: TreeClient, tmp_path: Path
) -> None:
    root = folder_of_everything(tmp_path / "root")
    tree = await client.put_folder(root, "snapshot")
    small = TreeClient(bus, names, cache=tmp_path / "cache", cache_bytes_max=MIB, patience_s=5)
    await small.fetch(tree.digest, tmp_path / "into")
    assert scanned(tmp_path / "into", ignore=False).ref == tree
    await small.put_folder(root, "snapshot")
    await small.close()


class Counting(MemoryStore):
    """Counts what is read back."""

    def __init__(self) -> None:
        super().__init__()
        self.read_back: list[str] = []

    async def digest(self, key: str) -> str:
        self.read_back.append(key)
        await asyncio.sleep(0)
        return await super().digest(key)


async def test_commits_of_one_tree_at_once_are_one(
    bus: NatsBus, names: Subjects, client: TreeClient
) -> None:
    blobs = Counting()
    async with serving(bus, names, blobs):
        files = {name: os.urandom(CARRIED_BYTES_MAX // 2) for name in "abc"}
        trees = await asyncio.gather(
            *(client.put_bytes(files, f"run/{number}") for number in range(12))
        )
        assert len(set(trees)) == 1
        assert sorted(blobs.read_back) == sorted(set(blobs.read_back))
        await client.put_bytes(files, "run/again")
        assert len(blobs.read_back) == 3
        await client.put_bytes({**files, "d": os.urandom(SMALL_BYTES)}, "run/more")
        assert len(blobs.read_back) == 4, "only the new content is read back"


class Asked:
    """Counts what the service is asked, by verb."""

    def __init__(self, shell: Shell) -> None:
        self.verbs: list[str] = []
        for verb in ("upload", "commit"):
            setattr(shell, verb, self._noting(verb, getattr(shell, verb)))

    def _noting(self, verb: str, work: Callable[..., Any]) -> Callable[..., Any]:
        async def noted(request: object) -> Any:
            self.verbs.append(verb)
            return await work(request)

        return noted


@pytest.mark.parametrize("blobs", STORES, indirect=True)
@pytest.mark.parametrize(
    ("size", "verbs"),
    [(0, ["commit"]), (100, ["commit"]), (CARRIED_BYTES_MAX, ["commit"]),
     (CARRIED_BYTES_MAX + 1, ["upload", "commit"])],
)  # fmt: skip
async def test_a_small_tree_travels_inside_its_commit(
    size: int, verbs: list[str], bus: NatsBus, names: Subjects, blobs: BlobStore
) -> None:
    log, clock = logger("artifact", "test", "critical"), SystemClock()
    store = Store(blobs, log, clock, grant_s=900, patience_s=5)
    shell = Shell(bus=bus, names=names, store=store, log=log, clock=clock, verify_max=4)
    asked = Asked(shell)
    await ensure(bus, names, ("artifacts", "events"))
    serving = await bus.serve("penstock-artifact", shell.endpoints())
    client = TreeClient(bus, names, patience_s=10)
    files = {"a": os.urandom(size), "b/c": b""}
    tree = await client.put_bytes(files, "run/r/s/1")
    # The endpoints look again at what they answer when a checksum is wanted: "upload" may come twice.
    assert list(dict.fromkeys(asked.verbs)) == verbs
    assert {path: await client.read(tree.digest, path) for path in files} == files
    await client.close()
    await serving.close()
    await shell.close()


async def test_what_is_carried_must_be_the_trees_own(
    bus: NatsBus, names: Subjects, blobs: BlobStore, service: Shell
) -> None:
    scan = scanned_bytes({"a": b"right"})
    tree = Named(manifest=scan.manifest)
    (ref,) = layout_of(scan.manifest).objects

    async def code(carried: dict[str, bytes]) -> str:
        return await refusal(
            bus, names, "commit", encoded(CommitRequest(tree=tree, carried=carried))
        )

    assert await code({ref.key: b"wrong"}) == "E_DIGEST"
    assert await code({ref.key: b"longer than it may be"}) == "E_DIGEST"
    assert await code({ref.key: b"x" * (CARRIED_BYTES_MAX + 1)}) == "E_LIMIT"
    assert await code({ref.key: b"right", "cas/00/../../etc/passwd": b"x"}) == "E_REF"
    assert await blobs.size(ref.key) is None, "nothing of what is refused is stored"
    assert await code({}) == "E_INCOMPLETE"
    assert await code({ref.key: b"right"}) == ""
    assert await blobs.get(ref.key) == b"right"


async def test_a_damaged_object_is_replaced_by_what_is_carried(
    bus: NatsBus, names: Subjects, client: TreeClient, tmp_path: Path
) -> None:
    blobs = open_store(f"file:{tmp_path / 'store'}")
    assert isinstance(blobs, FileStore)
    files = {"a": b"right"}
    (ref,) = layout_of(scanned_bytes(files).manifest).objects
    async with serving(bus, names, blobs):
        (blobs.root / ref.key).parent.mkdir(parents=True)
        (blobs.root / ref.key).write_bytes(b"cut")
        tree = await client.put_bytes(files, "snapshot")
        assert await client.read(tree.digest, "a") == b"right"


# -- what does not hold ---------------------------------------------------------------------------
@pytest.mark.parametrize("blobs", STORES, indirect=True)
@pytest.mark.parametrize("size", [100, SMALL_BYTES])
async def test_wrong_bytes_are_not_committed_but_deleted(
    size: int, bus: NatsBus, blobs: BlobStore, service: Shell, client: TreeClient
) -> None:
    names = service.names
    files = {"a": os.urandom(size)}
    scan = scanned_bytes(files)
    tree = Named(manifest=scan.manifest)
    (ref,) = layout_of(scan.manifest).objects
    answer = decoded(await ask(bus, names, "upload", UploadRequest(tree=tree)), UploadAnswer)
    commit = encoded(CommitRequest(tree=tree))
    assert await refusal(bus, names, "commit", commit) == "E_INCOMPLETE"
    await asyncio.to_thread(Transfer().upload, answer.grants[0], [b"!" * size], size)
    assert await refusal(bus, names, "commit", commit) == "E_DIGEST"
    assert await blobs.size(ref.key) is None
    assert await blobs.size(tree_key(scan.ref.digest)) is None
    assert await client.exist([scan.ref.digest]) == set()
    await client.put_bytes(files, "snapshot")
    assert await client.read(scan.ref.digest, "a") == files["a"]


async def test_an_object_cut_short_is_replaced(
    blobs: BlobStore, service: Shell, client: TreeClient
) -> None:
    data = os.urandom(SMALL_BYTES)
    digest = digest_of(data)
    await blobs.put(f"cas/{digest[:2]}/{digest}", b"")  # as SeaweedFS leaves it
    tree = await client.put_bytes({"a": data}, "snapshot")
    assert await client.read(tree.digest, "a") == data


@pytest.mark.parametrize("blobs", ["file", "minio"], indirect=True)
async def test_a_deleted_object_is_noticed_within_moments(
    blobs: BlobStore, service: Shell, client: TreeClient
) -> None:
    tree = await client.put_bytes({"a": os.urandom(SMALL_BYTES), "b": b"1"}, "snapshot")
    manifest = await client.manifest(tree.digest)
    keys = [ref.key for ref in layout_of(manifest).objects] + [tree_key(tree.digest)]
    for key in keys:
        assert await client.exist([tree.digest]) == {tree.digest}
        data = await blobs.get(key)
        await blobs.delete(key)
        started = time.monotonic()

        async def gone() -> bool:
            return await client.exist([tree.digest]) == set()

        await eventually(gone)
        assert time.monotonic() - started < FRESH_S + 2
        await blobs.put(key, data)


async def test_a_tree_that_was_uploaded_but_not_committed_does_not_exist(
    bus: NatsBus, names: Subjects, blobs: BlobStore, service: Shell, client: TreeClient
) -> None:
    scan = scanned_bytes({"a": b"1"})
    tree = Named(manifest=scan.manifest)
    answer = decoded(await ask(bus, names, "upload", UploadRequest(tree=tree)), UploadAnswer)
    await asyncio.to_thread(Transfer().upload, answer.grants[0], [b"1"], 1)
    assert await client.exist([scan.ref.digest]) == set()
    with pytest.raises(NotFound):
        await client.manifest(scan.ref.digest)
    answer = decoded(await ask(bus, names, "upload", UploadRequest(tree=tree)), UploadAnswer)
    assert answer.grants == ()
    commit = decoded(await ask(bus, names, "commit", CommitRequest(tree=tree)), CommitAnswer)
    assert commit.tree == scan.ref


async def test_a_staged_manifest_that_lies_is_deleted(
    bus: NatsBus, names: Subjects, blobs: BlobStore, service: Shell
) -> None:
    key = staging_key("a" * 64)
    await blobs.put(key, b'{"entries":[]}')
    body = encoded(UploadRequest(tree=Named(digest="a" * 64, size=14)))
    assert await refusal(bus, names, "upload", body) == "E_DIGEST"
    assert await blobs.size(key) is None
    assert await refusal(bus, names, "upload", body) == "E_INCOMPLETE"


async def test_a_staged_manifest_is_gone_after_the_commit(
    blobs: BlobStore, service: Shell, client: TreeClient
) -> None:
    scan = scanned_bytes({f"{number:05}-{'x' * 100}": b"1" for number in range(4000)})
    assert len(manifest_bytes(scan.manifest)) > MANIFEST_INLINE_BYTES_MAX
    tree = await client.put(scan, "snapshot")
    assert [key async for key in blobs.keys("staging/")] == []
    assert (await client.put(scan, "snapshot")) == tree
    assert await client.manifest(tree.digest) == scan.manifest


HOSTILE: dict[str, tuple[str, Any, str]] = {
    "nothing": ("upload", b"", "E_DECODE"),
    "no json": ("commit", b"\xff\xfe", "E_DECODE"),
    "deep": ("exist", b'{"digests":' + b"[" * 100_000, "E_DECODE"),
    "deep unknown": ("exist", b'{"digests":[],"x":' + b"[" * 100_000, "E_DECODE"),
    "wrong type": ("fetch", b'{"digest":5}', "E_DECODE"),
    "no digest": ("fetch", b'{"digest":"../../etc/passwd"}', "E_ID"),
    "no such tree": ("fetch", b'{"digest":"%s"}' % (b"0" * 64), "E_NOT_FOUND"),
    "many": ("exist", {"digests": ["0" * 63 + c for c in "0123456789abcdef"] * 100}, "E_LIMIT"),
    "huge manifest": ("stage", {"digest": "0" * 64, "size": 1 << 40}, "E_LIMIT"),
    "negative": ("stage", {"digest": "0" * 64, "size": -1}, "E_LIMIT"),
    "no tree": ("upload", {"tree": {}}, "E_ID"),
    "way out": (
        "upload",
        {"tree": {"manifest": {"entries": [{"path": "../x"}]}}},
        "E_ARCHIVE_PATH",
    ),
    "ansi": (
        "commit",
        {"tree": {"manifest": {"entries": [{"path": "\x1b[2J"}]}}},
        "E_ARCHIVE_NAME",
    ),
    "twice": (
        "commit",
        {"tree": {"manifest": {"entries": [{"path": "a/"}, {"path": "a/"}]}}},
        "E_ARCHIVE_DUPLICATE",
    ),
    "owner": ("commit", {"tree": {"manifest": {}}, "owner": "data/>"}, "E_ID"),
    "patterns": ("fetch", {"digest": "0" * 64, "paths": ["*"] * 1000}, "E_NOT_FOUND"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_request_is_refused_and_hurts_nobody(
    name: str, bus: NatsBus, names: Subjects, service: Shell, client: TreeClient
) -> None:
    verb, body, code = HOSTILE[name]
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    assert await refusal(bus, names, verb, data) == code
    assert (await client.put_bytes({"a": b"1"}, "snapshot")).files == 1


async def test_a_file_that_changes_between_scan_and_upload_is_noticed(
    service: Shell, client: TreeClient, tmp_path: Path
) -> None:
    size = SMALL_BYTES
    for change in (b"y" * size, b"longer" * size, b""):
        root = tmp_path / f"{len(change)}"
        root.mkdir()
        (root / "a").write_bytes(os.urandom(size))
        scan = scanned(root, ignore=False)
        (root / "a").write_bytes(change)
        os.utime(root / "a", (1, 1))
        with pytest.raises(Invalid, match="E_OUTPUT_CHANGED"):
            await client.put(scan, "run/r/s/1")
        assert await client.exist([scan.ref.digest]) == set()


# -- records and events ---------------------------------------------------------------------------
async def test_a_commit_is_recorded_and_a_dataset_announced_when_it_changes(
    bus: NatsBus, names: Subjects, service: Shell, client: TreeClient
) -> None:
    one = await client.put_bytes({"a": b"1"}, "data/digits")
    await client.put_bytes({"a": b"1"}, "data/digits")
    await client.put_bytes({"a": b"1"}, "run/r/s/1")
    two = await client.put_bytes({"a": b"2"}, "data/digits")
    await asyncio.gather(*(client.put_bytes({"a": b"1"}, "data/digits") for _ in range(5)))

    events: list[DataEvent] = []
    headers: list[str] = []

    def note(stored: Any) -> None:
        events.append(decoded(stored.data, DataEvent))
        headers.append(stored.headers["ce-type"])

    subject = names.data_event("digits", "committed")
    await bus.replay(names.stream("events"), [names.events()], note)
    assert [event.tree for event in events] == [one, two, one]
    assert set(headers) == {"penstock.data.committed.v1"}
    assert (await bus.last(names.stream("events"), subject)) is not None

    records = Bucket(bus, names.bucket("artifacts"), ArtifactRecord)
    value = await records.get(one.digest)
    assert value is not None
    assert value.value.tree == one
    assert set(value.value.owners) == {"data/digits", "run/r/s/1"}
    assert time.time() - value.value.at < 60


# -- outages --------------------------------------------------------------------------------------
async def test_without_a_service_the_client_says_so_when_its_patience_ends(
    bus: NatsBus, names: Subjects
) -> None:
    client = TreeClient(bus, names, patience_s=0.3)
    with pytest.raises(BusUnavailable, match=r"E_NO_RESPONDER.*penstock serve artifact"):
        await client.put_bytes({"a": b"1"}, "snapshot")
    await client.close()


async def test_a_service_that_comes_late_is_waited_for(
    bus: NatsBus, names: Subjects, blobs: BlobStore, client: TreeClient
) -> None:
    putting = asyncio.ensure_future(client.put_bytes({"a": b"1"}, "snapshot"))
    await asyncio.sleep(0)
    async with serving(bus, names, blobs):
        assert (await putting).files == 1


async def test_a_store_that_is_away_is_waited_for_and_the_service_lives_on(
    bus: NatsBus, names: Subjects, client: TreeClient
) -> None:
    blobs = MemoryStore()
    async with serving(bus, names, blobs, patience_s=0.1):
        blobs.down = True
        body = encoded(StageRequest(digest="0" * 64, size=5))
        assert await refusal(bus, names, "stage", body) == "E_STORE"
        impatient = TreeClient(bus, names, patience_s=0.3)
        with pytest.raises(Transient, match="E_STORE"):
            await impatient.put_bytes({"a": b"1"}, "snapshot")
        await impatient.close()
        putting = asyncio.ensure_future(client.put_bytes({"a": b"1"}, "snapshot"))
        assert await refusal(bus, names, "stage", body) == "E_STORE"
        blobs.down = False
        assert (await putting).files == 1


async def test_a_refusal_is_not_waited_for(bus: NatsBus, names: Subjects, service: Shell) -> None:
    client = TreeClient(bus, names, patience_s=600)
    started = time.monotonic()
    with pytest.raises(Refused, match="E_ID"):
        await client.put_bytes({"a": b"1"}, "data/not a name")
    with pytest.raises(NotFound):
        await client.fetch("0" * 64, Path("/nonexistent"))
    assert time.monotonic() - started < 5
    await client.close()
