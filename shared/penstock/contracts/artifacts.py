"""Artifacts: trees of files named by content, and the conversation with the artifact service.

A *tree* is a `Manifest`; its digest is the BLAKE3 of the manifest's canonical bytes, so equal
contents have equal names. Where the bytes of a tree lie follows from the manifest alone:

    tree/<aa>/<tree digest>         the manifest itself
    cas/<aa>/<file digest>          a file of SMALL_BYTES or more, alone
    pack/<aa>/<tree digest>.<n>     the smaller files, each distinct content once, in order of first
                                    path, end to end; cut before a pack would exceed PACK_BYTES

(aa = first two characters of the digest.) Packs need no index: offsets are sums of sizes.
Executors and clients move bytes themselves, on URLs granted by the artifact service: presigned
`http(s):` URLs for S3, `file:` URLs for a store that is a directory on the same machine.
"""

import msgspec

from penstock.contracts.base import Message
from penstock.contracts.requests import ErrorBody
from penstock.ids import Digest, digest_of
from penstock.units import KIB, MIB

SMALL_BYTES = 64 * KIB
PACK_BYTES = 16 * MIB
FILES_MAX = 100_000
TREE_BYTES_MAX = 1024 * 1024 * MIB
PATH_BYTES_MAX = 4096
GRANTS_MAX = 500
MANIFEST_INLINE_BYTES_MAX = 512 * KIB
MANIFEST_BYTES_MAX = 64 * MIB
CARRIED_BYTES_MAX = 256 * KIB
"""Contents of up to this many bytes travel inside the commit: no grant, no upload, one round trip."""
EXIST_MAX = 1000
OWNERS_MAX = 16
PREFIX = "artifact:"
PART_BYTES = 32 * MIB
"""Objects above this travel in parts, where the store checks what arrives."""
PARTS_MAX = 500
"""Parts of one object, and of one answer: each has an URL of its own, and an answer is one message."""


class Entry(Message):
    """One file of a tree, or an empty folder (`path` ends with "/", no digest)."""

    path: str
    """Relative, "/" between parts, NFC, never "." or "..", never empty parts."""
    size: int = 0
    digest: str = ""
    executable: bool = False


class Manifest(Message):
    """A tree: entries sorted by path (byte order), no path twice."""

    entries: tuple[Entry, ...] = ()


class TreeRef(Message):
    """A stored tree, with the two numbers people ask about."""

    digest: str
    size_bytes: int = 0
    files: int = 0


class ObjectRef(Message):
    """One object of the store: its key and exact size in bytes."""

    key: str
    size: int


class GrantedPart(Message):
    """Leave to upload one part of an object."""

    url: str
    headers: dict[str, str] = {}


class Grant(Message):
    """Leave to move one object: an empty `url` means the store has it already (nothing to upload).

    `headers` must be sent exactly as given; a granted upload succeeds at most once. With `parts`, each
    is uploaded first, `part_bytes` of the object's size after the other, and `url` puts them together.
    """

    key: str
    url: str = ""
    headers: dict[str, str] = {}
    parts: tuple[GrantedPart, ...] = ()


class Named(Message):
    """A manifest, whole or by reference.

    One of more than MANIFEST_INLINE_BYTES_MAX is first uploaded to `staging/<aa>/<digest>` on a
    grant of its own (StageRequest).
    """

    manifest: Manifest | None = None
    digest: str = ""
    size: int = 0
    """Bytes of the staged manifest, when it is not inline."""


class StageRequest(Message):
    """Ask leave to upload a large manifest's canonical bytes to the staging area."""

    digest: str
    size: int


class StageAnswer(Message):
    """The grant for the staged manifest; empty url: it is there already."""

    grant: Grant


class UploadRequest(Message):
    """Ask to store a tree: the service answers which of its objects it lacks, GRANTS_MAX at a time.

    Ask again with `after` = the last key answered while `more` is true.
    """

    tree: Named
    owner: str = ""
    """For the record and for retention: run/<run>/<step>/<attempt>, snapshot, data/<name>."""
    after: str = ""
    declares: bool = False
    """Say yes when you can send `checksums`. Without them the service reads back what you upload."""
    checksums: dict[str, tuple[str, ...]] = {}
    """By key, of objects that the service wants: base64 of the CRC-32 (big end first) of each part, in order."""


class UploadAnswer(Message):
    """Grants for missing objects, in key order. No grants and no more: only the commit is left."""

    digest: str
    grants: tuple[Grant, ...] = ()
    wanted: tuple[str, ...] = ()
    """Missing objects whose checksums are to be sent first, with the same `after`. No grants then."""
    more: bool = False


class CommitRequest(Message):
    """Say that all objects of a tree are uploaded. Answered only when they are durable and verified."""

    tree: Named
    owner: str = ""
    carried: dict[str, bytes] = {}
    """By key, of a small tree: its objects, in base64. The service stores them; nothing is uploaded."""


class CommitAnswer(Message):
    """The committed tree."""

    tree: TreeRef


class FetchRequest(Message):
    """Ask for a tree: its manifest and leave to read its objects, GRANTS_MAX at a time."""

    digest: str
    paths: tuple[str, ...] = ()
    """Glob patterns (fnmatch) that narrow the grants; empty: everything."""
    after: str = ""
    doubts: tuple[str, ...] = ()
    """Keys of objects whose bytes were wrong when they were read: they are looked at, and go if so."""


class FetchAnswer(Message):
    """The manifest (or, when large, a grant to read its bytes) and grants to read objects."""

    manifest: Manifest | None = None
    manifest_grant: Grant | None = None
    grants: tuple[Grant, ...] = ()
    more: bool = False


class ExistRequest(Message):
    """Ask which of these trees exist completely (manifest and every object, sizes right)."""

    digests: tuple[str, ...]


class ExistAnswer(Message):
    """The digests among the asked ones that do exist."""

    digests: tuple[str, ...] = ()


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest, which its digest is taken of."""
    return msgspec.json.encode(manifest)


def tree_digest(manifest: Manifest) -> Digest:
    """Return the name of a tree: the digest of its canonical manifest."""
    return digest_of(manifest_bytes(manifest))


def tree_ref(manifest: Manifest) -> TreeRef:
    """Return digest, total bytes and number of files of a tree."""
    files = [entry for entry in manifest.entries if entry.digest]
    return TreeRef(
        digest=tree_digest(manifest), size_bytes=sum(e.size for e in files), files=len(files)
    )


class Place(Message):
    """Where a file's bytes lie: an object and a byte range in it."""

    key: str
    offset: int
    size: int


class Layout(Message):
    """Where everything of a tree lies."""

    objects: tuple[ObjectRef, ...]
    places: dict[str, Place]
    """By file digest. Files without bytes have no place."""


def layout_of(manifest: Manifest, digest: str = "") -> Layout:
    """Return the objects that hold a tree's bytes and the place of every distinct content."""
    tree = digest or tree_digest(manifest)
    objects: list[ObjectRef] = []
    places: dict[str, Place] = {}
    offset, number = 0, 0
    for entry in manifest.entries:
        if not entry.digest or entry.size == 0 or entry.digest in places:
            continue
        if entry.size >= SMALL_BYTES:
            key = f"cas/{entry.digest[:2]}/{entry.digest}"
            objects.append(ObjectRef(key=key, size=entry.size))
            places[entry.digest] = Place(key=key, offset=0, size=entry.size)
            continue
        if offset and offset + entry.size > PACK_BYTES:
            objects.append(ObjectRef(key=pack_key(tree, number), size=offset))
            offset, number = 0, number + 1
        places[entry.digest] = Place(key=pack_key(tree, number), offset=offset, size=entry.size)
        offset += entry.size
    if offset:
        objects.append(ObjectRef(key=pack_key(tree, number), size=offset))
    return Layout(objects=tuple(objects), places=places)


def part_bytes(size: int) -> int:
    """Return the size of each part but the last of an object of `size` bytes; whole MiB."""
    return max(PART_BYTES, -(-size // (PARTS_MAX * MIB)) * MIB)


def part_count(size: int) -> int:
    """Return how many parts an object of `size` bytes travels in; at least one."""
    return max(1, -(-size // part_bytes(size)))


def tree_key(digest: str) -> str:
    """Return the key of a manifest."""
    return f"tree/{digest[:2]}/{digest}"


def staging_key(digest: str) -> str:
    """Return the key of a large manifest on its way in."""
    return f"staging/{digest[:2]}/{digest}"


def pack_key(digest: str, number: int) -> str:
    """Return the key of the n-th pack of a tree."""
    return f"pack/{digest[:2]}/{digest}.{number}"


class ArtifactRecord(Message):
    """What bucket `artifacts` remembers of a committed tree, under its digest."""

    tree: TreeRef
    owner: str = ""
    """Whoever committed it last."""
    at: float = 0
    """When it was last committed, seconds since 1970."""
    owners: tuple[str, ...] = ()
    """Everybody who committed it, newest first, at most OWNERS_MAX."""


class Problem(Message):
    """What every answer of the artifact service is when it is a refusal: `{"error": …}`."""

    error: ErrorBody | None = None
