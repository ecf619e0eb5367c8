"""Decisions of the artifact service: what is refused, granted, verified, forgotten."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.artifacts import (
    EXIST_MAX,
    GRANTS_MAX,
    MANIFEST_BYTES_MAX,
    OWNERS_MAX,
    PART_BYTES,
    PARTS_MAX,
    SMALL_BYTES,
    ArtifactRecord,
    Entry,
    Manifest,
    Named,
    ObjectRef,
    StageRequest,
    manifest_bytes,
    part_bytes,
    part_count,
    tree_digest,
    tree_ref,
)
from penstock.errors import Invalid
from penstock.ids import digest_of
from penstock.units import Seconds
from penstock_artifact import decide
from penstock_artifact.decide import Finding
from penstock_artifact.effects import Announce, Discard, Record, StoreManifest, Unstage
from penstock_artifact.state import FRESH_S, Mark, Objects, Tree, Trees

NOW = Seconds(1000.0)
BIG = SMALL_BYTES


def entry(path: str, size: int = 1) -> Entry:
    return Entry(path=path, size=size, digest=digest_of(path.encode()))


def tree_of(*entries: Entry) -> Tree:
    manifest = Manifest(entries=entries)
    return decide.checked_tree(manifest, manifest_bytes(manifest))


TREE = tree_of(entry("a"), entry("b", BIG), entry("c"), entry("d", BIG + 1))


# -- requests -------------------------------------------------------------------------------------
def test_a_manifest_is_called_by_our_own_digest() -> None:
    tree = decide.inline_tree(Named(manifest=TREE.manifest))
    assert tree is not None
    assert tree.digest == tree_digest(TREE.manifest)
    with pytest.raises(Invalid, match="E_DIGEST"):
        decide.inline_tree(Named(manifest=TREE.manifest, digest="0" * 64))


def test_a_manifest_by_reference_needs_a_digest() -> None:
    assert decide.inline_tree(Named(digest="0" * 64)) is None
    for digest in ("", "../x", "A" * 64, "0" * 63):
        with pytest.raises(Invalid, match="E_ID"):
            decide.inline_tree(Named(digest=digest))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{}", ""),
        (b'{"entries":[]}', "E_DIGEST"),  # right, but not in canonical form
        (b" {}", "E_DIGEST"),
        (b'{"x":1}', "E_DIGEST"),
        (b"[]", "E_DECODE"),
        (b"\xff", "E_DECODE"),
        (b"", "E_DECODE"),
        (b"[" * 200_000, "E_DECODE"),
        (b'{"x":' * 200_000, "E_DECODE"),
        (msgspec.json.encode({"entries": [{"path": "../x"}]}), "E_ARCHIVE_PATH"),
        (msgspec.json.encode({"entries": [{"path": "x", "size": -5}]}), "E_ARCHIVE_ENTRY"),
    ],
)
def test_staged_bytes_are_read_with_care(data: bytes, code: str) -> None:
    digest = digest_of(data)
    if not code:
        assert decide.read_tree(data, digest).digest == digest
        return
    with pytest.raises(Invalid) as raised:
        decide.read_tree(data, digest)
    assert raised.value.code == code


def test_staged_bytes_of_another_digest_are_refused() -> None:
    with pytest.raises(Invalid, match="E_DIGEST"):
        decide.read_tree(b"{}", "0" * 64)


@pytest.mark.parametrize("size", [0, -1, MANIFEST_BYTES_MAX + 1])
def test_a_manifest_of_an_absurd_size_is_not_staged(size: int) -> None:
    with pytest.raises(Invalid, match="E_LIMIT"):
        decide.staged_object(StageRequest(digest="0" * 64, size=size))


def test_only_so_many_trees_are_asked_for_at_once() -> None:
    digests = [digest_of(str(n).encode()) for n in range(EXIST_MAX + 1)]
    assert decide.checked_digests([*digests[:3], *digests[:3]]) == tuple(digests[:3])
    with pytest.raises(Invalid, match="E_LIMIT"):
        decide.checked_digests(digests)
    with pytest.raises(Invalid, match="E_ID"):
        decide.checked_digests(["../../etc/passwd"])


@pytest.mark.parametrize("owner", ["", "snapshot", "run/x/step/1", "data/digits"])
def test_an_ordinary_owner_is_fine(owner: str) -> None:
    assert decide.checked_owner(owner) == owner


@pytest.mark.parametrize("owner", ["data/", "data/a.b", "data/*", "data/a/b", "a\nb", "x" * 301])
def test_an_owner_that_would_change_a_subject_is_refused(owner: str) -> None:
    with pytest.raises(Invalid, match="E_ID"):
        decide.checked_owner(owner)


# -- grants ---------------------------------------------------------------------------------------
def test_objects_come_in_key_order_and_pages_end_nowhere_twice() -> None:
    tree = tree_of(*(entry(f"f{n:04}", BIG) for n in range(GRANTS_MAX * 2 + 1)))
    keys: list[str] = []
    after, more, pages = "", True, 0
    while more:
        page, more = decide.page_of(decide.behind(tree.objects, after))
        keys += [ref.key for ref in page]
        after = keys[-1]
        pages += 1
    assert pages == 3
    assert keys == sorted(ref.key for ref in tree.layout.objects)


def test_patterns_narrow_what_may_be_read() -> None:
    def keys(*patterns: str) -> set[str]:
        return {ref.key for ref in decide.readable(TREE, patterns, "")}

    pack = TREE.layout.places[digest_of(b"a")].key
    assert keys() == {ref.key for ref in TREE.objects}
    assert keys("a") == keys("c", "nothing") == {pack}
    assert keys("b") == {TREE.layout.places[digest_of(b"b")].key}
    assert keys("[bd]") == keys() - {pack}
    assert keys("nothing") == set()
    with pytest.raises(Invalid, match="E_LIMIT"):
        keys(*map(str, range(101)))


def test_an_object_of_another_size_is_to_be_deleted() -> None:
    ref = ObjectRef(key="cas/ab/x", size=5)
    assert decide.wrong_size(ref, None) is None
    assert decide.wrong_size(ref, 5) is None
    assert decide.wrong_size(ref, 0) == Discard(key="cas/ab/x", why="0 bytes, not 5")


# -- commit ---------------------------------------------------------------------------------------
def test_a_pack_is_right_only_with_every_member_in_its_place() -> None:
    one, two = b"hello", b"world!"
    manifest = Manifest(
        entries=(
            Entry(path="a", size=5, digest=digest_of(one)),
            Entry(path="b", size=6, digest=digest_of(two)),
        )
    )
    tree = decide.checked_tree(manifest, manifest_bytes(manifest))
    ((key, contents),) = decide.members(tree).items()
    assert key.startswith("pack/")
    assert decide.is_right(one + two, contents)
    for wrong in (two + one, one, b"", one + b"World!", b"x" + one + two):
        assert not decide.is_right(wrong, contents)


def test_wrong_objects_are_deleted_and_missing_ones_asked_for() -> None:
    here, gone, bad = TREE.objects
    fine = Finding(here, here.size, right=True)
    assert decide.refused([fine]) is None
    assert decide.refused([]) is None

    refusal = decide.refused([fine, Finding(gone, None, right=False)])
    assert refusal is not None
    error, effects = refusal
    assert (error.code, error.where, effects) == ("E_INCOMPLETE", gone.key, [])

    refusal = decide.refused(
        [fine, Finding(gone, None, right=False), Finding(bad, bad.size, right=False)]
    )
    assert refusal is not None
    error, effects = refusal
    assert (error.code, error.where) == ("E_DIGEST", bad.key)
    assert effects == [Discard(key=bad.key, why="wrong bytes")]


def test_the_manifest_is_all_that_a_commit_stores() -> None:
    (effect,) = decide.stored(TREE)
    assert effect == StoreManifest(
        key=f"tree/{TREE.digest[:2]}/{TREE.digest}", data=manifest_bytes(TREE.manifest)
    )


def test_only_a_dataset_is_announced_and_only_a_large_manifest_was_staged() -> None:
    ref = tree_ref(TREE.manifest)
    assert decide.told(TREE, "run/x") == [Record(tree=ref, owner="run/x")]
    assert decide.told(TREE, "data/digits") == [
        Record(tree=ref, owner="data/digits"),
        Announce(dataset="digits", tree=ref, owner="data/digits"),
    ]
    large = tree_of(*(entry(f"{n:06}-{'x' * 100}") for n in range(3000)))
    assert [type(effect) for effect in decide.told(large, "")] == [Record, Unstage]


def test_a_record_remembers_its_owners_newest_first_and_not_for_ever() -> None:
    record: ArtifactRecord | None = None
    for number in range(OWNERS_MAX + 5):
        order = Record(tree=tree_ref(TREE.manifest), owner=f"run/{number}")
        record = decide.recorded(record, order, NOW)
    assert record is not None
    assert record.owner == record.owners[0] == f"run/{OWNERS_MAX + 4}"
    assert len(record.owners) == OWNERS_MAX
    again = decide.recorded(record, Record(tree=record.tree, owner="run/10"), NOW)
    assert again.owners.count("run/10") == 1
    assert decide.recorded(None, Record(tree=record.tree, owner=""), NOW).owners == ()


# -- memory ---------------------------------------------------------------------------------------
def test_existence_is_believed_for_a_moment_and_bytes_for_as_long_as_they_exist() -> None:
    known = Objects()
    ref = ObjectRef(key="cas/ab/x", size=5)
    assert not known.is_fresh(ref, NOW)
    known.verified(ref.key, 5, NOW)
    assert known.is_fresh(ref, NOW)
    assert known.is_verified(ref)
    later = Seconds(NOW + FRESH_S)
    assert not known.is_fresh(ref, later)
    assert known.is_verified(ref)
    known.saw(ref.key, 5, later)
    assert known.is_fresh(ref, later)
    assert known.is_verified(ref)
    known.saw(ref.key, None, later)
    assert not known.is_fresh(ref, later)
    assert not known.is_verified(ref)
    known.saw(ref.key, 5, later)
    assert not known.is_verified(ref), "it was gone: what is there now is not what was verified"


def test_another_size_is_another_object() -> None:
    known = Objects()
    known.verified("cas/ab/x", 5, NOW)
    other = ObjectRef(key="cas/ab/x", size=6)
    assert not known.is_fresh(other, NOW)
    assert not known.is_verified(other)
    known.saw("cas/ab/x", 6, NOW)
    assert not known.is_verified(other)


def test_memory_is_bounded() -> None:
    known = Objects(limit=10)
    for number in range(50):
        known.saw(str(number), 1, NOW)
    assert len(known.seen) == 10
    trees = Trees(limit=20)
    first = tree_of(entry("0"), entry("1"))
    for number in range(50):
        trees.add(first)
        assert trees.get(first.digest) is first, "what is used is kept"
        trees.add(tree_of(entry(f"a{number}"), entry(f"b{number}")))
    assert trees.entries == sum(len(t.manifest.entries) + 1 for t in trees.trees.values())
    assert trees.entries <= 20
    trees.add(tree_of(*(entry(f"{n:03}") for n in range(30))))
    assert trees.entries <= 20


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,0entris', max_size=40).map(str.encode))
def test_reading_a_manifest_raises_nothing_but_refusals(data: bytes) -> None:
    with contextlib.suppress(Invalid):
        decide.read_tree(data, digest_of(data))


# -- marks ----------------------------------------------------------------------------------------
MINE = Mark(instance="b", at=1000, machine="m", boot="1", space="pid:[1]", pid=7)


@pytest.mark.parametrize(
    ("mark", "stale"),
    [
        (Mark(instance="a", at=990, machine="m", boot="1", space="pid:[1]", pid=5), False),
        (Mark(instance="a", at=990, machine="m", boot="1", space="pid:[1]", pid=6), True),
        (Mark(instance="a", at=999, machine="m", boot="0", space="pid:[1]", pid=5), True),
        (Mark(instance="a", at=990, machine="m", boot="1", space="pid:[2]", pid=6), False),
        (Mark(instance="a", at=900, machine="m", boot="1", space="pid:[2]", pid=5), True),
        (Mark(instance="a", at=990, machine="n", boot="2", space="pid:[1]", pid=6), False),
        (Mark(instance="a", at=900, machine="n", boot="2", space="pid:[1]", pid=5), True),
        (Mark(instance="a", at=990), False),
        (Mark(instance="a", at=900), True),
    ],
)
def test_a_mark_is_stale_when_its_copy_cannot_be_alive(mark: Mark, stale: bool) -> None:
    assert decide.is_stale(mark, MINE, lambda pid: pid == 5) is stale


def test_a_mark_of_nowhere_is_judged_by_its_age_alone() -> None:
    mine = Mark(instance="b", at=1000)
    assert not decide.is_stale(Mark(instance="a", at=990, boot="1"), mine, lambda _: False)
    assert not decide.is_stale(Mark(instance="a", at=990), mine, lambda _: False)


# -- pages of uploads -----------------------------------------------------------------------------
def test_a_page_of_uploads_has_no_more_parts_than_fit_into_an_answer() -> None:
    small = [ObjectRef(key=f"cas/{n:04}", size=1) for n in range(1000)]
    assert decide.upload_page(small) == (small[:500], True)
    big = [ObjectRef(key=f"cas/{n}", size=200 * PART_BYTES) for n in range(3)]
    assert decide.upload_page(big) == (big[:2], True)
    huge = [ObjectRef(key="cas/huge", size=1 << 40), ObjectRef(key="cas/x", size=1)]
    assert part_count(1 << 40) <= PARTS_MAX
    assert part_bytes(1 << 40) <= 5 << 30, "what AWS takes as one part"
    assert decide.upload_page(huge)[0][0] is huge[0]
    assert decide.upload_page([]) == ([], False)
