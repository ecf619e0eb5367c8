"""Golden fingerprints. A change here throws away the reuse of every workspace: it needs a new RECIPE."""

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.events import Part
from penstock.contracts.fingerprints import (
    RECIPE,
    compared,
    environment_part,
    fingerprint,
    known_inputs,
    parts_of,
    reason_of,
)
from penstock.contracts.plans import Bound, PlannedOutput, PlannedStep
from penstock.contracts.spec import EnvironmentSpec

CODE = "c" * 64
DATA = "d" * 64
TRAIN = PlannedStep(
    name="train",
    command="python train.py --data ${{inputs.data}} --lr ${{inputs.lr}} --out ${{outputs.model}}",
    code="a" * 64,
    code_digest=CODE,
    inputs={
        "data": Bound(type="uri_folder", step="prepare", output="clean"),
        "labels": Bound(type="uri_file", artifact="e" * 64),
        "lr": Bound(value=0.1),
    },
    outputs={"model": PlannedOutput(), "report": PlannedOutput(type="uri_file", file="r.json")},
    needs=("prepare",),
    environment_variables={"TOKEN": "hunter2"},
)
PARTS = {
    "kind": "command/1",
    "code": CODE,
    "command": TRAIN.command,
    "environment": "none",
    "variable:TOKEN": "blake3:55dcd1221c6686fba602b5f58f929eab507de0d999820d9d49566067688771f4",
    "input:data": DATA,
    "input:labels": "file:" + "e" * 64,
    "parameter:lr": "0.1",
    "output:model": "uri_folder",
    "output:report": "uri_file:r.json",
}


def test_the_parts_of_a_step_are_these() -> None:
    assert parts_of(TRAIN, {"data": DATA}) == PARTS


def test_the_fingerprint_of_a_full_step_is_golden() -> None:
    assert RECIPE == "command/1"
    assert (
        fingerprint(parts_of(TRAIN, {"data": DATA}))
        == "ffa2d4fd8cd52db4a30f7a85b967966b8294dcb7a734f523e92581e90c64849e"
    )


def test_the_fingerprint_of_the_smallest_step_is_golden() -> None:
    assert (
        fingerprint(parts_of(PlannedStep(name="a", command="true"), {}))
        == "bf8b6d5eadcf4a87fa52c7815c71b7f13ab39395a819fc7c5bdc3afe93c64dea"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"compute": "gpu"},
        {"timeout_s": 9.0},
        {"attempts_max": 7},
        {"retry_delay_s": 30.0},
        {"needs": ("prepare", "another")},
        {"code": "b" * 64},
        {"deterministic": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_change_a_result_stays_out(change: dict[str, Any]) -> None:
    other = msgspec.structs.replace(TRAIN, **change)
    assert parts_of(other, {"data": DATA}) == PARTS


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"command": "python other.py"}, "command"),
        ({"code_digest": "0" * 64}, "code"),
        ({"environment": EnvironmentSpec(pip=("numpy",))}, "environment"),
        ({"environment_variables": {"TOKEN": "hunter3"}}, "variable:TOKEN"),
        ({"inputs": {**TRAIN.inputs, "lr": Bound(value="0.1")}}, "parameter:lr"),
        ({"inputs": {**TRAIN.inputs, "labels": Bound(artifact="e" * 64)}}, "input:labels"),
        ({"outputs": {**TRAIN.outputs, "model": PlannedOutput(type="uri_file")}}, "output:model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_change_a_result_changes_exactly_its_part(
    change: dict[str, Any], part: str
) -> None:
    other = parts_of(msgspec.structs.replace(TRAIN, **change), {"data": DATA})
    assert [p.part for p in compared(other, PARTS) if p.changed] == [part]
    assert fingerprint(other) != fingerprint(PARTS)


def test_an_environment_is_what_it_holds_and_not_what_it_is_called() -> None:
    first = EnvironmentSpec(name="a", version="1", pip=("numpy",), conda={"a": 1, "b": 2})
    same = EnvironmentSpec(name="b", version="2", pip=("numpy",), conda={"b": 2, "a": 1})
    part = "blake3:90af7fcd2da96f1d974f41b49c2e9cd9694f40aa3e0b7e804a3bf1f94797fed5"
    assert environment_part(first) == environment_part(same) == part
    other = msgspec.structs.replace(same, variables={"OMP_NUM_THREADS": "1"})
    assert environment_part(other) != part
    assert environment_part(None) == "none"


def test_another_input_content_changes_the_input_part() -> None:
    other = parts_of(TRAIN, {"data": "9" * 64})
    parts = compared(other, PARTS)
    assert parts[0] == Part(part="input:data", changed=True, old=DATA, new="9" * 64)
    assert reason_of(parts, compared_with="r1") == "input:data changed: dddddddd… → 99999999…"


def test_a_secret_in_a_variable_is_not_readable_in_the_parts() -> None:
    assert "hunter2" not in msgspec.json.encode(parts_of(TRAIN, {"data": DATA})).decode()


def test_a_short_text_cannot_pose_as_the_digest_of_a_long_one() -> None:
    long = parts_of(PlannedStep(name="a", command="x" * 1000), {})
    posing = parts_of(PlannedStep(name="a", command=long["command"]), {})
    assert fingerprint(long) != fingerprint(posing)


def test_an_input_that_is_not_known_yet_has_no_fingerprint() -> None:
    assert known_inputs(TRAIN, {}) is None
    assert known_inputs(TRAIN, {"prepare": {"clean": DATA}}) == {"data": DATA, "labels": "e" * 64}
    with pytest.raises(KeyError):
        parts_of(TRAIN, {})


def test_reasons_read_as_one_line() -> None:
    same = compared(PARTS, PARTS)
    assert reason_of(same, reused_from="r1") == "same as run r1"
    assert reason_of(compared(PARTS, None)) == "first run of this step"
    assert reason_of(same, obstacle="off") == "reuse is off in this run"
    assert reason_of(same, compared_with="r1", obstacle="gone") == (
        "same as run r1, but its outputs no longer exist"
    )
    assert reason_of(same, compared_with="r1") == "same as run r1, which has no results to reuse"
    new = {**PARTS, "parameter:lr": "0.2", "code": "0" * 64}
    assert reason_of(compared(new, PARTS), compared_with="r1") == (
        "code changed: cccccccc… → 00000000…; also parameter:lr"
    )
    added = {**PARTS, "parameter:depth": "3"}
    assert reason_of(compared(added, PARTS), compared_with="r1") == "parameter:depth added: 3"
    assert reason_of(compared(PARTS, added), compared_with="r1") == "parameter:depth removed: 3"


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9)), st.randoms())
def test_a_fingerprint_does_not_depend_on_order(parts: dict[str, str], random: Random) -> None:
    shuffled = list(parts.items())
    random.shuffle(shuffled)
    assert fingerprint(dict(shuffled)) == fingerprint(parts)
