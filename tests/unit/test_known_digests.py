"""What is remembered of files that were hashed before, and when it may not be believed."""

import os
import time
from pathlib import Path

import pytest

from penstock.trees import hashing
from penstock.trees.known import RACY_NS, Known
from penstock.trees.scan import scanned


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of whoever remembers is ahead, as if the files were written some time ago."""
    monkeypatch.setattr(time, "time_ns", lambda: 1 << 62)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were read."""
    found: list[str] = []
    real = hashing._read

    def read(item: hashing.Item, rules: hashing.Rules, *, hold: bool) -> hashing._Hashed:
        found.append(item.path)
        return real(item, rules, hold=hold)

    monkeypatch.setattr(hashing, "_read", read)
    return found


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.write_text(text)
    return path


@pytest.mark.usefixtures("later")
def test_an_unchanged_folder_is_not_read_again(tmp_path: Path, reads: list[str]) -> None:
    write(tmp_path, "a.py", "one")
    write(tmp_path, "b.py", "two")
    remembered = Known()
    first = scanned(tmp_path, ignore=True, known=remembered)
    assert sorted(reads) == ["a.py", "b.py"]
    second = scanned(tmp_path, ignore=True, known=remembered)
    assert sorted(reads) == ["a.py", "b.py"]
    assert second.manifest == first.manifest


@pytest.mark.usefixtures("later")
def test_what_was_written_to_is_read_again_even_with_its_size_and_mtime_kept(
    tmp_path: Path, reads: list[str]
) -> None:
    path = write(tmp_path, "a.py", "one")
    remembered = Known()
    first = scanned(tmp_path, ignore=True, known=remembered)
    status = path.stat()
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    second = scanned(tmp_path, ignore=True, known=remembered)
    assert reads == ["a.py", "a.py"]
    assert second.manifest != first.manifest


@pytest.mark.usefixtures("later")
def test_another_file_under_the_same_name_is_read(tmp_path: Path, reads: list[str]) -> None:
    write(tmp_path, "a.py", "one")
    remembered = Known()
    scanned(tmp_path, ignore=True, known=remembered)
    write(tmp_path, "new", "two").replace(tmp_path / "a.py")
    found = scanned(tmp_path, ignore=True, known=remembered)
    assert reads == ["a.py", "a.py"]
    assert found.manifest == scanned(tmp_path, ignore=True).manifest


def test_a_file_that_was_written_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    path = write(tmp_path, "a.py", "one")
    status = path.stat()
    remembered = Known()
    remembered.add(path, status, "digest")
    assert not remembered.digest(path, status)


def test_an_old_file_is_remembered_while_it_looks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a.py", "one")
    status = path.stat()
    monkeypatch.setattr(time, "time_ns", lambda: status.st_ctime_ns + RACY_NS + 1)
    remembered = Known()
    remembered.add(path, status, "digest")
    assert remembered.digest(path, status) == "digest"
    path.chmod(0o700)
    assert not remembered.digest(path, path.stat())
