"""Files of what is registered: what becomes of their heads."""

from pathlib import Path

import pytest

from penstock.sdk.assets import read_asset


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ("1.10", "1.10"),
        ("01", "01"),
        ('"01"', "01"),
        ("1", "1"),
        ("2024-01-05", "2024-01-05"),
        ("", ""),
    ],
)
def test_a_version_is_what_is_written(tmp_path: Path, written: str, version: str) -> None:
    (tmp_path / "a.txt").write_text("a")
    file = tmp_path / "data.yml"
    file.write_text(f"name: abc\nversion: {written}\ntype: uri_file\npath: a.txt\n")
    assert read_asset("data", file).command.version == version
