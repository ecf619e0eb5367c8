"""From a stranger's bytes to a request: corpus R of shared/research/reliability.md §5c, and more."""

import json
from typing import Any

import pytest

from penstock.contracts.requests import CancelRequest, RerunRequest, RunRequest
from penstock.errors import Invalid
from penstock_planner.decide.reading import (
    artifact_in,
    content_of,
    pairing_of,
    pipeline_of,
    pipeline_token,
    spec_of,
    wish_of,
)

RUN = "0a1b2c3d4e5f6g7"


def said(data: bytes, headers: dict[str, str] | None = None, kind: str = "run") -> str:
    with pytest.raises(Invalid) as caught:
        wish_of(kind, data, headers or {})
    return f"{caught.value.code} {caught.value.where}: {caught.value.message}"


CORPUS: list[tuple[str, bytes, str]] = [
    ("R01 empty", b"", "E_EMPTY request: no content"),
    ("R02 no JSON", b"hello", "E_DECODE request: not JSON"),
    ("R02 no UTF-8", b'{"pipeline": "\xff"}', "E_DECODE request: not UTF-8 at byte 14"),
    ("R02 two documents", b"{}{}", "E_DECODE request: not JSON"),
    ("R03 nesting", b"[" * 100_000, "E_DECODE request: nesting over 64"),
    ("R04 NaN", b'{"parameters": {"lr": NaN}}', "E_NUMBER request: NaN is not a number"),
    ("R04 infinity", b'{"parameters": {"lr": 1e400}}', "E_NUMBER request: 1e400"),
    ("R05 digits", b'{"parameters": {"n": %s}}' % (b"9" * 100_000), "E_NUMBER request: "),
    ("R06 duplicate", b'{"pipeline": "a", "pipeline": "b"}', "E_DUPLICATE_KEY request: key 'pipeline' occurs twice"),
    ("R07 surrogate", b'{"pipeline": "\\ud800"}', "E_DECODE request"),
    ("R08 unknown field", b'{"piepline": "a"}', "E_UNKNOWN_FIELD request: unknown field 'piepline'"),
    ("R10 too large", b'{"pipeline": "%s"}' % (b"x" * 3_000_000), "E_TOO_LARGE request: 3,000,016 bytes; allowed: 1,048,576"),
    ("wrong type", b'{"parameters": {"lr": [1]}}', "E_TYPE request.parameters.lr: Expected"),
    ("R08 beside a spec", b'{"spec": {"steps": {}}, "foo": 1}', "E_UNKNOWN_FIELD request: unknown field 'foo'"),
    ("no object", b"5", "E_TYPE request: Expected `object`, got `int`"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "words"), [(d, w) for _, d, w in CORPUS], ids=[name for name, _, _ in CORPUS]
)
def test_a_bad_request_is_refused_in_these_words(data: bytes, words: str) -> None:
    assert said(data).startswith(words)


def test_a_misspelt_field_names_the_nearest_one() -> None:
    with pytest.raises(Invalid) as caught:
        wish_of("run", b'{"piepline": "a"}', {})
    assert caught.value.hint == "did you mean 'pipeline'?"


@pytest.mark.parametrize(
    "run", ["../x", "*", ">", "a.b", "a b", "\U0001f600" * 15, "x" * 10_000, "", "0A1B2C3D4E5F6G7"]
)
@pytest.mark.parametrize("kind", ["cancel", "rerun"])
def test_a_run_id_that_would_change_a_subject_is_refused(run: str, kind: str) -> None:
    words = said(json.dumps({"run": run}).encode(), kind=kind)
    assert words.startswith("E_ID request.run: ")
    assert len(words) < 250


def test_a_header_bomb_is_refused() -> None:
    headers = {f"h{n}": "x" for n in range(10_000)}
    assert said(b"{}", headers).startswith("E_HEADERS request: 10,000 headers")


def test_an_unknown_request_names_the_known_ones() -> None:
    with pytest.raises(Invalid) as caught:
        wish_of("rum", b"{}", {})
    assert str(caught.value) == (
        "E_REQUEST subject: unknown request 'rum'; allowed: run, cancel, rerun (did you mean 'run'?)"
    )


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b'{"pipeline": "digits"}', {}),
        (b'{"pipeline": "digits"}', {"ce-id": "1", "ce-type": "t", "ce-specversion": "1.0"}),
        (
            b'{"specversion": "1.0", "id": "1", "type": "t", "data": {"pipeline": "digits"}}',
            {"Content-Type": "application/cloudevents+json; charset=utf-8"},
        ),
    ],
    ids=["plain", "binary", "structured"],
)
def test_a_request_may_come_in_three_envelopes(data: bytes, headers: dict[str, str]) -> None:
    wish = wish_of("run", data, headers)
    assert isinstance(wish.request, RunRequest)
    assert wish.request.pipeline == "digits"
    assert wish.body == b'{"pipeline": "digits"}'


def test_a_broken_envelope_is_refused() -> None:
    headers = {"content-type": "application/cloudevents+json"}
    assert said(b"{}", headers) == "E_DECODE cloudevent: the envelope has no 'data'"
    assert said(b"[", headers).startswith("E_DECODE cloudevent")


def test_the_trace_is_taken_from_the_envelope() -> None:
    assert wish_of("run", b'{"pipeline":"a"}', {"traceparent": "00-a"}).traceparent == "00-a"
    assert wish_of("run", b'{"pipeline":"a"}', {"ce-traceparent": "00-b"}).traceparent == "00-b"


def test_cancel_and_rerun_are_read() -> None:
    assert wish_of("cancel", b'{"run":"%s"}' % RUN.encode(), {}).request == CancelRequest(run=RUN)
    body = b'{"run":"%s","from":["a","b"]}' % RUN.encode()
    assert wish_of("rerun", body, {}).request == RerunRequest(run=RUN, from_=("a", "b"))


def test_equal_requests_meet_under_one_key_and_others_do_not() -> None:
    key = pairing_of("w.request.run", b"{}", {"ce-id": "1", "Nats-Msg-Id": "x"})
    assert key == pairing_of("w.request.run", b"{}", {"CE-ID": "1"})
    others = [
        pairing_of("w.request.rerun", b"{}", {"ce-id": "1"}),
        pairing_of("w.request.run", b"{ }", {"ce-id": "1"}),
        pairing_of("w.request.run", b"{}", {"ce-id": "2"}),
        pairing_of("w.request.run", b"{}", {}),
    ]
    assert len({key, *others}) == 5


def test_the_content_of_a_request_does_not_depend_on_its_layout() -> None:
    one = wish_of("run", b'{"pipeline":"a","parameters":{"x":1,"y":2}}', {})
    two = wish_of("run", b'{ "parameters": {"y": 2, "x": 1}, "pipeline": "a" }', {})
    other = wish_of("run", b'{"pipeline":"a","parameters":{"x":1,"y":3}}', {})
    assert content_of(one) == content_of(two) != content_of(other)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("digits", ("digits", "latest")),
        ("digits@3", ("digits", "3")),
        ("digits@latest", ("digits", "latest")),
    ],
)
def test_a_pipeline_is_named_with_or_without_its_version(
    text: str, result: tuple[str, str]
) -> None:
    assert pipeline_of(text) == result


@pytest.mark.parametrize(
    "text", ["", "a.b", "digits@", "digits@new", "digits@-1", "digits@\u0663", "*@1"]
)
def test_what_names_no_pipeline_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        pipeline_of(text)
    assert caught.value.code == "E_ID"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'{"pipeline": "digits@3"}', "digits"),
        (b'{"spec": {"name": "mine", "steps": 5}}', "mine"),
        (b'{"spec": {"name": "a.b"}}', "unknown"),
        (b'{"spec": {"steps": {}}}', "unnamed"),
        (b'{"pipeline": "*"}', "unknown"),
        (b"nonsense", "unknown"),
    ],
)
def test_a_refused_request_is_filed_under_its_pipeline(data: bytes, name: str) -> None:
    assert pipeline_token(data, {}) == name


SPECS: list[tuple[Any, str]] = [
    ({"steps": {"a": {"command": "x", "inputs": {"q": [1]}}}}, "E_TYPE steps.a.inputs.q: "),
    ({"steps": {"a": {"comand": "x"}}}, "E_UNKNOWN_FIELD steps.a: unknown field 'comand'"),
    ({"jobs": {"a": {"comand": "x"}}}, "E_UNKNOWN_FIELD steps.a: unknown field 'comand'"),
    ({"stps": {}}, "E_UNKNOWN_FIELD spec: unknown field 'stps'"),
    ({"steps": {"a": {"command": "x", "limits": {"retries": "a"}}}}, "E_TYPE steps.a.limits.retries: "),
    ({"steps": {"a": {"pipeline": {"steps": {"b": 5}}}}}, "E_TYPE steps.a.pipeline.steps.b: Expected `object`, got `int`"),
    ({"inputs": {"p": {"type": "float"}}, "steps": {}}, "E_TYPE inputs.p.type: Invalid enum value 'float'"),
    ({"tags": {"a": 1}}, "E_TYPE tags.a: Expected `str`, got `int`"),
    (5, "E_TYPE spec: Expected `object`, got `int`"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), SPECS)
@pytest.mark.parametrize("stored", [False, True])
def test_a_bad_spec_is_refused_with_its_place(body: Any, words: str, *, stored: bool) -> None:
    data = json.dumps(body).encode()
    if stored:
        data += b" " * 1_100_000  # beyond what the strict reader takes: the other reader's words
    with pytest.raises(Invalid) as caught:
        spec_of(data, stored=stored)
    assert f"{caught.value.code} {caught.value.where}: {caught.value.message}".startswith(words)


def test_a_deeply_nested_stored_spec_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        spec_of(b'{"inputs": ' + b"[" * 2_000_000, stored=True)
    assert caught.value.code in ("E_DECODE", "E_TYPE")


def test_a_spec_may_be_a_stored_tree() -> None:
    body = b'{"spec": "artifact:%s"}' % (b"a" * 64)
    request = wish_of("run", body, {}).request
    assert isinstance(request, RunRequest)
    assert artifact_in(request.spec) == "a" * 64
    request = wish_of("run", b'{"spec": "./file.yml"}', {}).request
    assert isinstance(request, RunRequest)
    with pytest.raises(Invalid, match="allowed: an object, or artifact:"):
        artifact_in(request.spec)
