"""A copy of the artifact service, as its shell.py and store.py have it; and how others ask it.

Checked by the real functions: names, manifests, what is missing, what is verified, what is refused.
Each copy believes what it saw for FRESH_S; contents are written once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from tests.simulation.world.clockwork import PAUSE_S, Box, Process, Wait, Work, call
from tests.simulation.world.store import Store, reached

from penstock.contracts.artifacts import (
    CommitAnswer,
    CommitRequest,
    ExistAnswer,
    ExistRequest,
    FetchAnswer,
    FetchRequest,
    Grant,
    Manifest,
    Named,
    ObjectRef,
    TreeRef,
    UploadAnswer,
    UploadRequest,
    tree_key,
    tree_ref,
)
from penstock.errors import (
    BusUnavailable,
    Conflict,
    NotFound,
    PenstockError,
    Transient,
)
from penstock.ids import digest_of
from penstock.units import Seconds
from penstock_artifact import decide
from penstock_artifact.effects import Announce, Discard, Effect, Record, StoreManifest, Unstage
from penstock_artifact.state import FRESH_S, Objects, Tree, Trees

ANSWER_S = 4.0


def asked(process: Process, what: str, request: Any, patience_s: float) -> Work[Any]:
    """Return some copy's answer; asked again while there is none.

    Raises:
        BusUnavailable: nobody answered for `patience_s`.
        PenstockError: a refusal, or that the store is away.
    """
    world = process.world
    until = world.now + patience_s
    while True:
        yield None
        copies = [copy for copy in world.artifacts if copy.is_reachable()]
        if copies and process.cut_until <= world.now and not world.happens("lost_request"):
            box, copy = Box(), world.chance.choice(copies)
            copy.spawn(copy.answer(what, request, box), what)
            yield Wait(box.is_full, world.now + ANSWER_S)
            if box.is_full() and not world.happens("lost_reply"):
                if box.error is not None:
                    raise box.error
                return box.answer
        if world.now > until:
            raise BusUnavailable("no artifact service answers", where=what)
        yield world.now + PAUSE_S * 4


@dataclass(eq=False)
class Artifact(Process):
    """One copy of the service."""

    known: Objects = field(default_factory=Objects)
    trees: Trees = field(default_factory=Trees)

    def boot(self) -> None:
        """Begin with an empty memory."""
        self.known, self.trees = Objects(), Trees()

    def answer(self, what: str, request: Any, box: Box) -> Work[None]:
        """Put the answer to a request into a box."""
        try:
            box.answer = yield from getattr(self, f"_{what}")(request)
        except PenstockError as error:
            box.error = error

    # -- requests --------------------------------------------------------------------------------
    def _upload(self, request: UploadRequest) -> Work[UploadAnswer]:
        decide.checked_owner(request.owner)
        tree = self._tree(request.tree)
        missing = yield from self._missing(decide.behind(tree.objects, request.after))
        page, more = decide.page_of(missing)
        grants = tuple(Grant(key=ref.key, url="granted") for ref in page)
        return UploadAnswer(digest=tree.digest, grants=grants, more=more)

    def _commit(self, request: CommitRequest) -> Work[CommitAnswer]:
        owner = decide.checked_owner(request.owner)
        tree = self._tree(request.tree)
        yield from self._committed(tree)
        for effect in decide.told(tree, owner):
            yield from self._perform(effect)
        return CommitAnswer(tree=tree_ref(tree.manifest))

    def _fetch(self, request: FetchRequest) -> Work[FetchAnswer]:
        digest = decide.checked_digest(request.digest, "fetch.digest")
        tree = yield from self._committed_tree(digest)
        if tree is None:
            raise NotFound("no such tree is stored", where=f"artifact:{digest}")
        page, more = decide.page_of(decide.readable(tree, request.paths, request.after))
        grants = tuple(Grant(key=ref.key, url="granted") for ref in page)
        return FetchAnswer(grants=grants, more=more, manifest=tree.manifest)

    def _exist(self, request: ExistRequest) -> Work[ExistAnswer]:
        asked_at = self.world.now
        whole = []
        for digest in decide.checked_digests(request.digests):
            tree = yield from self._committed_tree(digest)
            if tree is not None and not (yield from self._missing(tree.objects)):
                self.world.audit.said_whole(tree, asked_at - FRESH_S)
                whole.append(digest)
        return ExistAnswer(digests=tuple(whole))

    # -- trees -----------------------------------------------------------------------------------
    def _tree(self, named: Named) -> Tree:
        tree = decide.inline_tree(named)
        assert tree is not None, "all manifests of this world are small"
        self.trees.add(tree)
        return tree

    def _committed_tree(self, digest: str) -> Work[Tree | None]:
        tree, key = self.trees.get(digest), tree_key(digest)
        if tree is not None:
            ref = ObjectRef(key=key, size=tree.size)
            return None if (yield from self._missing([ref])) else tree
        data = yield from reached(self, lambda store: store.objects.get(key))
        if data is None:
            return None
        tree = decide.read_tree(data, digest)
        self.trees.add(tree)
        self.known.verified(key, len(data), Seconds(self.world.now))
        return tree

    def _missing(self, objects: Sequence[ObjectRef]) -> Work[list[ObjectRef]]:
        started = Seconds(self.world.now)
        doubtful = decide.to_look_at(objects, self.known, started)
        for ref in doubtful:
            size = yield from reached(self, partial(_size, ref.key))
            damage = decide.wrong_size(ref, size)
            if damage is not None:
                yield from self._perform(damage)
            else:
                self.known.saw(ref.key, size, Seconds(self.world.now))
        return decide.to_look_at(doubtful, self.known, started)

    # -- commit ----------------------------------------------------------------------------------
    def _committed(self, tree: Tree) -> Work[None]:
        """Verify every object nobody has verified, then store the manifest."""
        missing = set((yield from self._missing(tree.objects)))
        unverified = decide.to_verify(tree, self.known)
        manifest = ObjectRef(key=tree_key(tree.digest), size=tree.size)
        if not missing and not unverified and not (yield from self._missing([manifest])):
            return
        contents, findings = decide.members(tree), []
        for ref in dict.fromkeys([*unverified, *sorted(missing, key=lambda ref: ref.key)]):
            if ref in missing:
                findings.append(decide.Finding(ref, None, right=False))
                continue
            data = yield from reached(self, partial(_get, ref.key))
            if data is None:
                self.known.saw(ref.key, None, Seconds(self.world.now))
                findings.append(decide.Finding(ref, None, right=False))
                continue
            right = len(data) == ref.size and decide.is_right(data, contents[ref.key])
            findings.append(decide.Finding(ref, len(data), right=right))
            if right:
                self.known.verified(ref.key, ref.size, Seconds(self.world.now))
        refusal = decide.refused(findings)
        if refusal is not None:
            error, wrong = refusal
            self.world.landed[f"refused a commit of a tree: {error.code}"] += 1
            for effect in wrong:
                yield from self._perform(effect)
            raise error
        for effect in decide.stored(tree):
            yield from self._perform(effect)

    # -- effects ---------------------------------------------------------------------------------
    def _perform(self, effect: Effect) -> Work[None]:
        match effect:
            case Discard(key=key):
                self.known.saw(key, None, Seconds(self.world.now))
                yield from reached(self, lambda store: store.objects.pop(key, None))
            case StoreManifest(key=key, data=data):
                yield from reached(self, lambda store: store.put_once(key, data))
                self.known.verified(key, len(data), Seconds(self.world.now))
                self.world.audit.manifest_stored(key, data)
            case Record():
                yield from self._record(effect)
            case Announce() | Unstage():
                raise AssertionError(effect)

    def _record(self, effect: Record) -> Work[None]:
        server, key = self.world.server, effect.tree.digest
        while True:
            revision, before = yield from call(self, lambda: server.value("artifacts", key))
            record = decide.recorded(before, effect, Seconds(self.wall()))
            try:
                yield from call(self, server.put_value, "artifacts", key, record, revision)
            except Conflict:
                continue
            return


# -- the other side: shared/penstock/trees/client.py ------------------------------------------------
PATIENCE_S = 15.0
ROUNDS_MAX = 5
UPLOAD_AGAIN = frozenset({"E_INCOMPLETE", "E_DIGEST", "E_GRANT"})


def stored_tree(process: Process, manifest: Manifest, content: bytes, owner: str) -> Work[TreeRef]:
    """Store a tree and return its reference: grants, uploads, commit.

    Raises:
        PenstockError: the store or the service was away for too long, or refuses.
    """
    world, named = process.world, Named(manifest=manifest)
    for left in range(ROUNDS_MAX, 0, -1):
        try:
            upload = UploadRequest(tree=named, owner=owner)
            granted = yield from asked(process, "upload", upload, PATIENCE_S)
            for grant in granted.grants:
                # Left out: bytes lost and damaged ones put in their place under an older grant, which
                # only a store that compares checksums refuses (seed 208640 at f8d6354).
                trusted = world.shape.store_checks or grant.key in world.store.lost_at
                bad = world.happens("bad_upload") and not trusted
                data = bytes(len(content)) if bad else content
                put = partial(_put, grant.key, data)
                yield from reached(process, put, PATIENCE_S)
            commit = CommitRequest(tree=named, owner=owner)
            answer = yield from asked(process, "commit", commit, PATIENCE_S)
            return cast(TreeRef, answer.tree)
        except PenstockError as error:
            if error.code not in UPLOAD_AGAIN or left == 1:
                raise
    raise AssertionError


def fetched_tree(process: Process, digest: str) -> Work[bytes]:
    """Return the content of a tree of one file, checked against its digests.

    Raises:
        NotFound: no such tree is stored, or its bytes are gone.
        Transient: what holds its bytes is away.
    """
    answer = yield from asked(process, "fetch", FetchRequest(digest=digest), PATIENCE_S)
    entry = answer.manifest.entries[0]
    for grant in answer.grants:
        data = yield from reached(process, partial(_get, grant.key), PATIENCE_S)
        if data is None:
            raise NotFound("an object of the tree is gone", where=grant.key)
        if digest_of(data) != entry.digest:
            raise Transient("other bytes than their digest says", code="E_DIGEST", where=grant.key)
        return data
    return b""


def _put(key: str, data: bytes, store: Store) -> bool:
    return store.put_once(key, data)


def _get(key: str, store: Store) -> bytes | None:
    return store.objects.get(key)


def _size(key: str, store: Store) -> int | None:
    data = store.objects.get(key)
    return None if data is None else len(data)
