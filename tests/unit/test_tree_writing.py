"""Trees written to a disk: below their folder, whole, and nowhere else."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.artifacts import SMALL_BYTES, Entry, Layout, Manifest, layout_of
from penstock.contracts.paths import EMPTY_DIGEST, check_manifest
from penstock.errors import Corrupt, Invalid, NotFound, PenstockError
from penstock.ids import digest_of
from penstock.trees.cache import LOOKED_AT, SEAL_NS, Cache
from penstock.trees.hashing import Scan
from penstock.trees.materialise import Folder, changed_paths
from penstock.trees.scan import scanned, scanned_bytes
from penstock.trees.sources import Sources, check_contents, contents_of, small_bytes
from penstock.trees.writing import Writing


def entry_of(path: str, data: bytes, *, executable: bool = False) -> Entry:
    return Entry(path=path, size=len(data), digest=digest_of(data), executable=executable)


def everything_below(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# -- Folder ---------------------------------------------------------------------------------------
def test_files_get_their_bytes_and_modes(tmp_path: Path) -> None:
    for read_only, modes in ((False, (0o644, 0o755)), (True, (0o444, 0o555))):
        root = tmp_path / str(read_only)
        with Folder(root, read_only=read_only) as folder:
            folder.write(entry_of("a/b/c", b"12"), [b"1", b"2"])
            folder.write(entry_of("a/run", b"x", executable=True), [b"x"])
            folder.make("empty/deeper/")
        assert everything_below(root) == {"a/b/c": b"12", "a/run": b"x"}
        assert (root / "empty" / "deeper").is_dir()
        found = tuple((root / name).stat().st_mode & 0o7777 for name in ("a/b/c", "a/run"))
        assert found == modes


@pytest.mark.parametrize(
    "chunks", [[b""], [b"1"], [b"123"], [b"21"], [b"12", b"3"], [b"x"] * 10_000]
)
def test_other_bytes_than_the_manifest_says_leave_nothing_behind(
    chunks: list[bytes], tmp_path: Path
) -> None:
    with Folder(tmp_path) as folder, pytest.raises(Corrupt, match="E_DIGEST"):
        folder.write(entry_of("a", b"12"), chunks)
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_never_end_are_cut_off(tmp_path: Path) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 1000

    with Folder(tmp_path) as folder, pytest.raises(Corrupt):
        folder.write(Entry(path="a", size=10, digest=EMPTY_DIGEST), endless())
    assert taken == 1


def test_a_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "dir").symlink_to(outside)
    (root / "file").symlink_to(outside / "target")
    with Folder(root) as folder:
        for path in ("dir/evil", "dir/deeper/evil"):
            with pytest.raises(Invalid, match="E_ARCHIVE_LINK"):
                folder.write(entry_of(path, b"x"), [b"x"])
        with pytest.raises(Invalid, match="E_ARCHIVE_LINK"):
            folder.make("dir/evil/")
        with pytest.raises(Invalid, match="E_EXISTS"):
            folder.write(entry_of("file", b"x"), [b"x"])
    assert list(outside.iterdir()) == []


def test_a_folder_swapped_for_a_link_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    with Folder(root) as folder:
        folder.write(entry_of("dir/one", b"x"), [b"x"])
        (root / "dir").rename(root / "moved")
        (root / "dir").symlink_to(outside)
        folder.write(entry_of("dir/two", b"x"), [b"x"])  # the handle is still that of the old one
        folder.write(entry_of("other", b"x"), [b"x"])
        with pytest.raises(Invalid, match="E_ARCHIVE_LINK"):
            folder.write(entry_of("dir/three", b"x"), [b"x"])
    assert list(outside.iterdir()) == []
    assert set(everything_below(root)) == {"moved/one", "moved/two", "other"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with Folder(tmp_path) as folder, pytest.raises(Invalid, match="E_EXISTS"):
        folder.write(entry_of("a", b"x"), [b"x"])
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.parametrize(
    "path", ["../evil", "/evil", "a/../../evil", "a\\..\\evil", "a\x00b", "", ".", "..", "a//b"]
)
def test_a_hostile_path_is_refused_whoever_asks(path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    source = tmp_path / "source"
    source.write_bytes(b"x")
    entry = entry_of(path, b"x")
    with Folder(root) as folder:
        acts: list[Callable[[], None]] = [
            lambda: folder.write(entry, [b"x"]),
            lambda: folder.copy(entry, source),
            lambda: folder.link(entry, source),
            lambda: folder.make(f"{path}/"),
        ]
        for act in acts:
            with pytest.raises(Invalid, match="E_ARCHIVE_"):
                act()
    assert everything_below(tmp_path) == {"source": b"x"}


PARTS = st.sampled_from(
    ["a", "b", "A", "..", ".", "", "é", "e\u0301", "x" * 300, "\x00", "\n", "c:", "\\"]
)
PATHS = st.one_of(st.lists(PARTS, min_size=1, max_size=4).map("/".join), st.text(max_size=12))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(PATHS, st.binary(max_size=3), st.booleans()), max_size=6))
def test_no_manifest_writes_outside_its_folder(files: list[tuple[str, bytes, bool]]) -> None:
    entries = tuple(
        entry_of(path, data, executable=executable) if not path.endswith("/") else Entry(path=path)
        for path, data, executable in files
    )
    contents: dict[str, bytes] = {digest_of(data): data for _, data, _ in files}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "beside").write_text("untouched")
        root = base / "deep" / "root"
        with Folder(root) as folder:
            for entry in entries:
                try:
                    if entry.digest:
                        folder.write(entry, [contents[entry.digest]])
                    else:
                        folder.make(entry.path)
                except PenstockError:
                    continue
        outside = [p for p in base.rglob("*") if not p.is_relative_to(root)]
        assert sorted(outside) == [base / "beside", base / "deep"]
        assert (base / "beside").read_text() == "untouched"
        assert not any(path.is_symlink() for path in base.rglob("*"))


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a", "b", "c d", "ü"]), min_size=1, max_size=3).map("/".join),
        st.binary(max_size=5),
        max_size=8,
    )
)
def test_what_a_manifest_check_lets_through_comes_back_the_same(files: dict[str, bytes]) -> None:
    entries = tuple(entry_of(path, files[path]) for path in sorted(files))
    manifest = Manifest(entries=entries)
    try:
        check_manifest(manifest)
    except Invalid:
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "root")
        with Folder(root) as folder:
            for entry in entries:
                folder.write(entry, [files[entry.path]])
        assert everything_below(root) == files
        assert scanned(root, ignore=False).manifest == manifest


# -- Cache ----------------------------------------------------------------------------------------
def put(cache: Cache, key: str, data: bytes) -> Path:
    return cache.add(key, cache.written([data]))


def test_a_cache_gives_back_what_it_was_given(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    put(cache, "cas/ab/x", b"12")
    path = cache.path("cas/ab/x", 2)
    assert path is not None
    assert path.read_bytes() == b"12"
    assert path.stat().st_mode & 0o777 == 0o444
    assert cache.path("cas/ab/y") is None
    assert cache.path("cas/ab/x", 3) is None, "another size is a miss"
    assert not path.exists()


def test_a_cached_file_that_was_written_to_is_thrown_away(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = put(cache, "cas/ab/x", b"12")
    path.chmod(0o644)
    path.write_bytes(b"ev")
    assert cache.path("cas/ab/x", 2) is None
    assert not path.exists()


def test_a_cache_forgets_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    for number in range(9):
        put(cache, f"cas/ab/{number}", b"x" * 100)
        os.utime(tmp_path / f"cas/ab/{number}", ns=(number * 10**9, SEAL_NS))
    assert cache.path("cas/ab/0", 100) is not None  # used just now
    put(cache, "cas/ab/9", b"x" * 100)
    put(cache, "cas/ab/a", b"x" * 100)
    left = {number for number in "0123456789a" if (tmp_path / f"cas/ab/{number}").exists()}
    assert left == {"0", "4", "5", "6", "7", "8", "9", "a"}


def test_a_cache_knows_its_size_after_a_restart(tmp_path: Path) -> None:
    for number in range(6):
        put(Cache(tmp_path, 500), f"cas/ab/{number}", b"x" * 100)
    assert len(list((tmp_path / "cas" / "ab").iterdir())) <= 5


# -- Writing --------------------------------------------------------------------------------------
BIG = os.urandom(SMALL_BYTES + 1)


def tree_in_cache(tmp_path: Path) -> tuple[Manifest, Layout, Cache]:
    scan = scanned_bytes({"a/one": b"1", "b": BIG, "c": BIG, "d/none": b"", "z": b"2"})
    layout = layout_of(scan.manifest)
    cache = Cache(tmp_path / "cache")
    sources = Sources(scan, layout)
    for key in sources.objects:
        sources.keep(key, cache, give=False)
    return scan.manifest, layout, cache


def written(tmp_path: Path, *, read_only: bool, private: bool) -> tuple[Path, Manifest, Cache]:
    manifest, layout, cache = tree_in_cache(tmp_path)
    into = tmp_path / "into"
    entries = list(manifest.entries)
    Writing(layout, entries, cache, into, read_only=read_only, private=private).run()
    assert scanned(into, ignore=False).manifest == manifest
    return into, manifest, cache


def test_read_only_big_files_are_links_and_small_ones_copies(tmp_path: Path) -> None:
    into, _, cache = written(tmp_path, read_only=True, private=False)
    assert (into / "b").stat().st_nlink == 3
    assert (into / "a" / "one").stat().st_nlink == 1
    assert cache.path(f"cas/{digest_of(BIG)[:2]}/{digest_of(BIG)}", len(BIG)) is not None


def test_what_may_be_written_to_is_a_copy(tmp_path: Path) -> None:
    into, _, cache = written(tmp_path, read_only=False, private=False)
    (into / "b").write_bytes(b"changed")
    assert (into / "c").read_bytes() == BIG
    path = cache.path(f"cas/{digest_of(BIG)[:2]}/{digest_of(BIG)}", len(BIG))
    assert path is not None
    assert path.read_bytes() == BIG


@pytest.mark.parametrize("read_only", [True, False])
def test_a_private_cache_gives_its_files_away(read_only: bool, tmp_path: Path) -> None:
    into, _, _ = written(tmp_path, read_only=read_only, private=True)
    (into / "b").chmod(0o644)
    (into / "b").write_bytes(b"changed")
    assert (into / "c").read_bytes() == BIG


def test_an_input_that_a_step_wrote_to_is_noticed(tmp_path: Path) -> None:
    into, manifest, cache = written(tmp_path, read_only=True, private=False)
    assert changed_paths(manifest, into) == []
    (into / "b").chmod(0o644)
    with (into / "b").open("r+b") as file:
        file.write(b"evil")
    assert changed_paths(manifest, into) == ["b", "c"]
    assert cache.path(f"cas/{digest_of(BIG)[:2]}/{digest_of(BIG)}", len(BIG)) is None


def test_writing_goes_on_where_the_cache_lost_something(tmp_path: Path) -> None:
    manifest, layout, cache = tree_in_cache(tmp_path)
    big = cache.root / f"cas/{digest_of(BIG)[:2]}/{digest_of(BIG)}"
    big.rename(tmp_path / "lost")
    into = tmp_path / "into"
    work = Writing(layout, list(manifest.entries), cache, into, read_only=True, private=False)
    with pytest.raises(NotFound):
        work.run()
    (tmp_path / "lost").rename(big)
    work.run()
    assert scanned(into, ignore=False).manifest == manifest


# -- Sources --------------------------------------------------------------------------------------
def scan_of_files(tmp_path: Path) -> tuple[Scan, Path]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "big").write_bytes(BIG)
    (root / "small").write_bytes(b"1")
    return scanned(root, ignore=False), root


def test_outputs_that_are_given_become_the_cache(tmp_path: Path) -> None:
    scan, root = scan_of_files(tmp_path)
    cache = Cache(tmp_path / "cache")
    sources = Sources(scan, layout_of(scan.manifest))
    for key in sources.objects:
        sources.keep(key, cache, give=True)
    sources.check_unchanged()
    assert (root / "big").stat().st_nlink == 2
    for key in sources.objects:
        (piece,), cached = sources.pieces(key, cache)
        assert cached
        assert isinstance(piece, Path)
        check_contents(piece, contents_of(layout_of(scan.manifest))[key])


@pytest.mark.parametrize("give", [True, False])
def test_a_source_that_changed_after_it_was_read_does_not_enter_the_cache(
    give: bool, tmp_path: Path
) -> None:
    scan, root = scan_of_files(tmp_path)
    size = (root / "big").stat().st_size
    (root / "big").write_bytes(b"!" * size)
    os.utime(root / "big", (1, 1))
    cache = Cache(tmp_path / "cache")
    sources = Sources(scan, layout_of(scan.manifest))

    def keep_all() -> None:
        for key in sources.objects:
            sources.keep(key, cache, give=give)

    with pytest.raises(Invalid, match="E_OUTPUT_CHANGED"):
        keep_all()
    with pytest.raises(Invalid, match="E_OUTPUT_CHANGED"):
        sources.check_unchanged()


def test_a_small_file_is_stored_as_it_was_read_whatever_became_of_it(tmp_path: Path) -> None:
    scan, root = scan_of_files(tmp_path)
    (root / "small").write_bytes(b"2")
    layout = layout_of(scan.manifest)
    sources = Sources(scan, layout)
    (key,) = (key for key in sources.objects if key.startswith("pack/"))
    cache = Cache(tmp_path / "cache")
    sources.keep(key, cache, give=True)
    path = cache.path(key, 1)
    assert path is not None
    assert path.read_bytes() == b"1"
    assert not sources.seal(), "the folder is not what was scanned, so it is not kept"


@pytest.mark.parametrize("how", ["another name", "an open file"])
def test_an_output_that_others_may_write_to_is_copied(how: str, tmp_path: Path) -> None:
    scan, root = scan_of_files(tmp_path)
    cache = Cache(tmp_path / "cache")
    sources = Sources(scan, layout_of(scan.manifest))
    with (root / "big").open("r+b") as writer:
        if how == "another name":
            writer.close()
            os.link(root / "big", tmp_path / "outside")
        for key in sources.objects:
            sources.keep(key, cache, give=True)
        with (root / "big").open("r+b") as late:
            late.write(b"evil")
    path = cache.path(f"cas/{digest_of(BIG)[:2]}/{digest_of(BIG)}", len(BIG))
    assert path is not None
    assert path.read_bytes() == BIG


def kept_folder(tmp_path: Path) -> tuple[Scan, Layout, Cache]:
    root = tmp_path / "root"
    for name in ("a/one", "a/run", "b", "none"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("" if name == "none" else name)
    (root / "a" / "run").chmod(0o755)
    (root / "big").write_bytes(BIG)
    scan = scanned(root, ignore=False)
    layout = layout_of(scan.manifest)
    cache = Cache(tmp_path / "cache")
    sources = Sources(scan, layout)
    for key in sources.objects:
        sources.keep(key, cache, give=True)
    assert sources.seal()
    sources.give_folder(scan.ref.digest, cache)
    assert not root.exists()
    return scan, layout, cache


def written_from_kept(tmp_path: Path, scan: Scan, layout: Layout, cache: Cache) -> Writing:
    kept = cache.folder(scan.ref.digest, small_bytes(scan.manifest))
    assert kept is not None
    writing = Writing(
        layout,
        list(scan.manifest.entries),
        cache,
        tmp_path / "into",
        read_only=True,
        private=False,
        kept=kept,
    )
    writing.run()
    assert scanned(tmp_path / "into", ignore=False).manifest == scan.manifest
    return writing


def test_small_files_of_a_kept_folder_are_links(tmp_path: Path) -> None:
    scan, layout, cache = kept_folder(tmp_path)
    written_from_kept(tmp_path, scan, layout, cache)
    links = [(tmp_path / "into" / e.path).stat().st_nlink for e in scan.manifest.entries]
    assert links == [2, 2, 2, 2, 2]


@pytest.mark.parametrize("how", ["written to", "longer", "made writable", "gone", "a link"])
def test_a_kept_file_that_was_tampered_with_is_never_given_to_a_step(
    how: str, tmp_path: Path
) -> None:
    scan, layout, cache = kept_folder(tmp_path)
    kept = cache.folder(scan.ref.digest, small_bytes(scan.manifest))
    assert kept is not None
    victim = kept / "b"
    victim.chmod(0o644)
    if how == "written to":
        victim.write_text("!")
        victim.chmod(0o444)
    elif how == "longer":
        victim.write_text("longer")
        victim.chmod(0o444)
        os.utime(victim, ns=(SEAL_NS, SEAL_NS))
    elif how != "made writable":
        victim.unlink()
    if how == "a link":
        victim.symlink_to("/etc/passwd")
    assert written_from_kept(tmp_path, scan, layout, cache).kept is None


def test_a_kept_folder_leaves_the_cache_as_a_whole(tmp_path: Path) -> None:
    scan, _, cache = kept_folder(tmp_path)
    digest, size = scan.ref.digest, small_bytes(scan.manifest)
    again = Cache(cache.root, 1)
    again.trim()
    assert again.folder(digest, size) is None
    assert everything_below(cache.root) == {}


def test_what_a_crash_in_the_middle_of_an_eviction_left_is_swept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    half = tmp_path / "incoming" / "doomed-1"
    half.mkdir()
    (half / "file").write_text("x")
    young = cache.written([b"somebody else's, on its way in"])
    Cache(tmp_path)
    assert not half.exists()
    assert young.exists()


def test_caches_of_several_processes_keep_one_bound(tmp_path: Path) -> None:
    caches = [Cache(tmp_path, 10_000) for _ in range(4)]
    for number in range(400):
        put(caches[number % 4], f"cas/ab/{number}", b"x" * 100)
        found = sum(path.stat().st_size for path in (tmp_path / "cas" / "ab").iterdir())
        assert found <= 10_000 + 4 * 10_000 * LOOKED_AT


def test_what_is_in_use_outlives_its_eviction(tmp_path: Path) -> None:
    into, manifest, cache = written(tmp_path, read_only=True, private=False)
    cache.bytes_max = 0
    assert cache.trim() == 0
    assert scanned(into, ignore=False).manifest == manifest


def test_an_object_with_one_wrong_bit_is_refused(tmp_path: Path) -> None:
    scan, _ = scan_of_files(tmp_path)
    layout = layout_of(scan.manifest)
    for key, contents in contents_of(layout).items():
        good = b"1" if key.startswith("pack/") else BIG
        path = tmp_path / "object"
        path.write_bytes(good)
        check_contents(path, contents)
        for bad in (bytes([good[0] ^ 1]) + good[1:], good[:-1], b""):
            path.write_bytes(bad)
            with pytest.raises(Corrupt, match="E_DIGEST"):
                check_contents(path, contents)
