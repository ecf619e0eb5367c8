"""Folders as manifests: what is left out, what is refused, what is noticed."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.contracts.artifacts import Entry
from penstock.contracts.paths import EMPTY_DIGEST
from penstock.contracts.spec import GitInfo
from penstock.errors import Invalid, NotFound
from penstock.ids import digest_of
from penstock.trees import scan as module
from penstock.trees.git import snapshot_git
from penstock.trees.scan import scanned, scanned_bytes, scanned_file


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def paths_of(root: Path, *, ignore: bool) -> list[str]:
    return [entry.path for entry in scanned(root, ignore=ignore).manifest.entries]


def test_a_folder_becomes_a_sorted_manifest(tmp_path: Path) -> None:
    write(tmp_path, {"b.txt": "two", "a/c": "", "Z": "two", "run.sh": "#!"})
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "run.sh").chmod(0o755)
    scan = scanned(tmp_path, ignore=False)
    two = digest_of(b"two")
    assert scan.manifest.entries == (
        Entry(path="Z", size=3, digest=two),
        Entry(path="a/c", digest=EMPTY_DIGEST),
        Entry(path="b.txt", size=3, digest=two),
        Entry(path="empty/deeper/"),
        Entry(path="run.sh", size=2, digest=digest_of(b"#!"), executable=True),
    )
    assert set(scan.files) == {two, EMPTY_DIGEST, digest_of(b"#!")}
    assert (scan.ref.size_bytes, scan.ref.files) == (8, 4)


def test_equal_contents_have_equal_names_whatever_their_times(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, {"x/y": "z", "big": "b" * 300_000})
    os.utime(tmp_path / "two" / "x" / "y", (1, 1))
    one, two = (scanned(tmp_path / name, ignore=False) for name in ("one", "two"))
    assert one.manifest == two.manifest


def test_big_files_are_hashed_whole(tmp_path: Path) -> None:
    data = os.urandom(9_000_001)
    (tmp_path / "big").write_bytes(data)
    assert scanned(tmp_path, ignore=False).manifest.entries[0].digest == digest_of(data)


def test_ignore_files_are_obeyed_only_when_asked(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".gitignore": "*.log\nbuild/\n!keep.log\n/data",
            "a.py": "",
            "a.log": "",
            "keep.log": "",
            "build/x": "",
            "sub/build/x": "",
            "data/x": "",
            "sub/data/x": "",
            ".git/HEAD": "",
            "sub/__pycache__/x.pyc": "",
            ".penstock/x": "",
        },
    )
    assert paths_of(tmp_path, ignore=True) == [".gitignore", "a.py", "keep.log", "sub/data/x"]
    assert len(paths_of(tmp_path, ignore=False)) == 11


def test_the_amlignore_wins_over_the_gitignore(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "a", ".amlignore": "b\n", "a": "", "b": ""})
    assert paths_of(tmp_path, ignore=True) == [".amlignore", ".gitignore", "a"]


def test_what_is_ignored_may_be_anything(tmp_path: Path) -> None:
    write(tmp_path, {".amlignore": "data\npipe\n", "a": ""})
    (tmp_path / "data").symlink_to("/")
    os.mkfifo(tmp_path / "pipe")
    assert paths_of(tmp_path, ignore=True) == [".amlignore", "a"]


def test_links_inside_are_followed(tmp_path: Path) -> None:
    write(tmp_path, {"blobs/x": "content", "dir/y": "1"})
    (tmp_path / "model.bin").symlink_to("blobs/x")
    (tmp_path / "again").symlink_to("dir")
    assert paths_of(tmp_path, ignore=False) == ["again/y", "blobs/x", "dir/y", "model.bin"]


def fifo(path: Path) -> None:
    os.mkfifo(path / "bad")


def unix_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path)  # the name of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("bad")
    finally:
        os.chdir(here)


def link_out(path: Path) -> None:
    (path.parent / "secret").write_text("s")
    (path / "bad").symlink_to("../secret")


def absolute_link(path: Path) -> None:
    (path / "bad").symlink_to("/etc/passwd")


def device_link(path: Path) -> None:
    (path / "bad").symlink_to("/dev/zero")


def dangling_link(path: Path) -> None:
    (path / "bad").symlink_to("nowhere")


def link_to_itself(path: Path) -> None:
    (path / "bad").symlink_to("bad")


def link_to_above(path: Path) -> None:
    (path / "sub").mkdir()
    (path / "sub" / "bad").symlink_to("..")


def chain_of_links(path: Path) -> None:
    inner = path
    for _ in range(15):
        inner = inner / ("d" * 240)
        inner.mkdir()
    (path / "a").symlink_to(inner.relative_to(path))
    (inner / "bad").symlink_to("../" * 20 + "etc/passwd")


BAD_THINGS = [
    fifo,
    unix_socket,
    link_out,
    absolute_link,
    device_link,
    dangling_link,
    link_to_itself,
    link_to_above,
    chain_of_links,
]


@pytest.mark.parametrize("make", BAD_THINGS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(("ignore", "code"), [(True, "E_SNAPSHOT_TYPE"), (False, "E_OUTPUT_TYPE")])
def test_what_is_neither_file_nor_folder_is_refused(
    make: Callable[[Path], None], ignore: bool, code: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    write(root, {"good": "x"})
    make(root)
    with pytest.raises(Invalid) as raised:
        scanned(root, ignore=ignore)
    assert raised.value.code == code


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with (tmp_path / os.fsdecode(b"caf\xe9")).open("w"):
        pass
    for ignore, code in ((True, "E_ARCHIVE_NAME"), (False, "E_NAME")):
        with pytest.raises(Invalid) as raised:
            scanned(tmp_path, ignore=ignore)
        assert raised.value.code == code
        assert str(raised.value).isascii()


def test_a_name_with_control_characters_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b[2J").touch()
    with pytest.raises(Invalid, match="E_NAME") as raised:
        scanned(tmp_path, ignore=False)
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("names", [("README", "readme"), ("caf\u00e9", "cafe\u0301")])
def test_twins_on_a_disk_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text(name)
    with pytest.raises(Invalid, match="E_DUPLICATE"):
        scanned(tmp_path, ignore=False)


def test_names_come_out_in_normal_form(tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301").write_text("x")
    scan = scanned(tmp_path, ignore=False)
    assert scan.manifest.entries[0].path == "caf\u00e9"
    assert scan.files[digest_of(b"x")] == b"x"


@pytest.mark.parametrize("size", [10, 5_000_000])
@pytest.mark.parametrize(("ignore", "code"), [(True, "SNAPSHOT"), (False, "OUTPUT")])
def test_a_file_that_changes_while_it_is_read_is_noticed(
    size: int, ignore: bool, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "changing"
    path.write_bytes(b"x" * size)
    real = os.fstat
    looks: list[int] = []

    def looked(handle: int) -> os.stat_result:
        status = real(handle)
        looks.append(handle)
        if len(looks) == 1:  # a writer in the background
            with path.open("ab") as file:
                file.write(b"more")
        return status

    monkeypatch.setattr(os, "fstat", looked)
    with pytest.raises(Invalid, match=f"E_{code}_CHANGED"):
        scanned(tmp_path, ignore=ignore)


def test_a_file_that_is_overwritten_with_as_many_bytes_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "overwritten"
    path.write_bytes(b"x" * 5_000_000)
    real = os.preadv

    def overwriting(handle: int, buffers: Any, offset: int) -> int:
        if not offset:
            with path.open("r+b") as file:
                file.write(b"y" * 5_000_000)
            os.utime(path, (1, 1))
        return real(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", overwriting)
    with pytest.raises(Invalid, match="E_OUTPUT_CHANGED"):
        scanned(tmp_path, ignore=False)


def test_a_file_that_grows_as_fast_as_it_is_read_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"x" * 5_000_000)
    real = os.preadv
    reads: list[int] = []

    def growing(handle: int, buffers: Any, offset: int) -> int:
        reads.append(offset)
        with path.open("ab") as file:
            file.write(b"y" * 5_000_000)
        assert len(reads) < 10, "reading would never end"
        return real(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", growing)
    with pytest.raises(Invalid, match="E_OUTPUT_CHANGED"):
        scanned(tmp_path, ignore=False)


def test_a_file_that_vanishes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a": "x"})
    real = os.open

    def vanishing(path: Any, *rest: Any, **named: Any) -> int:
        Path(path).unlink()
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", vanishing)
    with pytest.raises(Invalid, match="E_OUTPUT_CHANGED"):
        scanned(tmp_path, ignore=False)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILES_MAX", 10)
    write(tmp_path, {str(number): "x" for number in range(11)})
    with pytest.raises(Invalid, match="E_LIMIT"):
        scanned(tmp_path, ignore=False)


def test_a_snapshot_with_a_checkpoint_in_it_is_refused_with_a_hint(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", "checkpoints/last.ckpt": ""})
    os.truncate(tmp_path / "checkpoints" / "last.ckpt", 3 * 1024**3)
    with pytest.raises(Invalid, match=r"E_TOO_LARGE.*last\.ckpt.*\.amlignore"):
        scanned(tmp_path, ignore=True)
    with pytest.raises(Invalid, match="E_TOO_LARGE"):
        scanned(tmp_path, ignore=False, bytes_max=1024)


def test_a_snapshot_of_nothing_is_refused_and_an_output_of_nothing_is_not(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="E_EMPTY"):
        scanned(tmp_path, ignore=True)
    assert scanned(tmp_path, ignore=False).manifest.entries == ()


@pytest.mark.parametrize(
    ("ignore", "code"), [(True, "E_SNAPSHOT_MISSING"), (False, "E_OUTPUT_MISSING")]
)
def test_a_folder_that_is_not_there_is_missing(ignore: bool, code: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(NotFound) as raised:
            scanned(path, ignore=ignore)
        assert raised.value.code == code


def test_secrets_in_a_snapshot_are_noted(tmp_path: Path) -> None:
    write(tmp_path, {".env": "A=1", "deploy/server.pem": "x", "a.py": ""})
    notes = scanned(tmp_path, ignore=True).notes
    assert [note.split()[0:2] for note in notes] == [
        ["W_SENSITIVE", "'.env':"],
        ["W_SENSITIVE", "'deploy/server.pem':"],
    ]
    assert scanned(tmp_path, ignore=False).notes == ()


def test_set_user_id_is_dropped_with_a_note(tmp_path: Path) -> None:
    write(tmp_path, {"tool": "x"})
    (tmp_path / "tool").chmod(0o4755)
    scan = scanned(tmp_path, ignore=False)
    assert scan.manifest.entries[0].executable
    assert "W_MODE" in scan.notes[0]


def test_one_file_becomes_a_tree(tmp_path: Path) -> None:
    write(tmp_path, {"data.csv": "1,2"})
    (tmp_path / "link").symlink_to("data.csv")
    for path, name, expected in (
        (tmp_path / "data.csv", "", "data.csv"),
        (tmp_path / "link", "other.csv", "other.csv"),
    ):
        scan = scanned_file(path, name)
        assert scan.manifest.entries == (Entry(path=expected, size=3, digest=digest_of(b"1,2")),)
    with pytest.raises(NotFound, match="E_DATA_MISSING"):
        scanned_file(tmp_path / "nothing")
    with pytest.raises(Invalid, match="E_DATA_TYPE"):
        scanned_file(tmp_path)
    with pytest.raises(Invalid, match="E_NAME"):
        scanned_file(tmp_path / "data.csv", "../evil")


def test_bytes_become_a_tree() -> None:
    scan = scanned_bytes({"b": b"2", "a/c": b""})
    assert [entry.path for entry in scan.manifest.entries] == ["a/c", "b"]
    with pytest.raises(Invalid, match="E_ARCHIVE_PATH"):
        scanned_bytes({"../x": b""})


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@needs_git
def test_git_says_commit_branch_dirt_and_remote(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "remote", "add", "origin", "https://me:token@example.org/team/repo.git?x=y")
    write(tmp_path, {"a": "1", "sub/b": "1"})
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    clean = snapshot_git(tmp_path / "sub")
    assert len(clean.commit) == 40
    assert (clean.branch, clean.dirty) == ("main", False)
    assert clean.remote == "https://example.org/team/repo.git"
    write(tmp_path, {"sub/b": "2"})
    assert snapshot_git(tmp_path / "sub").dirty


@needs_git
def test_a_foreign_repository_runs_nothing_of_its_own(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, {"hook": f"#!/bin/sh\ntouch {tmp_path}/ran\n"})
    (tmp_path / "hook").chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(tmp_path / "hook"))
    snapshot_git(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_without_git_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert snapshot_git(tmp_path) == GitInfo()
    monkeypatch.setenv("PATH", "")
    assert snapshot_git(tmp_path) == GitInfo()
