"""What -p means, and which stack a command talks to."""

from pathlib import Path

import msgspec
import pytest

from penstock.contracts.spec import Input, PipelineSpec, Scalar
from penstock.errors import BusUnavailable, Invalid
from penstock.runtime import stack
from penstock.sdk.parameters import pairs_of, typed, typed_like
from penstock.sdk.target import target_of

SPEC = PipelineSpec(
    name="p",
    inputs={
        "rate": 0.1,
        "epochs": Input(type="integer", default=3),
        "fast": True,
        "name": Input(type="string"),
        "word": "x",
        "rows": Input(type="uri_file"),
    },
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rate=0.5", 0.5), ("rate=1", 1), ("rate=1e-3", 0.001), ("epochs=20", 20), ("fast=false", False),
        ("name=3.10", "3.10"), ("name=", ""), ("word=true", "true"), ("name=a=b", "a=b"),
    ],
)  # fmt: skip
def test_a_parameter_has_the_type_that_is_declared(text: str, value: Scalar) -> None:
    (found,) = typed(pairs_of([text]), SPEC).values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "texts",
    [
        ["lr"],
        ["=1"],
        ["a=1", "a=2"],
        ["rate=fast"],
        ["rate="],
        ["epochs=1.5"],
        ["fast=1"],
        ["ratte=1"],
    ],
)
def test_a_wrong_parameter_is_refused(texts: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        typed(pairs_of(texts), SPEC)
    assert caught.value.code == "E_PARAM"
    assert caught.value.where.startswith("-p")


def test_without_a_declaration_numbers_are_numbers() -> None:
    texts = ["a=3", "b=0.5", "c=true", "d=007", "e=x", "f=", "g=1e-3"]
    assert typed(pairs_of(texts), None) == {
        "a": 3, "b": 0.5, "c": True, "d": "007", "e": "x", "f": "", "g": 0.001,
    }  # fmt: skip


def test_a_rerun_keeps_the_types_of_the_run_before() -> None:
    assert typed_like({"a": "3", "b": "3", "new": "3"}, {"a": "text", "b": 1.5}) == {
        "a": "3", "b": 3, "new": 3,
    }  # fmt: skip


def running(folder: Path, *, alive: bool = True) -> None:
    import os

    folder.mkdir(parents=True)
    pid = os.getpid() if alive else 0
    found = stack.Stack(
        workspace="w",
        bus="nats://127.0.0.1:7777",
        store="file:/x",
        supervisor_pid=pid,
        supervisor_born=stack.birth_of(pid),
        started_at=0,
    )
    (folder / "state.json").write_bytes(msgspec.json.encode(found))


def test_the_running_stack_is_found_upwards(tmp_path: Path) -> None:
    running(tmp_path / ".penstock")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    found = target_of(environ={}, start=deep)
    assert (found.bus, found.workspace, found.folder) == (
        "nats://127.0.0.1:7777", "w", tmp_path / ".penstock",
    )  # fmt: skip
    named = target_of(folder=tmp_path / ".penstock", environ={}, start=Path("/"))
    assert named.bus == found.bus


def test_flag_beats_environment_beats_file_beats_the_running_stack(tmp_path: Path) -> None:
    running(tmp_path / ".penstock")
    (tmp_path / "penstock.toml").write_text('bus = "nats://file:1"\nworkspace = "from-file"\n')
    environ = {"PENSTOCK_BUS": "nats://environment:1"}
    by_flag = target_of(bus="nats://flag:1", workspace="f", environ=environ, start=tmp_path)
    assert (by_flag.bus, by_flag.workspace) == ("nats://flag:1", "f")
    by_environment = target_of(environ=environ, start=tmp_path)
    assert (by_environment.bus, by_environment.workspace) == ("nats://environment:1", "from-file")
    assert target_of(environ={}, start=tmp_path).bus == "nats://file:1"
    folder = tmp_path / ".penstock"
    assert target_of(folder=folder, environ=environ, start=tmp_path).bus == "nats://127.0.0.1:7777"


@pytest.mark.parametrize("exists", [True, False])
def test_without_a_running_stack_the_error_says_what_to_type(tmp_path: Path, exists: bool) -> None:
    if exists:
        running(tmp_path / ".penstock", alive=False)
    with pytest.raises(BusUnavailable) as caught:
        target_of(environ={}, start=tmp_path)
    assert caught.value.code == "E_CONNECT"
    assert "penstock up --detach" in caught.value.hint


def test_a_folder_and_a_bus_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="name two stacks"):
        target_of(folder=tmp_path, bus="nats://x:1", environ={}, start=tmp_path)
