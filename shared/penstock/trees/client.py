"""Storing and fetching trees, for executors and clients: the other side of the artifact service.

    put    manifest → grants for what the store lacks → uploads in parallel → commit
           a small tree: manifest and contents → commit
    fetch  manifest → grants for what the cache lacks → downloads, checked → written below a folder

An artifact service that is not there, or whose store is not, is waited for (`patience_s` without any
progress); a refusal is raised at once.
"""

import asyncio
import contextlib
import glob
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from penstock.blob.transfer import CutShort, Transfer
from penstock.bus import Bus
from penstock.contracts.artifacts import (
    CARRIED_BYTES_MAX,
    EXIST_MAX,
    MANIFEST_INLINE_BYTES_MAX,
    SMALL_BYTES,
    CommitAnswer,
    CommitRequest,
    Entry,
    ExistAnswer,
    ExistRequest,
    FetchAnswer,
    FetchRequest,
    Grant,
    Layout,
    Manifest,
    Named,
    ObjectRef,
    Place,
    StageAnswer,
    StageRequest,
    TreeRef,
    UploadAnswer,
    UploadRequest,
    layout_of,
    manifest_bytes,
    tree_key,
)
from penstock.contracts.codec import decoded
from penstock.contracts.paths import check_manifest
from penstock.contracts.subjects import Subjects
from penstock.errors import Corrupt, Invalid, NotFound, PenstockError, Transient
from penstock.ids import digest_of, is_digest
from penstock.trees.asking import ArtifactService
from penstock.trees.cache import BYTES_MAX, Cache
from penstock.trees.hashing import Purpose, Scan
from penstock.trees.materialise import Folder
from penstock.trees.scan import scanned, scanned_bytes, scanned_file
from penstock.trees.sources import Content, Sources, check_contents, contents_of, small_bytes
from penstock.trees.writing import Writing

EXECUTOR_PATIENCE_S = 600.0
CLIENT_PATIENCE_S = 10.0
THREADS_MAX = 8
ROUNDS_MAX = 5
"""Times that a tree is offered again because objects were missing or damaged at the commit."""
REMEMBERED_MAX = 256
REMEMBERED_ENTRIES_MAX = 64
RANGES_MAX = 64
"""Small files fetched by a range each; of more, the whole packs."""
_UPLOAD_AGAIN = frozenset({"E_INCOMPLETE", "E_DIGEST", "E_GRANT", "E_CHANGED"})
"""E_CHANGED: what was to be read is gone; another process may have trimmed the cache."""

T = TypeVar("T")


class TreeClient:
    """Trees in and out. One per process; everything may be called concurrently."""

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        *,
        cache: Path | None = None,
        cache_bytes_max: int = BYTES_MAX,
        shielded: bool = False,
        patience_s: float = EXECUTOR_PATIENCE_S,
    ) -> None:
        """Make a client.

        `shielded`: whoever reads what `fetch` links can write to none of it (steps that see their inputs
        on a read-only mount). Then a file may be the cache's and a `file:` store's at the same time, and
        small files are links too. A cache must not be shared with clients that are not.
        """
        self.service = ArtifactService(bus, names, patience_s)
        self.cache = Cache(cache, cache_bytes_max) if cache else None
        self.shielded = shielded and cache is not None
        self._takes = False
        """The store is a directory of this machine that takes our files by link: they must be synced."""
        self._transfer = Transfer(patience_s=patience_s)
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="trees")
        self._locks: dict[str, asyncio.Lock] = {}
        self._committed: set[str] = set()
        """Trees that were committed from here: most likely the store has them still."""
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        """Short ones that were used last."""

    async def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._transfer.close()

    # -- in --------------------------------------------------------------------------------------
    async def put_folder(
        self, path: Path, owner: str, *, ignore: bool = False, give: bool = False
    ) -> TreeRef:
        """Scan a folder and store it. `give`: see `put`. Raises as `scanned` and `put`."""
        return await self.put(
            await self.scan_folder(path, ignore=ignore, give=give), owner, give=give
        )

    async def put_file(
        self, path: Path, owner: str, name: str = "", *, give: bool = False
    ) -> TreeRef:
        """Store one file as a tree. Raises as `scanned_file` and `put`."""
        return await self.put(await self.scan_file(path, name, give=give), owner, give=give)

    async def scan_folder(self, path: Path, *, ignore: bool = False, give: bool = False) -> Scan:
        """Scan a folder that is to be stored. Raises as `scanned`."""
        sync = give and self._takes
        return await self._in_thread(lambda: scanned(path, ignore=ignore, sync=sync))

    async def scan_file(
        self, path: Path, name: str = "", *, purpose: Purpose = "data", give: bool = False
    ) -> Scan:
        """Scan a file that is to be stored as a tree of its own. Raises as `scanned_file`."""
        sync = give and self._takes
        return await self._in_thread(lambda: scanned_file(path, name, purpose=purpose, sync=sync))

    async def put_bytes(self, files: dict[str, bytes], owner: str) -> TreeRef:
        """Store bytes as a tree of files."""
        return await self.put(scanned_bytes(files), owner)

    async def put(self, scan: Scan, owner: str, *, give: bool = False) -> TreeRef:
        """Store a scanned tree and return it, committed: durable and verified.

        `give`: the files are ours now; instead of being copied they become part of the cache, read-only
        (for the outputs of a step that has ended). May be tried again with the same scan.

        Raises:
            Invalid: E_<purpose>_CHANGED, a file changed since it was scanned.
            Refused: what the service does not take.
            BlobUnavailable, BusUnavailable: after `patience_s` without progress.
        """
        sources = Sources(scan, layout_of(scan.manifest))
        sealing = None
        if self.cache is not None:
            await self._keep(sources, self.cache, give=give)
            if give and self.shielded:
                sealing = asyncio.ensure_future(self._in_thread(sources.seal))
        tree = await self._stored(sources, owner)
        if sealing is not None and self.cache is not None and await sealing:
            await self._in_thread(sources.give_folder, tree.digest, self.cache)
        return tree

    async def _stored(self, sources: Sources, owner: str) -> TreeRef:
        """Upload what the store lacks and commit, again while objects are missing or damaged."""
        digest = sources.scan.ref.digest
        for left in range(ROUNDS_MAX, 0, -1):
            try:
                named = await self._named(sources.scan.manifest)
                carried: dict[str, bytes] = {}
                if digest in self._committed:
                    pass  # it is whole, unless the store has lost something: the answer says so
                elif left == ROUNDS_MAX and named.manifest and sources.bytes <= CARRIED_BYTES_MAX:
                    carried = await self._in_thread(sources.carried, self.cache)
                else:
                    await self._upload(named, owner, sources)
                request = CommitRequest(tree=named, owner=owner, carried=carried)
                tree = (await self.service.ask("commit", request, CommitAnswer)).tree
                self._committed.add(digest)
                return tree
            except PenstockError as error:
                self._committed.discard(digest)
                if error.code not in _UPLOAD_AGAIN or left == 1:
                    raise
                await self._in_thread(sources.check_unchanged)
                if error.code == "E_DIGEST" and self.cache is not None:
                    await self._in_thread(sources.recheck, self.cache)
        raise AssertionError

    # -- out -------------------------------------------------------------------------------------
    async def fetch(
        self, digest: str, into: Path, *, paths: Sequence[str] = (), read_only: bool = False
    ) -> Manifest:
        """Write a tree below `into` and return its manifest.

        `paths` (fnmatch patterns) narrow what is written. With `read_only` big files are links into
        the cache and nothing may be written to; without it everything is a copy of its own.

        Raises:
            NotFound: no such tree was committed.
            Invalid, Corrupt, Transient: as `materialise.Folder.write`.
            BlobUnavailable, BusUnavailable: after `patience_s` without progress.
        """
        manifest = await self.manifest(digest)
        entries = [
            entry
            for entry in manifest.entries
            if not paths or any(fnmatchcase(entry.path, pattern) for pattern in paths)
        ]
        layout = layout_of(manifest, digest)
        kept = None
        if self.shielded and read_only and self.cache is not None:
            kept = self.cache.folder(digest, small_bytes(manifest))
        least = SMALL_BYTES if kept else 1
        needed = _needed(layout, {entry.digest for entry in entries if entry.size >= least})
        async with self._lent_cache(sum(ref.size for ref in needed), into) as (cache, private):
            writing = Writing(
                layout, entries, cache, into, read_only=read_only, private=private, kept=kept
            )
            for left in range(ROUNDS_MAX, 0, -1):
                if kept is not None and writing.kept is None:  # it is not what it was
                    if self.cache is not None:
                        self.cache.drop_folder(digest, small_bytes(manifest))
                    needed = _needed(layout, {entry.digest for entry in entries if entry.size})
                await self._collect(digest, layout, needed, paths, cache)
                try:
                    await self._in_thread(writing.run)
                    break
                except NotFound:  # another process has trimmed the cache meanwhile
                    if left == 1:
                        raise
        return manifest

    async def manifest(self, digest: str) -> Manifest:
        """Return the manifest of a committed tree. Raises NotFound."""
        if not is_digest(digest):
            raise Invalid(
                f"{digest[:80]!r} is no digest; allowed: 64 hexadecimal digits",
                code="E_ID",
                where="artifact",
            )
        known = self._manifests.get(digest)
        if known is not None:
            self._manifests.move_to_end(digest)
            return known
        manifest = await self._manifest(digest)
        if len(manifest.entries) <= REMEMBERED_ENTRIES_MAX:
            self._manifests[digest] = manifest
            while len(self._manifests) > REMEMBERED_MAX:
                self._manifests.popitem(last=False)
        return manifest

    async def _manifest(self, digest: str) -> Manifest:
        cache = self.cache
        if cache is not None:
            manifest = await self._in_thread(lambda: _kept_manifest(cache, digest))
            if manifest is not None:
                return manifest
        answer = await self.service.ask(
            "fetch", FetchRequest(digest=digest, paths=(NOTHING,)), FetchAnswer
        )
        if answer.manifest is not None:
            data = manifest_bytes(answer.manifest)
        elif answer.manifest_grant is not None:
            grant = answer.manifest_grant
            data = await self._in_thread(lambda: self._transfer.download(grant))
        else:
            raise Corrupt("the artifact service answered without a manifest", where=digest)
        if digest_of(data) != digest:
            raise Corrupt("the manifest has not its digest", code="E_DIGEST", where=digest)
        manifest = decoded(data, Manifest)
        check_manifest(manifest)
        if cache is not None:
            await self._in_thread(lambda: cache.add(tree_key(digest), cache.written([data])))
        return manifest

    async def read(self, digest: str, path: str) -> bytes:
        """Return the bytes of one file of a committed tree.

        Raises:
            NotFound: no such tree, or no such file in it.
            Corrupt: E_DIGEST, the store returned other bytes.
        """
        manifest = await self.manifest(digest)
        entry = next((e for e in manifest.entries if e.path == path and e.digest), None)
        if entry is None:
            raise NotFound(f"no file {path!r} in the tree", where=f"artifact:{digest[:12]}")
        return await self._bytes_of(digest, manifest, entry)

    async def fetch_files(self, digest: str, into: Path, pattern: str) -> list[str]:
        """Write the files whose paths match below `into`, reading nothing else; return the paths.

        Raises:
            NotFound: no such tree, or no such file in it.
            Others as `fetch`.
        """
        manifest = await self.manifest(digest)
        found = [e for e in manifest.entries if e.digest and fnmatchcase(e.path, pattern)]
        if not found:
            raise NotFound(f"no file {pattern!r} in the tree", where=f"artifact:{digest[:12]}")
        small = [entry for entry in found if entry.size < SMALL_BYTES]
        if len(small) > RANGES_MAX:
            await self.fetch(digest, into, paths=(pattern,))
            return [entry.path for entry in found]
        for entry in found:
            if entry.size >= SMALL_BYTES:
                await self.fetch(digest, into, paths=(glob.escape(entry.path),))

        def write(entry: Entry, data: bytes) -> None:
            with Folder(into) as folder:
                folder.write(entry, [data])

        for entry in small:
            data = await self._bytes_of(digest, manifest, entry)
            await self._in_thread(write, entry, data)
        return [entry.path for entry in found]

    async def _bytes_of(self, digest: str, manifest: Manifest, entry: Entry) -> bytes:
        """Return one file's bytes: from the cache, or as a range of the object it lies in."""
        path = entry.path
        if not entry.size:
            return b""
        place = layout_of(manifest, digest).places[entry.digest]
        cache = self.cache
        if cache is not None:
            data = await self._in_thread(lambda: _kept_bytes(cache, place))
            if data is not None and digest_of(data) == entry.digest:
                return data
        async for page in self.service.grants(digest, (glob.escape(path),), {place.key}):
            for again in (True, False):
                data = await self._in_thread(self._range, page[0], place)
                if digest_of(data) == entry.digest:
                    return data
                if again:
                    await self._doubt(digest, place.key)
        raise Corrupt(f"{path!r} has other bytes than its digest says", code="E_DIGEST")

    async def exist(self, digests: Iterable[str]) -> set[str]:
        """Return those of the trees that exist completely."""
        asked = sorted({digest for digest in digests if is_digest(digest)})
        found: set[str] = set()
        for at in range(0, len(asked), EXIST_MAX):
            request = ExistRequest(digests=tuple(asked[at : at + EXIST_MAX]))
            found.update((await self.service.ask("exist", request, ExistAnswer)).digests)
        return found

    # -- parts of put ----------------------------------------------------------------------------
    async def _named(self, manifest: Manifest) -> Named:
        """Return the manifest as it travels: inline, or staged in the store when it is large."""
        data = manifest_bytes(manifest)
        if len(data) <= MANIFEST_INLINE_BYTES_MAX:
            return Named(manifest=manifest)
        digest = digest_of(data)
        request = StageRequest(digest=digest, size=len(data))
        grant = (await self.service.ask("stage", request, StageAnswer)).grant
        if grant.url:
            await self._in_thread(lambda: self._transfer.upload(grant, [data], len(data)))
        return Named(digest=digest, size=len(data))

    async def _upload(self, named: Named, owner: str, sources: Sources) -> None:
        """Upload what the store lacks, a page of grants at a time."""

        def upload(grant: Grant) -> None:
            try:
                pieces, take = sources.pieces(grant.key, self.cache)
                take = take and self.shielded
                size = sources.objects[grant.key].size
                self._transfer.upload(grant, pieces, size, take=take)
                self._takes = take and grant.url.startswith("file:")
            except PenstockError as error:
                if error.code in ("E_SIZE", "E_CHANGED"):
                    sources.check_unchanged()
                raise

        def declare(key: str) -> tuple[str, tuple[str, ...]]:
            try:
                return key, sources.checksums(key, self.cache)
            except PenstockError:
                sources.check_unchanged()
                raise

        after = ""
        checksums: dict[str, tuple[str, ...]] = {}
        while True:
            request = UploadRequest(
                tree=named, owner=owner, after=after, declares=True, checksums=checksums
            )
            answer = await self.service.ask("upload", request, UploadAnswer)
            if answer.wanted:
                sums = [self._in_thread(declare, key) for key in answer.wanted]
                checksums = dict(await asyncio.gather(*sums))
                continue
            checksums = {}
            await _all(self._in_thread(upload, grant) for grant in answer.grants if grant.url)
            if not answer.more or not answer.grants:
                return
            after = answer.grants[-1].key

    async def _keep(self, sources: Sources, cache: Cache, *, give: bool) -> None:
        """Put the tree's own objects into the cache, so that the next step here downloads nothing."""

        def keep() -> None:
            if sum(ref.size for ref in sources.objects.values()) > cache.bytes_max // 2:
                return
            for key in sources.objects:
                sources.keep(key, cache, give=give)
            data = manifest_bytes(sources.scan.manifest)
            key = tree_key(digest_of(data))
            if cache.path(key, len(data)) is None:
                cache.add(key, cache.written([data]))

        await self._in_thread(keep)

    # -- parts of fetch --------------------------------------------------------------------------
    @contextlib.asynccontextmanager
    async def _lent_cache(self, size: int, into: Path) -> AsyncIterator[tuple[Cache, bool]]:
        """Lend the cache, or, without one or for a tree that would flush it, one that ends with the call."""
        if self.cache is not None and size <= self.cache.bytes_max // 2:
            yield self.cache, False
            return
        into.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".penstock-fetch-", dir=into.parent))
        try:
            yield Cache(folder, 1 << 62), True
        finally:
            await self._in_thread(lambda: shutil.rmtree(folder, ignore_errors=True))

    async def _collect(
        self,
        digest: str,
        layout: Layout,
        needed: list[ObjectRef],
        paths: Sequence[str],
        cache: Cache,
    ) -> None:
        """Bring needed objects into the cache. Two callers in need of the same one fetch it once."""
        missing = {ref.key: ref for ref in needed if cache.path(ref.key, ref.size) is None}
        if not missing:
            return
        contents = contents_of(layout)

        async def one(grant: Grant) -> None:
            ref = missing[grant.key]
            name = str(cache.root / grant.key)
            lock = self._locks.setdefault(name, asyncio.Lock())

            def bring() -> None:
                self._download(grant, ref, contents[ref.key], cache)

            async with lock:
                if cache.path(ref.key, ref.size) is None:
                    try:
                        await self._in_thread(bring)
                    except (Corrupt, CutShort):
                        await self._doubt(digest, ref.key)
                        await self._in_thread(bring)
            if not lock.locked():
                self._locks.pop(name, None)

        for left in range(ROUNDS_MAX, 0, -1):
            try:
                async for page in self.service.grants(digest, paths, set(missing)):
                    await _all(one(grant) for grant in page)
                return
            except Transient as error:  # a grant has expired while others were used
                if error.code != "E_GRANT" or left == 1:
                    raise

    async def _doubt(self, digest: str, key: str) -> None:
        """Tell that an object's bytes came wrong.

        Raises:
            NotFound: they are wrong in the store as well, and deleted now.
        """
        request = FetchRequest(digest=digest, paths=(NOTHING,), doubts=(key,))
        await self.service.ask("fetch", request, FetchAnswer)

    def _range(self, grant: Grant, place: Place) -> bytes:
        return self._transfer.download(grant, offset=place.offset, size=place.size)

    def _download(
        self, grant: Grant, ref: ObjectRef, contents: list[Content], cache: Cache
    ) -> None:
        """Download an object into the cache, which it enters only if every content has its digest."""
        temporary = cache.temporary()
        try:
            link = self.shielded and cache is self.cache
            linked = self._transfer.download_to(grant, temporary, ref.size, link=link)
            check_contents(temporary, contents)
            try:
                cache.add(ref.key, temporary)
            except PermissionError:
                if not linked:
                    raise
                temporary.unlink()  # the store's files belong to somebody else
                self._transfer.download_to(grant, temporary, ref.size)
                check_contents(temporary, contents)
                cache.add(ref.key, temporary)
        finally:
            temporary.unlink(missing_ok=True)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


NOTHING = "\x00"
"""A pattern that no path matches: only the manifest is asked for."""


def _needed(layout: Layout, digests: set[str]) -> list[ObjectRef]:
    keys = {layout.places[digest].key for digest in digests}
    return [ref for ref in layout.objects if ref.key in keys]


def _kept_manifest(cache: Cache, digest: str) -> Manifest | None:
    path = cache.path(tree_key(digest))
    with contextlib.suppress(FileNotFoundError):
        data = path.read_bytes() if path else b""
        if digest_of(data) == digest:
            return decoded(data, Manifest)
    return None


def _kept_bytes(cache: Cache, place: Place) -> bytes | None:
    path = cache.path(place.key)
    if path is not None:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(place.offset)
            return file.read(place.size)
    return None


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await everything; the first failure is raised when the others have come to an end."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
