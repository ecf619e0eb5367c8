"""Which paths a manifest may have: the corpus of hostile ones, and everything hypothesis thinks of."""

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.artifacts import (
    FILES_MAX,
    PATH_BYTES_MAX,
    TREE_BYTES_MAX,
    Entry,
    Manifest,
)
from penstock.contracts.paths import EMPTY_DIGEST, check_distinct, check_manifest, check_path
from penstock.errors import Invalid
from penstock.ids import digest_of

ONE = digest_of(b"1")

HOSTILE = {
    "../evil": "PATH",
    "a/../../evil": "PATH",
    "..": "PATH",
    "./a": "PATH",
    "a/./b": "PATH",
    "a//b": "PATH",
    "/etc/passwd": "PATH",
    "//host/share": "PATH",
    "C:/Windows": "PATH",
    "c:evil": "PATH",
    "..\\evil": "PATH",
    "a\\b": "PATH",
    "": "PATH",
    "/": "PATH",
    "a\nb": "NAME",
    "a\x00b": "NAME",
    "\x1b[31mred": "NAME",
    "a\x7fb": "NAME",
    "a\x85b": "NAME",
    "a\u2028b": "NAME",
    "\udc80": "NAME",
    "x" * 256: "NAME",
    "é" * 128: "NAME",
    "/".join(["abcdefgh"] * 600): "NAME",
    unicodedata.normalize("NFD", "é"): "NAME",
}


@pytest.mark.parametrize(("path", "code"), HOSTILE.items(), ids=[ascii(p)[:30] for p in HOSTILE])
def test_a_hostile_path_is_refused(path: str, code: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_path(path, where="test")
    assert raised.value.code == f"E_ARCHIVE_{code}"
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "path",
    ["a", "a/b", "a/", "a b/c d", "日本語/ファイル", "é", "...", "a..b", ".env", "x" * 255, "-rf"],
)
def test_an_ordinary_path_is_fine(path: str) -> None:
    check_path(path, where="test")


@pytest.mark.parametrize(
    "paths",
    [
        ["README", "readme"],
        ["A/x", "a/y"],
        ["a", "a/b"],
        ["a/", "a/b"],
        ["A", "a/b/c"],
        ["straße", "STRASSE"],
        ["É", "é"],
        ["a/b/", "A/c"],
    ],
)
def test_twins_are_refused(paths: list[str]) -> None:
    with pytest.raises(Invalid, match="E_ARCHIVE_DUPLICATE"):
        check_distinct(paths, where="test")


def test_many_distinct_paths_are_fine() -> None:
    check_distinct(
        [f"a{n % 7}/b{n % 11}/c{n}" for n in range(5000)] + ["empty/", "a1/e/"], where="t"
    )


@given(st.lists(st.text(max_size=20), max_size=6))
def test_what_passes_stays_below_its_folder(parts: list[str]) -> None:
    path = "/".join(parts)
    try:
        check_path(path, where="test")
    except Invalid:
        return
    pure = PurePosixPath(path)
    assert not pure.is_absolute()
    assert ".." not in pure.parts
    assert len(path.encode()) <= PATH_BYTES_MAX
    assert unicodedata.is_normalized("NFC", path)
    assert "\x00" not in path


def file(path: str, size: int = 1, digest: str = ONE, *, executable: bool = False) -> Entry:
    return Entry(path=path, size=size, digest=digest, executable=executable)


def test_a_canonical_manifest_is_fine() -> None:
    check_manifest(
        Manifest(
            entries=(
                Entry(path="a/"),
                file("b/c"),
                file("b/d", executable=True),
                file("e", 0, EMPTY_DIGEST),
            )
        )
    )
    check_manifest(Manifest())


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([file("b"), file("a")], "E_ARCHIVE_ORDER"),
        ([file("a"), file("a")], "E_ARCHIVE_DUPLICATE"),
        ([file("A"), file("a")], "E_ARCHIVE_DUPLICATE"),
        ([file("a"), file("a/b")], "E_ARCHIVE_DUPLICATE"),
        ([file("../a")], "E_ARCHIVE_PATH"),
        ([file("")], "E_ARCHIVE_PATH"),
        ([file("a", -1)], "E_ARCHIVE_ENTRY"),
        ([file("a", 1, "")], "E_ARCHIVE_ENTRY"),
        ([file("a", 1, "../../x")], "E_ARCHIVE_ENTRY"),
        ([file("a", 1, ONE.upper())], "E_ARCHIVE_ENTRY"),
        ([file("a", 0, ONE)], "E_ARCHIVE_ENTRY"),
        ([file("a", 1), file("b", 2)], "E_ARCHIVE_ENTRY"),
        ([file("a/", 1)], "E_ARCHIVE_ENTRY"),
        ([Entry(path="a/", executable=True)], "E_ARCHIVE_ENTRY"),
        ([file("a", TREE_BYTES_MAX), file("b", TREE_BYTES_MAX)], "E_TOO_LARGE"),
    ],
)
def test_a_manifest_that_lies_is_refused(entries: list[Entry], code: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_manifest(Manifest(entries=tuple(entries)))
    assert raised.value.code == code


def test_a_manifest_has_a_limit() -> None:
    entries = tuple(file(f"f{n:07}") for n in range(FILES_MAX + 1))
    with pytest.raises(Invalid, match="E_LIMIT"):
        check_manifest(Manifest(entries=entries))
    check_manifest(Manifest(entries=entries[:FILES_MAX]))
