"""Pure decisions of the artifact service.

    upload ──▶ objects missing? ──yes──▶ grants, a page at a time
                    │ no
    commit ──▶ ─────┴──▶ read back ──all right──▶ manifest stored ──▶ recorded ──▶ announced
                            │
                          wrong ──▶ deleted, E_DIGEST: upload again

Everything a stranger sends is checked here before a byte of the store is touched.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec

from penstock.contracts.artifacts import (
    CARRIED_BYTES_MAX,
    EXIST_MAX,
    FILES_MAX,
    GRANTS_MAX,
    MANIFEST_BYTES_MAX,
    MANIFEST_INLINE_BYTES_MAX,
    OWNERS_MAX,
    PARTS_MAX,
    ArtifactRecord,
    Manifest,
    Named,
    ObjectRef,
    Place,
    StageRequest,
    layout_of,
    manifest_bytes,
    part_count,
    staging_key,
    tree_key,
    tree_ref,
)
from penstock.contracts.paths import check_manifest
from penstock.errors import Corrupt, Invalid, PenstockError, Transient
from penstock.ids import checked_name, digest_of, is_digest
from penstock.units import Seconds
from penstock_artifact.effects import Announce, Discard, Effect, Record, StoreManifest, Unstage
from penstock_artifact.state import Mark, Objects, Tree

OWNER_MAX = 300
PATTERNS_MAX = 100
STALE_S = 90.0
"""A mark of another machine that was not renewed for so long is nobody's."""
CHECKSUM = re.compile(r"[A-Za-z0-9+/]{6}==")
DATASET = "data/"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found under an object's key: `size` None means nothing; `right`: the digests fit."""

    ref: ObjectRef
    size: int | None
    right: bool


# -- what was asked -------------------------------------------------------------------------------
def checked_digest(digest: str, where: str) -> str:
    """Return `digest` if it is one. Raises Invalid E_ID."""
    if not is_digest(digest):
        raise Invalid(
            f"{digest[:80]!a} is no digest; allowed: 64 hexadecimal digits",
            code="E_ID",
            where=where,
        )
    return digest


def checked_owner(owner: str) -> str:
    """Return `owner` if it may own a tree. Raises Invalid E_ID."""
    if len(owner) > OWNER_MAX or not owner.isprintable():
        raise Invalid(
            f"{owner[:80]!a} is no owner; allowed: at most {OWNER_MAX} printable characters",
            code="E_ID",
            where="owner",
        )
    if owner.startswith(DATASET):
        checked_name(owner.removeprefix(DATASET), "owner")
    return owner


def staged_object(request: StageRequest) -> ObjectRef:
    """Return the object that a large manifest is uploaded as. Raises Invalid."""
    digest = checked_digest(request.digest, "stage.digest")
    check_manifest_size(request.size)
    return ObjectRef(key=staging_key(digest), size=request.size)


def check_manifest_size(size: int) -> None:
    """Refuse a manifest that is too large to be read. Raises Invalid E_LIMIT."""
    if not 0 < size <= MANIFEST_BYTES_MAX:
        raise Invalid(
            f"a manifest of {size:,} bytes; allowed: {MANIFEST_BYTES_MAX:,}",
            code="E_LIMIT",
            where="manifest",
            hint=f"{FILES_MAX:,} files at most; pack them into an archive of your own",
        )


def checked_digests(digests: Sequence[str]) -> tuple[str, ...]:
    """Return what may be asked in one go. Raises Invalid."""
    if len(digests) > EXIST_MAX:
        raise Invalid(
            f"{len(digests):,} digests; allowed: {EXIST_MAX:,} at a time",
            code="E_LIMIT",
            where="exist.digests",
        )
    return tuple(checked_digest(digest, "exist.digests") for digest in dict.fromkeys(digests))


def inline_tree(named: Named) -> Tree | None:
    """Return the checked tree of a manifest that came with the request, None if none came.

    Raises:
        Invalid: as check_manifest, and E_DIGEST when it has another digest than it is called by.
    """
    if named.manifest is None:
        checked_digest(named.digest, "tree.digest")
        return None
    tree = checked_tree(named.manifest, manifest_bytes(named.manifest))
    if named.digest and named.digest != tree.digest:
        raise Invalid(
            f"the manifest's digest is {tree.digest}, not {named.digest[:80]!a}",
            code="E_DIGEST",
            where="tree",
        )
    return tree


def read_tree(data: bytes, digest: str) -> Tree:
    """Return the checked tree of a manifest that was read from the store.

    Raises:
        Invalid: as check_manifest, and E_DIGEST: the bytes are others, or not in canonical form.
    """
    if digest_of(data) != digest:
        raise Invalid("the manifest has not its digest", code="E_DIGEST", where=digest)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"no manifest: {error}", code="E_DECODE", where=digest) from error
    tree = checked_tree(manifest, manifest_bytes(manifest))
    if tree.digest != digest:
        raise Invalid("not the canonical bytes of a manifest", code="E_DIGEST", where=digest)
    return tree


def checked_tree(manifest: Manifest, data: bytes) -> Tree:
    """Return a manifest with what follows from it. Raises Invalid as check_manifest."""
    check_manifest_size(len(data))
    check_manifest(manifest)
    digest = digest_of(data)
    layout = layout_of(manifest, digest)
    objects = tuple(sorted(layout.objects, key=lambda ref: ref.key))
    return Tree(digest=digest, manifest=manifest, layout=layout, objects=objects, size=len(data))


# -- upload and fetch -----------------------------------------------------------------------------
def behind(objects: Sequence[ObjectRef], after: str) -> list[ObjectRef]:
    """Return the objects behind a key, in key order."""
    return [ref for ref in objects if ref.key > after]


def to_look_at(objects: Iterable[ObjectRef], known: Objects, now: Seconds) -> list[ObjectRef]:
    """Return the objects whose existence is not known from a moment ago."""
    return [ref for ref in objects if not known.is_fresh(ref, now)]


def wrong_size(ref: ObjectRef, size: int | None) -> Discard | None:
    """Return the order to delete an object that is there with another size than it must have."""
    if size is None or size == ref.size:
        return None
    return Discard(key=ref.key, why=f"{size:,} bytes, not {ref.size:,}")


def readable(tree: Tree, paths: Sequence[str], after: str) -> list[ObjectRef]:
    """Return the objects behind `after` that hold the files whose paths match a pattern.

    Raises:
        Invalid: E_LIMIT, too many patterns.
    """
    if len(paths) > PATTERNS_MAX:
        raise Invalid(
            f"{len(paths)} patterns; allowed: {PATTERNS_MAX}", code="E_LIMIT", where="fetch.paths"
        )
    if not paths:
        return behind(tree.objects, after)
    keys = {
        tree.layout.places[entry.digest].key
        for entry in tree.manifest.entries
        if entry.size and any(fnmatchcase(entry.path, pattern) for pattern in paths)
    }
    return [ref for ref in behind(tree.objects, after) if ref.key in keys]


def upload_page(objects: Sequence[ObjectRef]) -> tuple[Sequence[ObjectRef], bool]:
    """Return the objects that one answer grants, by their parts, and whether there are more."""
    count, left = 0, PARTS_MAX
    while count < min(len(objects), GRANTS_MAX):
        left -= part_count(objects[count].size)
        if left < 0:
            break
        count += 1
    return objects[:count], len(objects) > count


def undeclared(page: Sequence[ObjectRef], checksums: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the keys of a page whose checksums have not come.

    Raises:
        Invalid: E_CHECKSUM, what came is not one checksum for each part.
    """
    for ref in page:
        given = checksums.get(ref.key)
        if given is not None and (
            len(given) != part_count(ref.size) or not all(map(CHECKSUM.fullmatch, given))
        ):
            raise Invalid(
                f"{len(given)} checksums, first {given[:1]!a}; allowed: base64 of the CRC-32 of "
                f"each of {part_count(ref.size)} parts",
                code="E_CHECKSUM",
                where=ref.key[:80],
            )
    return [ref.key for ref in page if ref.key not in checksums]


def page_of(objects: Sequence[ObjectRef]) -> tuple[Sequence[ObjectRef], bool]:
    """Return the objects of one answer, and whether there are more."""
    return objects[:GRANTS_MAX], len(objects) > GRANTS_MAX


def is_inline(tree: Tree) -> bool:
    """Say whether a manifest fits into an answer."""
    return tree.size <= MANIFEST_INLINE_BYTES_MAX


# -- commit ---------------------------------------------------------------------------------------
def carried(tree: Tree, given: Mapping[str, bytes]) -> list[tuple[ObjectRef, bytes]]:
    """Return the objects that came with a commit, every byte of them right.

    Raises:
        Invalid: E_LIMIT, more than may be carried; E_REF, an object that is not of this tree.
        Transient: E_DIGEST, other bytes than their digests say.
    """
    size = sum(map(len, given.values()))
    if size > CARRIED_BYTES_MAX:
        raise Invalid(
            f"{size:,} bytes; allowed: {CARRIED_BYTES_MAX:,}",
            code="E_LIMIT",
            where="commit.carried",
            hint="ask for grants and upload them",
        )
    wanted = {ref.key: ref for ref in tree.objects}
    foreign = next((key for key in given if key not in wanted), None)
    if foreign is not None:
        raise Invalid(
            f"{foreign[:80]!a} is no object of tree {tree.digest[:12]}…",
            code="E_REF",
            where="commit.carried",
        )
    contents = members(tree)
    for key, data in given.items():
        if len(data) != wanted[key].size or not is_right(data, contents[key]):
            raise Transient(
                "the bytes that came are not what the manifest says",
                code="E_DIGEST",
                where=key,
                hint="read them again",
            )
    return [(wanted[key], data) for key, data in given.items()]


def to_verify(tree: Tree, known: Objects) -> list[ObjectRef]:
    """Return the objects whose bytes nobody has verified yet."""
    return [ref for ref in tree.objects if not known.is_verified(ref)]


def members(tree: Tree) -> Mapping[str, list[tuple[str, Place]]]:
    """Return by object key the digests it must hold and where."""
    found: dict[str, list[tuple[str, Place]]] = {ref.key: [] for ref in tree.objects}
    for digest, place in tree.layout.places.items():
        found[place.key].append((digest, place))
    return found


def is_right(data: bytes, contents: Iterable[tuple[str, Place]]) -> bool:
    """Say whether a pack's bytes are those of its members."""
    return all(
        digest_of(data[place.offset : place.offset + place.size]) == digest
        for digest, place in contents
    )


def damage(findings: Iterable[Finding]) -> list[Discard]:
    """Return the orders to delete what was found with wrong bytes."""
    return [
        Discard(key=f.ref.key, why="wrong bytes")
        for f in findings
        if f.size is not None and not f.right
    ]


def refused(findings: Sequence[Finding]) -> tuple[PenstockError, list[Effect]] | None:
    """Return why a tree cannot be committed and what must go, or None when everything is right."""
    missing = [f.ref.key for f in findings if f.size is None]
    wrong = damage(findings)
    if wrong:
        return Transient(
            f"{len(wrong):,} objects had other bytes than their digests say; they were deleted",
            code="E_DIGEST",
            where=wrong[0].key,
            hint="upload them again",
        ), [*wrong]
    if missing:
        return Transient(
            f"{len(missing):,} objects are not there yet",
            code="E_INCOMPLETE",
            where=missing[0],
            hint="upload them, then commit",
        ), []
    return None


def stored(tree: Tree) -> list[Effect]:
    """Return what makes a verified tree a committed one."""
    data = manifest_bytes(tree.manifest)
    return [StoreManifest(key=tree_key(tree.digest), data=data)]


def told(tree: Tree, owner: str) -> list[Effect]:
    """Return what follows from a commit: the record, and the event of a dataset."""
    ref = tree_ref(tree.manifest)
    effects: list[Effect] = [Record(tree=ref, owner=owner)]
    if not is_inline(tree):
        effects.append(Unstage(key=staging_key(tree.digest)))
    if owner.startswith(DATASET):
        effects.append(Announce(dataset=owner.removeprefix(DATASET), tree=ref, owner=owner))
    return effects


def recorded(before: ArtifactRecord | None, order: Record, now: Seconds) -> ArtifactRecord:
    """Return a tree's record after one more commit of it."""
    others = [o for o in (before.owners if before else ()) if o != order.owner]
    owners = tuple(o for o in (order.owner, *others) if o)[:OWNERS_MAX]
    return ArtifactRecord(tree=order.tree, owner=order.owner, at=now, owners=owners)


# -- after an unclean end -------------------------------------------------------------------------
def is_stale(mark: Mark, mine: Mark, is_running: Callable[[int], bool]) -> bool:
    """Say whether the copy that left a mark has ended without removing it, as far as can be told here.

    At once when this machine was booted since or the process is gone; else when nobody renews it.
    """
    if mine.machine and mark.machine == mine.machine and mark.boot != mine.boot:
        return True
    if mark.boot and (mark.boot, mark.space) == (mine.boot, mine.space):
        return not is_running(mark.pid)
    return mine.at - mark.at > STALE_S


# -- what the store says --------------------------------------------------------------------------
def damaged(digest: str, error: PenstockError) -> Corrupt:
    """Return that a committed manifest is not what it was."""
    return Corrupt(f"a committed manifest is damaged: {error.message}", where=tree_key(digest))
