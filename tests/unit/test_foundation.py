"""Ids, errors, codec, CloudEvents and settings: what everything else stands on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts import cloudevents
from penstock.contracts.artifacts import (
    PACK_BYTES,
    SMALL_BYTES,
    Entry,
    Manifest,
    layout_of,
    tree_digest,
)
from penstock.contracts.codec import NESTING_MAX, nesting_of, read
from penstock.contracts.requests import RunRequest
from penstock.errors import Invalid
from penstock.ids import (
    PARTITIONS,
    checked_name,
    derived_id,
    digest_of,
    is_run_id,
    partition_of,
    run_id,
    run_time,
)
from penstock.runtime.settings import Common, load, refuse_unknown_variables
from penstock.units import Seconds


class Executor(Common, frozen=True, kw_only=True):
    slots: int = 2


@given(st.floats(1.6e9, 4e9), st.text(max_size=20))
def test_a_run_id_has_its_shape_and_remembers_its_second(at: float, part: str) -> None:
    run = run_id(Seconds(at), part)
    assert is_run_id(run)
    assert run_time(run) == float(int(at))
    assert 0 <= partition_of(run) < PARTITIONS


def test_run_ids_sort_by_time() -> None:
    ids = [run_id(Seconds(1.7e9 + n), "x") for n in (0, 1, 40, 5000)]
    assert ids == sorted(ids)


def test_a_derived_id_knows_the_borders_of_its_parts() -> None:
    ids = {derived_id(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""))}
    assert len(ids) == 4
    assert derived_id("ab", "c") in ids


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a*", ">", "a b", "-a", "a/b", "../x", "ä", "\u0430", "x" * 64, "a\n", "a\x00"],
)
def test_a_name_that_would_change_a_subject_or_a_path_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="E_ID steps"):
        checked_name(text, "steps")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "E_EMPTY"),
        (b"  \n", "E_EMPTY"),
        (b"\xff", "E_DECODE"),
        (b"nope", "E_DECODE"),
        (b"[1]", "E_TYPE"),
        (b'{"pipeline": 3}', "E_TYPE"),
        (b'{"pipelin": "x"}', "E_UNKNOWN_FIELD"),
        (b'{"parameters": {"lr": NaN}}', "E_NUMBER"),
        (b'{"parameters": {"lr": 1e400}}', "E_NUMBER"),
        (b'{"parameters": {"n": ' + b"9" * 100_000 + b"}}", "E_NUMBER"),
        (b'{"pipeline": "a", "pipeline": "b"}', "E_DUPLICATE_KEY"),
        (b"[" * 100_000, "E_DECODE"),
        (b'{"tags": ' + b'{"a":' * 70 + b"1" + b"}" * 71, "E_DECODE"),
        (b'{"pipeline": "' + b"x" * 1_100_000 + b'"}', "E_TOO_LARGE"),
        (b'{"pipeline": "a"} {"pipeline": "b"}', "E_DECODE"),
        (b'{"reuse": "maybe"}', "E_TYPE"),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_its_code(data: bytes, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(data, RunRequest, "request")
    assert caught.value.code == code
    assert caught.value.where.startswith("request")


def test_an_unknown_field_gets_the_nearest_known_one() -> None:
    with pytest.raises(Invalid, match=r"did you mean 'idempotency_key'\?"):
        read(b'{"idempotencykey": "x"}', RunRequest, "request")


def test_brackets_inside_texts_do_not_nest() -> None:
    assert nesting_of(b'{"a": "[[[[\\"[["}') == 1
    assert nesting_of(b"[" * NESTING_MAX + b"]" * NESTING_MAX) == NESTING_MAX


def test_a_request_may_come_plain_in_binary_mode_or_structured() -> None:
    body = b'{"pipeline":"digits"}'
    plain = cloudevents.unwrapped(body, {})
    binary = cloudevents.unwrapped(body, {"ce-id": "7", "ce-source": "/my%20shop"})
    envelope = b'{"specversion":"1.0","id":"7","source":"/my shop","type":"t","data":' + body + b"}"
    structured = cloudevents.unwrapped(
        envelope, {"content-type": "application/cloudevents+json; charset=utf-8"}
    )
    assert plain.data == binary.data == structured.data == body
    assert plain.attributes == {}
    assert binary.attributes["source"] == structured.attributes["source"] == "/my shop"


def test_a_broken_envelope_is_refused() -> None:
    for body in (b"nope", b"{}", b"[]"):
        with pytest.raises(Invalid):
            cloudevents.unwrapped(body, {"Content-Type": "application/cloudevents+json"})


def test_event_headers_are_cloudevents() -> None:
    headers = cloudevents.headers_of(
        event_id="r.1", kind="penstock.run.accepted.v1", source="scheduler/ä", subject="r", at=1.5
    )
    assert headers["ce-time"] == "1970-01-01T00:00:01.500Z"
    assert headers["ce-source"] == "scheduler/%C3%A4"


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text('workspace = "lab"\nlog_level = "debug"\n[executor]\nslots = 3\n')
    settings, sources = load(
        "executor", Executor, {"log-level": "error"}, {"PENSTOCK_EXECUTOR_SLOTS": "5"}, file
    )
    assert (settings.workspace, settings.slots, settings.log_level) == ("lab", 5, "error")
    assert sources["slots"] == "environment PENSTOCK_EXECUTOR_SLOTS"
    assert sources["log_level"] == "flag --log-level"
    assert sources["bus"] == "default"


@pytest.mark.parametrize(
    ("flags", "environ", "text"),
    [
        ({"slot": "3"}, {}, r"did you mean 'slots'\?"),
        ({"slots": "many"}, {}, "E_CONFIG"),
        ({}, {"PENSTOCK_EXECUTOR_SLOTS": ""}, "E_CONFIG environment PENSTOCK_EXECUTOR_SLOTS"),
        ({"workspace": "a.b"}, {}, "E_ID workspace"),
    ],
)
def test_a_wrong_setting_stops_the_start(
    flags: dict[str, str], environ: dict[str, str], text: str
) -> None:
    with pytest.raises(Invalid, match=text):
        load("executor", Executor, flags, environ)


def test_a_misspelt_variable_stops_the_start_but_a_steps_own_do_not() -> None:
    known = {"executor": Executor}
    refuse_unknown_variables(
        {"PENSTOCK_RUN_ID": "x", "PENSTOCK_TRIGGER_X": "1", "HOME": "/"}, known
    )
    with pytest.raises(Invalid, match="PENSTOCK_EXECUTOR_SLOT"):
        refuse_unknown_variables({"PENSTOCK_EXECUTOR_SLOT": "1"}, known)


@given(st.lists(st.integers(0, SMALL_BYTES + 10), max_size=40))
def test_a_layout_gives_every_byte_one_place(sizes: list[int]) -> None:
    entries = tuple(
        Entry(
            path=f"f{n:03}", size=size, digest=digest_of(str(n % 30).encode() + bytes([size % 7]))
        )
        for n, size in enumerate(sizes)
    )
    sized = {entry.digest: entry.size for entry in reversed(entries)}
    entries = tuple(Entry(path=e.path, size=sized[e.digest], digest=e.digest) for e in entries)
    layout = layout_of(Manifest(entries=entries))
    assert sum(o.size for o in layout.objects) == sum(sized.values())
    assert {d for d, size in sized.items() if size} == set(layout.places)
    by_key = {o.key: o.size for o in layout.objects}
    assert all(p.offset + p.size <= by_key[p.key] for p in layout.places.values())


def test_many_small_files_travel_in_few_objects() -> None:
    entries = tuple(
        Entry(path=f"{n:05}", size=4096, digest=digest_of(str(n).encode())) for n in range(5000)
    )
    layout = layout_of(Manifest(entries=entries))
    assert len(layout.objects) == 2
    assert max(o.size for o in layout.objects) <= PACK_BYTES


def test_equal_trees_have_equal_names() -> None:
    a = Manifest(entries=(Entry(path="x", size=1, digest=digest_of(b"1")),))
    b = Manifest(entries=(Entry(path="x", size=1, digest=digest_of(b"1"), executable=False),))
    assert tree_digest(a) == tree_digest(b)
