"""Patterns, values and places of an executor's transfers, without anything that runs."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.data import Location, location_of
from penstock.errors import Invalid, PenstockError
from penstock_executor.datastores import Datastores
from penstock_executor.decide.control import value_of
from penstock_executor.decide.patterns import matches, split
from penstock_executor.placing import WRITING, leave, put_in_place, waiting_folder
from penstock_executor.web import name_of

HERE = Location(datastore="lake", path="a")


def nothing() -> None:
    """Go on."""


@pytest.mark.parametrize(
    ("path", "folder", "pattern"),
    [
        ("", "", ""),
        ("a/b", "a/b", ""),
        ("a/*.csv", "a", "*.csv"),
        ("*/b", "", "*/b"),
        ("a/**/x?", "a", "**/x?"),
        ("a/[b]", "a/[b]", ""),
    ],
)
def test_a_path_is_a_folder_and_a_pattern(path: str, folder: str, pattern: str) -> None:
    assert split(path) == (folder, pattern)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.csv", ["a.csv", ".csv"], ["a/b.csv", "a.csv.gz", "a.tsv"]),
        ("**/*.csv", ["a.csv", "a/b.csv", "a/b/c.csv"], ["a.tsv"]),
        ("**", ["a", "a/b"], []),
        ("a?/b", ["ax/b"], ["a/b", "axy/b", "ax/c"]),
        ("x.(1)*", ["x.(1)2"], ["xx(1)"]),
    ],
)
def test_a_pattern_matches_names_and_only_two_stars_folders(
    pattern: str, yes: list[str], no: list[str]
) -> None:
    assert [path for path in [*yes, *no] if matches(path, pattern)] == yes


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        ("integer", b" 7\n", 7),
        ("integer", b"7.5", None),
        ("number", b"1e-3\n", 0.001),
        ("number", b"nan", None),
        ("boolean", b"True\n", True),
        ("boolean", b"false", False),
        ("boolean", b"maybe", None),
        ("string", b" a b \n", " a b "),
        ("string", b"a\n\n", "a\n"),
        ("string", b"\xff", None),
        ("string", b"a\x00b", None),
        ("integer", b"", None),
    ],
)
def test_a_value_is_read_as_its_type(kind: str, data: bytes, value: object) -> None:
    assert value_of(kind, data) == value


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/b%20c.csv?x=1#y", "b c.csv"),
        ("https://host/a/", "a"),
        ("https://host", "data"),
        ("https://host/..", "data"),
        ("https://host/a%2Fb", "b"),
        ("https://host/%00", "data"),
    ],
)
def test_a_url_names_its_file(url: str, name: str) -> None:
    assert name_of(url) == name


@given(st.text())
def test_whatever_a_path_is_no_location_leaves_its_datastore(text: str) -> None:
    try:
        location = location_of(f"azureml://datastores/lake/paths/{text}")
    except PenstockError:
        return
    if location is not None:
        root = Path("/data/lake")
        place = Path(os.path.normpath(root / location.path))
        assert place == root or place.is_relative_to(root)
        assert location_of(location.text()) == location


def test_a_datastore_lies_where_it_was_registered_or_where_the_executor_says() -> None:
    stores = Datastores(root="/data")
    assert stores.folder(HERE) == Path("/data/lake")
    assert stores.folder(Location(datastore="lake", root="file:///my%20data")) == Path("/my data")
    assert stores.folder(Location(datastore="lake", root="s3://bucket/x/")) is None
    assert stores.url(Location(datastore="lake", root="s3://bucket/x/")) == "s3://bucket/x"
    assert Datastores(root="s3://b/stores/").url(HERE) == "s3://b/stores/lake"
    with pytest.raises(Invalid, match="no absolute path"):
        stores.folder(Location(datastore="lake", root="file://x/y"))
    with pytest.raises(Invalid, match="not a name"):
        stores.folder(Location(datastore="../lake"))


def test_what_an_earlier_attempt_left_goes_and_nobody_else_s(tmp_path: Path) -> None:
    for name in ("run-step-1-1", "run-step-1-2", "run-step-x-1-1", "run-other-1-1"):
        (tmp_path / WRITING / name).mkdir(parents=True)
    folder = waiting_folder(tmp_path, "run-step-2-1")
    left = {"run-step-2-1", "run-step-x-1-1", "run-other-1-1"}
    assert {path.name for path in folder.parent.iterdir()} == left
    leave(folder)
    assert {path.name for path in folder.parent.iterdir()} == left - {"run-step-2-1"}


def test_a_step_whose_name_ends_in_a_number_keeps_what_it_writes(tmp_path: Path) -> None:
    """`run-write-2-0-1` is of the step `write-2`, though the tail looks like numbers of `write`."""
    theirs = waiting_folder(tmp_path, "run-write-2-0-1")
    (theirs / "tree").mkdir()
    older = tmp_path / WRITING / "run-write-1-1"
    older.mkdir()
    mine = waiting_folder(tmp_path, "run-write-1-2")
    assert (theirs / "tree").is_dir()
    assert not older.exists()
    leave(waiting_folder(tmp_path, "run-write-2-1-1"))
    assert mine.is_dir()
    assert not theirs.exists()


def test_a_folder_never_takes_the_place_of_a_file_nor_a_file_that_of_a_folder(
    tmp_path: Path,
) -> None:
    root = tmp_path / "lake"
    (root / "a" / "name").mkdir(parents=True)
    (root / "b").write_text("old")
    tree = tmp_path / "tree"
    for place, file in (("a", "name"), ("b", "x"), ("b/below", "x")):
        tree.mkdir(exist_ok=True)
        (tree / file).write_text("new")
        with pytest.raises(Invalid, match="a folder where a file is to be"):
            put_in_place(tree, root, Location(datastore="lake", path=place), nothing, nothing)
    (tree / "one").write_text("new")
    with pytest.raises(Invalid, match="a folder where a file is to be"):
        put_in_place(tree / "one", root, HERE, nothing, nothing)
    assert (root / "b").read_text() == "old"
    assert (root / "a" / "name").is_dir()
