"""Local folders and files of a definition become digests in its spec."""

from pathlib import Path

import pytest

from penstock.contracts.spec import Input
from penstock.errors import PenstockError
from penstock.sdk.pipeline_files import read_pipeline
from penstock.sdk.uploads import Scanned, scanned_spec

TEXT = """
type: pipeline
inputs:
  rows: {type: uri_file, path: rows.csv}
jobs:
  a: {code: src, command: x, hash_paths: [a.py, lib/]}
  b: {code: ./src, command: x}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "src" / "lib").mkdir(parents=True)
    for name in ("a.py", "b.py", "lib/c.py", "notes.tmp"):
        (tmp_path / "src" / name).write_text(name)
    (tmp_path / "src" / ".amlignore").write_text("*.tmp\n")
    (tmp_path / "rows.csv").write_text("1\n")
    found = tmp_path / "p.yml"
    found.write_text(TEXT)
    return found


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


async def scanned(file: Path) -> Scanned:
    return await scanned_spec(read_pipeline(file))


async def test_a_folder_that_two_steps_share_is_stored_once(file: Path) -> None:
    found = await scanned(file)
    a, b = found.spec.steps["a"], found.spec.steps["b"]
    assert a.code == b.code
    assert set(found.scans) == {a.code.removeprefix("artifact:"), digest_of_rows(found)}
    paths = [e.path for e in found.scans[a.code.removeprefix("artifact:")][0].manifest.entries]
    assert paths == [".amlignore", "a.py", "b.py", "lib/c.py"]


def digest_of_rows(found: Scanned) -> str:
    rows = found.spec.inputs["rows"]
    assert isinstance(rows, Input)
    return rows.path.removeprefix("artifact:")


async def test_only_the_files_in_hash_paths_count_for_reuse(file: Path) -> None:
    before = (await scanned(file)).spec.steps
    (file.parent / "src" / "b.py").write_text("changed")
    after = (await scanned(file)).spec.steps
    assert after["a"].code != before["a"].code
    assert after["a"].hash_digest == before["a"].hash_digest
    assert after["b"].hash_digest == ""
    (file.parent / "src" / "lib" / "c.py").write_text("changed")
    assert (await scanned(file)).spec.steps["a"].hash_digest != before["a"].hash_digest


async def test_a_hash_path_that_names_nothing_is_refused_at_its_line(file: Path) -> None:
    rewrite(file, TEXT.replace("a.py", "none.py"))
    with pytest.raises(PenstockError, match=r"'none\.py' names no file") as caught:
        await scanned(file)
    assert caught.value.where.endswith("p.yml:6:30")


async def test_a_folder_that_cannot_be_a_snapshot_is_named_with_its_line(file: Path) -> None:
    (file.parent / "src" / "out").symlink_to("/etc/hostname")
    with pytest.raises(PenstockError) as caught:
        await scanned(file)
    assert "p.yml:6:7" in caught.value.hint
