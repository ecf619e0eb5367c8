"""A source folder and what lies beside it in the snapshot."""

import io
import zipfile
from pathlib import Path

import pytest

from penstock.errors import Invalid
from penstock.trees.beside import Beside, scanned_beside
from penstock.trees.scan import scanned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, text in {
        "src/main.py": "main",
        "src/.amlignore": "*.log",
        "src/x.log": "x",
        "lib/one.py": "one",
        "lib/deep/two.py": "two",
        "single.py": "single",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_what_lies_beside_the_code_keeps_its_own_name(folder: Path) -> None:
    found = scanned_beside(
        folder / "src",
        [Beside("lib", folder / "lib"), Beside("single.py", folder / "single.py")],
    )
    assert [entry.path for entry in found.manifest.entries] == [
        ".amlignore",
        "lib/deep/two.py",
        "lib/one.py",
        "main.py",
        "single.py",
    ]
    assert all(entry.digest in found.files for entry in found.manifest.entries)


def test_with_nothing_beside_it_the_code_is_the_same_snapshot(folder: Path) -> None:
    assert (
        scanned_beside(folder / "src", []).ref.digest
        == scanned(folder / "src", ignore=True).ref.digest
    )


def test_a_packed_folder_is_a_zip_that_holds_it_by_its_name_with_the_same_bytes_each_time(
    folder: Path,
) -> None:
    packed = [Beside("lib.zip", folder / "lib", packed=True)]
    found = scanned_beside(None, packed)
    (entry,) = found.manifest.entries
    data = found.files[entry.digest]
    assert isinstance(data, bytes)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["lib/deep/two.py", "lib/one.py"]
        assert archive.read("lib/one.py") == b"one"
    (folder / "lib/one.py").touch()
    assert scanned_beside(None, packed).ref.digest == found.ref.digest


def test_two_files_of_one_path_are_refused(folder: Path) -> None:
    with pytest.raises(Invalid) as caught:
        scanned_beside(folder / "src", [Beside("main.py", folder / "single.py")])
    assert caught.value.code == "E_ARCHIVE_DUPLICATE"
