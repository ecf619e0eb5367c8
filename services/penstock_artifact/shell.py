"""The artifact service at work: adapters in hand.

A store that does not answer is tried again for a few seconds, then the caller is told E_STORE and
asks again: an outage never ends the service. Commits of one tree that arrive together are one.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar, assert_never

import msgspec
from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus, Expect, Received
from penstock.bus.buckets import Bucket, Value
from penstock.clock import Clock
from penstock.contracts import cloudevents
from penstock.contracts.artifacts import (
    ArtifactRecord,
    CommitAnswer,
    CommitRequest,
    ExistAnswer,
    ExistRequest,
    FetchAnswer,
    FetchRequest,
    Grant,
    Named,
    ObjectRef,
    Place,
    StageAnswer,
    StageRequest,
    UploadAnswer,
    UploadRequest,
    staging_key,
    tree_key,
    tree_ref,
)
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.events import DataEvent
from penstock.contracts.subjects import Subjects
from penstock.errors import (
    BlobUnavailable,
    Conflict,
    Corrupt,
    Invalid,
    NotFound,
    PenstockError,
    Transient,
)
from penstock.ids import derived_id
from penstock.runtime.crash import Crash, never
from penstock_artifact import decide
from penstock_artifact.doubts import ANSWER_S, Doubts
from penstock_artifact.effects import Announce, Discard, Effect, Record, StoreManifest, Unstage
from penstock_artifact.state import Tree, Trees
from penstock_artifact.store import Store

ATTEMPTS_MAX = 8
BIG_MANIFEST_BYTES = 64 * 1024
"""Above this, a manifest is checked in a thread."""

T = TypeVar("T")


class Shell:
    """Everything the artifact service touches."""

    def __init__(
        self,
        *,
        bus: Bus,
        names: Subjects,
        store: Store,
        log: FilteringBoundLogger,
        clock: Clock,
        verify_max: int,
        crash: Crash = never,
    ) -> None:
        self.bus = bus
        self.names = names
        self.store = store
        self.log = log
        self.clock = clock
        self.crash = crash
        self.records = Bucket(bus, names.bucket("artifacts"), ArtifactRecord)
        self.trees = Trees()
        self._reads = asyncio.Semaphore(max(1, verify_max))
        self._commits: dict[str, asyncio.Task[None]] = {}
        self.doubts = Doubts(store, log, self._committed_tree, self._looked_at)

    def endpoints(self) -> dict[str, Callable[[Received], Awaitable[None]]]:
        """Return the handler of each subject."""
        return {
            self.names.artifact("stage"): self._handler(StageRequest, self.stage),
            self.names.artifact("upload"): self._handler(UploadRequest, self.upload),
            self.names.artifact("commit"): self._handler(CommitRequest, self.commit),
            self.names.artifact("fetch"): self._handler(FetchRequest, self.fetch),
            self.names.artifact("exist"): self._handler(ExistRequest, self.exist),
        }

    async def close(self) -> None:
        """End what is still being verified; whoever waits asks another copy."""
        tasks = [*self._commits.values(), *self.doubts.tasks()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- requests --------------------------------------------------------------------------------
    async def stage(self, request: StageRequest) -> StageAnswer:
        """Grant the upload of a large manifest."""
        ref = decide.staged_object(request)
        if not await self.store.missing([ref]):
            return StageAnswer(grant=Grant(key=ref.key))
        return StageAnswer(grant=await self.store.upload_grant(ref))

    async def upload(self, request: UploadRequest) -> UploadAnswer:
        """Grant the upload of what the store lacks of a tree."""
        decide.checked_owner(request.owner)
        tree = await self._tree(request.tree)
        await self.doubts.settled(tree.digest)
        missing = await self.store.missing(decide.behind(tree.objects, request.after))
        page, more = decide.upload_page(missing)
        checksums = request.checksums
        if page and request.declares and await self.store.refuses_wrong_bytes():
            wanted = decide.undeclared(page, checksums)
            if wanted:
                return UploadAnswer(digest=tree.digest, wanted=tuple(wanted), more=more)
        else:
            checksums = {}
        grants = await asyncio.gather(
            *(self.store.upload_grant(ref, checksums.get(ref.key, ())) for ref in page)
        )
        self.crash("artifact.after-grant")
        return UploadAnswer(digest=tree.digest, grants=tuple(grants), more=more)

    async def commit(self, request: CommitRequest) -> CommitAnswer:
        """Verify a tree, store its manifest, record and announce it."""
        owner = decide.checked_owner(request.owner)
        tree = await self._tree(request.tree)
        await self.doubts.settled(tree.digest)
        for ref, data in decide.carried(tree, request.carried):
            if await self.store.missing([ref]):
                await self.store.put(ref.key, data)
        self.crash("artifact.after-carry")
        task = self._commits.get(tree.digest)
        if task is None:
            task = self._commits[tree.digest] = asyncio.ensure_future(self._committed(tree))
            task.add_done_callback(lambda done: self._forget(tree.digest, done))
        done, _ = await asyncio.wait({task}, timeout=ANSWER_S)
        if not done:
            raise Transient(
                "the tree is still being verified", code="E_VERIFYING", where=tree.digest
            )
        if task.cancelled():
            raise BlobUnavailable("the artifact service is stopping", where=tree.digest)
        task.result()
        for effect in decide.told(tree, owner):
            await self.perform(effect)
        self.crash("artifact.before-answer")
        return CommitAnswer(tree=tree_ref(tree.manifest))

    async def fetch(self, request: FetchRequest) -> FetchAnswer:
        """Grant the reading of a committed tree."""
        digest = decide.checked_digest(request.digest, "fetch.digest")
        if request.doubts:
            await self.doubts.take(digest, request.doubts)
        await self.doubts.settled(digest)
        tree = await self._committed_tree(digest)
        if tree is None:
            raise NotFound("no such tree is stored", where=f"artifact:{digest}")
        if request.doubts and await self.store.missing(tree.objects):
            raise NotFound(
                "the stored bytes were not those that were committed, and are deleted",
                where=f"artifact:{digest}",
                hint="run the step that made it again: penstock run rerun",
            )
        page, more = decide.page_of(decide.readable(tree, request.paths, request.after))
        grants = await asyncio.gather(*(self.store.download_grant(ref.key) for ref in page))
        answer = FetchAnswer(grants=tuple(grants), more=more)
        if request.after:
            return answer
        if decide.is_inline(tree):
            return msgspec.structs.replace(answer, manifest=tree.manifest)
        grant = await self.store.download_grant(tree_key(digest))
        return msgspec.structs.replace(answer, manifest_grant=grant)

    async def exist(self, request: ExistRequest) -> ExistAnswer:
        """Answer which trees are whole."""
        digests = decide.checked_digests(request.digests)
        found = await asyncio.gather(*(self._is_whole(digest) for digest in digests))
        return ExistAnswer(
            digests=tuple(digest for digest, whole in zip(digests, found, strict=True) if whole)
        )

    # -- effects ---------------------------------------------------------------------------------
    async def perform(self, effect: Effect) -> None:
        """Carry out one effect."""
        match effect:
            case Discard():
                await self.store.discard(effect)
            case StoreManifest():
                self.crash("artifact.after-verify")
                await self.store.put(effect.key, effect.data)
                self.crash("artifact.after-manifest")
            case Unstage():
                with contextlib.suppress(BlobUnavailable):  # it may be deleted some other time
                    await self.store.discard(Discard(key=effect.key, why=""))
            case Record():
                await self._record(effect)
                self.crash("artifact.after-record")
            case Announce():
                await self._announce(effect)
            case _:
                assert_never(effect)

    async def _record(self, effect: Record) -> None:
        key = effect.tree.digest
        before: Value[ArtifactRecord] | None = (
            None  # most trees are new: looked up if this one is not
        )
        for _ in range(ATTEMPTS_MAX):
            record = decide.recorded(before.value if before else None, effect, self.clock.now())
            try:
                if before is None:
                    await self.records.create(key, record)
                else:
                    await self.records.update(key, record, before.revision)
            except Conflict:
                before = await self.records.get(key)
                continue
            return
        raise Conflict("too many commits of one tree at once", where=key)

    async def _announce(self, effect: Announce) -> None:
        """Append the event unless the dataset's last one tells the same content."""
        subject = self.names.data_event(effect.dataset, "committed")
        stream = self.names.stream("events")
        for _ in range(ATTEMPTS_MAX):
            last = await self.bus.last(stream, subject)
            if last is not None:
                with contextlib.suppress(Corrupt):
                    if decoded(last.data, DataEvent).tree.digest == effect.tree.digest:
                        return
            sequence = last.sequence if last else 0
            now = self.clock.now()
            event_id = derived_id("data", effect.dataset, effect.tree.digest, str(sequence))
            event = DataEvent(
                dataset=effect.dataset,
                what="committed",
                at=now,
                tree=effect.tree,
                owner=effect.owner,
            )
            headers = cloudevents.headers_of(
                event_id=event_id,
                kind=cloudevents.event_type("data", "committed"),
                source=f"/{self.names.workspace}/artifact",
                subject=f"data/{effect.dataset}",
                at=now,
            )
            with contextlib.suppress(Conflict):  # another copy has just told something: look again
                await self.bus.append(
                    subject,
                    encoded(event),
                    headers,
                    message_id=event_id,
                    expect=Expect(sequence=sequence),
                )
                return
        raise Conflict("too many commits of one dataset at once", where=subject)

    # -- trees -----------------------------------------------------------------------------------
    async def _tree(self, named: Named) -> Tree:
        """Return the checked tree that a request names.

        Raises:
            Invalid: it is not fit to be stored.
            Transient: E_INCOMPLETE, its staged manifest is not there.
        """
        size = 0 if named.manifest is None else len(named.manifest.entries) * 100
        tree = await self._checked(size, decide.inline_tree, named)
        if tree is not None:
            self.trees.add(tree)
            return tree
        remembered = self.trees.get(named.digest)
        if remembered is not None:
            return remembered
        for key in (staging_key(named.digest), tree_key(named.digest)):
            data = await self._manifest(key)
            if data is None:
                continue
            try:
                found = await self._checked(
                    len(data), lambda d=data: decide.read_tree(d, named.digest)
                )
            except Invalid as error:
                await self.perform(Discard(key=key, why=error.message))
                raise
            self.trees.add(found)
            return found
        raise Transient(
            "the manifest is not there",
            code="E_INCOMPLETE",
            where=staging_key(named.digest),
            hint="stage it first",
        )

    async def _committed_tree(self, digest: str) -> Tree | None:
        """Return a committed tree, or None."""
        tree = self.trees.get(digest)
        key = tree_key(digest)
        if tree is not None:
            ref = ObjectRef(key=key, size=tree.size)
            return None if await self.store.missing([ref]) else tree
        data = await self._manifest(key)
        if data is None:
            return None
        try:
            tree = await self._checked(len(data), decide.read_tree, data, digest)
        except Invalid as error:
            raise decide.damaged(digest, error) from error
        self.trees.add(tree)
        self.store.verified(ObjectRef(key=key, size=len(data)))
        return tree

    async def _manifest(self, key: str) -> bytes | None:
        """Return a manifest's bytes from the store; None if it is not there."""
        size = await self.store.size(key)
        if size is None:
            return None
        decide.check_manifest_size(size)
        try:
            return await self.store.get(key)
        except NotFound:
            return None

    async def _is_whole(self, digest: str) -> bool:
        await self.doubts.settled(digest)
        try:
            tree = await self._committed_tree(digest)
        except Corrupt as error:
            self.log.error("damaged", code=error.code, where=error.where, message=error.message)
            return False
        return tree is not None and not await self.store.missing(tree.objects)

    # -- commit ----------------------------------------------------------------------------------
    async def _committed(self, tree: Tree) -> None:
        """Have every object verified that nobody has verified, then store the manifest.

        One that came in on a checksum was verified by the store; the others are read back.

        Raises:
            Transient: E_INCOMPLETE or E_DIGEST.
        """
        missing = set(await self.store.missing(tree.objects))
        unverified = decide.to_verify(tree, self.store.known)
        # That it was committed is not enough: objects that were lost since have come in anew.
        if not missing and not unverified and await self._was_committed(tree):
            return
        contents = decide.members(tree)

        async def look(ref: ObjectRef) -> decide.Finding:
            if ref in missing:
                return decide.Finding(ref, None, right=False)
            if await self.store.is_checked(ref.key):  # when it came in, by the store itself
                self.store.verified(ref)
                return decide.Finding(ref, ref.size, right=True)
            return await self._looked_at(ref, contents[ref.key])

        findings = await asyncio.gather(*(look(ref) for ref in {*unverified, *missing}))
        refusal = decide.refused(findings)
        if refusal is not None:
            error, effects = refusal
            for effect in effects:
                await self.perform(effect)
            raise error
        for effect in decide.stored(tree):
            await self.perform(effect)

    async def _was_committed(self, tree: Tree) -> bool:
        """Say whether the manifest is stored; its objects were verified before that."""
        return not await self.store.missing([ObjectRef(key=tree_key(tree.digest), size=tree.size)])

    async def _looked_at(self, ref: ObjectRef, contents: list[tuple[str, Place]]) -> decide.Finding:
        """Read an object back, unless that was done while it waited for its turn."""
        async with self._reads:
            if self.store.known.is_verified(ref):
                return decide.Finding(ref, ref.size, right=True)
            finding = await self._read_back(ref, contents)
        if finding.right:
            self.store.verified(ref)
        return finding

    async def _read_back(self, ref: ObjectRef, contents: list[tuple[str, Place]]) -> decide.Finding:
        try:
            if ref.key.startswith("cas/"):
                digest = await self.store.digest(ref.key)
                return decide.Finding(ref, ref.size, right=digest == contents[0][0])
            data = await self.store.get(ref.key)
        except NotFound:
            self.store.forget(ref.key)
            return decide.Finding(ref, None, right=False)
        right = len(data) == ref.size and await asyncio.to_thread(decide.is_right, data, contents)
        return decide.Finding(ref, len(data), right=right)

    def _forget(self, digest: str, done: "asyncio.Task[None]") -> None:
        self._commits.pop(digest, None)
        if not done.cancelled() and done.exception() is not None:
            self.log.info("not committed", tree=digest, error=str(done.exception()))

    # -- the bus ---------------------------------------------------------------------------------
    async def _checked(self, size: int, work: Callable[..., T], *arguments: object) -> T:
        """Decide about a manifest, in a thread when it is large enough to keep others waiting."""
        if size > BIG_MANIFEST_BYTES:
            return await asyncio.to_thread(work, *arguments)
        return work(*arguments)

    def _handler(
        self, kind: type[T], answer: Callable[[T], Awaitable[object]]
    ) -> Callable[[Received], Awaitable[None]]:
        async def handle(received: Received) -> None:
            try:
                request = decoded(received.data, kind)
            except (Corrupt, RecursionError, UnicodeDecodeError) as error:
                text = error.message if isinstance(error, PenstockError) else str(error)
                raise Invalid(text, code="E_DECODE", where=received.subject) from error
            result = await answer(request)
            if received.reply:
                await self.bus.publish(received.reply, encoded(result))

        return handle
