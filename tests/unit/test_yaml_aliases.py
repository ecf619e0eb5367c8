"""Anchors, aliases, merge keys and repeated keys mean what PyYAML's safe loader says, in our bounds."""

from pathlib import Path

import pytest
import yaml

from penstock.errors import Invalid
from penstock.sdk.pipeline_files import pipeline_of
from penstock.sdk.yaml_text import document_of

ALIKE = {
    "an alias of a mapping": "a: &x {b: [1, 2], c: null}\nd: *x\ne: [*x, *x]\n",
    "an alias of a text": "a: &x hello\nb: *x\n*x : key\n",
    "an anchor within an anchor": "a: &x {b: &y [1, {c: 2}]}\nd: *y\ne: *x\n",
    "a merge": "a: &x {b: 1, c: 2}\nd:\n  c: 3\n  <<: *x\n  e: 4\n",
    "a merge before own keys": "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\n",
    "the first of many": "a: &x {b: 1, c: 2}\ng: &y {b: 9, z: 8}\nd: {<<: [*x, *y], z: 0}\n",
    "a merge of a merge": "a: &x {b: {q: 0.5}}\nc: &y {<<: *x, d: 2}\ne: {<<: *y}\n",
    "a merge of nothing": "a: &x {}\nb: {<<: *x}\n",
    "a repeated key": "a: {b: 1}\nc: 1\na: {d: 2}\n",
}


@pytest.mark.parametrize("name", ALIKE)
def test_a_document_is_what_the_safe_loader_reads(name: str) -> None:
    text = ALIKE[name]
    assert document_of(text.encode(), "f.yml").value == yaml.safe_load(text)


def test_a_merged_value_keeps_its_spelling_and_its_place() -> None:
    document = document_of(b"a: &x\n  python: 3.10\n  l: [1.50]\nb:\n  <<: *x\n", "f.yml")
    assert document.texts["b", "python"] == "3.10"
    assert document.texts["b", "l", "0"] == "1.50"
    assert document.where("b", "python") == "f.yml:2:3"


def test_a_repeated_key_leaves_no_spelling_behind() -> None:
    document = document_of(b"version: 3.10\nversion: '3.1'\n", "f.yml")
    assert document.value == {"version": "3.1"}
    assert ("version",) not in document.texts


def test_an_alias_is_a_value_of_its_own() -> None:
    value = document_of(b"a: &x {b: 1}\nc: *x\n", "f.yml").value
    value["a"]["b"] = 2
    assert value["c"] == {"b": 1}


TWICE = b"""type: pipeline
jobs:
  one: &one
    command: echo one
    environment_variables: {A: x}
    environment_variables: {A: y}
  two:
    <<: *one
    command: echo two
"""


def test_a_pipeline_with_anchors_and_a_repeated_key_is_read_with_a_note(tmp_path: Path) -> None:
    found = pipeline_of(document_of(TWICE, "p.yml"), tmp_path / "p.yml")
    assert found.spec.steps["two"].command == "echo two"
    assert found.spec.steps["two"].environment_variables == {"A": "y"}
    said = "p.yml:6:5: key 'jobs.one.environment_variables' occurs twice; the last one counts"
    assert said in found.notes


def test_strict_refuses_a_repeated_key(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="occurs twice") as caught:
        pipeline_of(document_of(TWICE, "p.yml"), tmp_path / "p.yml", strict=True)
    assert caught.value.code == "E_DUPLICATE_KEY"
