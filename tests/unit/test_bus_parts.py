"""The small pure parts of the bus: subjects, times, permissions, what the server says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.bus.memory.stream import matches, overlaps
from penstock.bus.nats.consuming import Place
from penstock.bus.nats.failures import denied, refusal
from penstock.bus.nats.streams import moment, rfc3339, widened
from penstock.errors import BusUnavailable, Conflict, Invalid

TOKENS = st.sampled_from(["a", "b", "*", ">"])
NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)


def patterns() -> st.SearchStrategy[str]:
    """Return subjects with wildcards, '>' only at the end."""
    heads = st.lists(st.sampled_from(["a", "b", "*"]), min_size=0, max_size=3)
    return st.tuples(heads, TOKENS).map(lambda parts: ".".join((*parts[0], parts[1])))


def expression(pattern: str) -> str:
    """Return the same pattern as a regular expression, the slow and certain way."""
    parts = {"*": r"[^.]+", ">": r".+"}
    return r"\.".join(parts.get(part, re.escape(part)) for part in pattern.split("."))


@given(patterns(), NAMES)
def test_a_pattern_covers_what_its_expression_matches(pattern: str, subject: str) -> None:
    assert matches(pattern, subject) == bool(re.fullmatch(expression(pattern), subject))


@given(patterns(), patterns(), NAMES)
def test_patterns_that_cover_one_subject_overlap(one: str, other: str, subject: str) -> None:
    if matches(one, subject) and matches(other, subject):
        assert overlaps(one, other)
    assert overlaps(one, other) == overlaps(other, one)


@given(st.floats(min_value=0, max_value=4e9))
def test_a_moment_survives_its_text(at: float) -> None:
    text = rfc3339(at)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", text)
    assert abs(moment(text) - at) < 1e-6


def test_moments_of_the_server_are_read() -> None:
    assert moment("2026-11-21T00:00:00Z") == 1795219200
    assert moment("2026-11-21T00:00:00.25Z") == 1795219200.25


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.w-inbox.partition-3.2.77.9.1795231067866010400.5",
        "$JS.ACK._.ACCOUNT.w-inbox.partition-3.2.77.9.1795231067866010400.5",
        "$JS.ACK.hub.ACCOUNT.w-inbox.partition-3.2.77.9.1795231067866010400.5.token",
    ],
)
def test_both_forms_of_an_ack_subject_are_read(reply: str) -> None:
    place = Place(reply)
    assert (place.deliveries, place.sequence, place.consumer_sequence, place.pending) == (
        2,
        77,
        9,
        5,
    )
    assert abs(place.at - 1795231067.8660104) < 1e-5


def test_denials_name_their_subject() -> None:
    assert denied('nats: permissions violation for publish to "$js.api.stream.info.x"') == (
        "publish",
        "$js.api.stream.info.x",
    )
    assert denied('nats: Permissions Violation for Subscription to "a.>" using queue "q"') == (
        "subscription",
        "a.>",
    )
    assert denied("nats: slow consumer") is None


def test_refusals_become_errors_by_what_to_do_next() -> None:
    cases = [
        (10071, "wrong last sequence: 3", Conflict, "E_CONFLICT"),
        (10164, "wrong last sequence", Conflict, "E_CONFLICT"),
        (10077, "maximum messages per subject exceeded", Conflict, "E_QUEUED"),
        (10077, "maximum bytes exceeded", BusUnavailable, "E_FULL"),
        (10047, "insufficient storage resources available", BusUnavailable, "E_FULL"),
        (10023, "insufficient resources", BusUnavailable, "E_FULL"),
        (10012, "write meta.inf.tmp: no space left on device", BusUnavailable, "E_FULL"),
        (10059, "stream not found", BusUnavailable, "E_NO_STREAM"),
        (10054, "message size exceeds maximum allowed", Invalid, "E_TOO_LARGE"),
        (10008, "JetStream system temporarily unavailable", BusUnavailable, "E_BUS"),
        (10052, "invalid configuration", Invalid, "E_INVALID"),
    ]
    for err_code, text, kind, code in cases:
        error = refusal(err_code, text, "here")
        assert (type(error), error.code, error.where) == (kind, code, "here")


LIMITS = st.sampled_from([-1, 0, 1, 5, 1000])


@given(LIMITS, LIMITS)
def test_widening_never_takes_anything_away(present: int, wanted: int) -> None:
    old = {"name": "s", "subjects": ["a"], "retention": "limits", "max_bytes": present}
    new = {"name": "s", "subjects": ["b"], "retention": "limits", "max_bytes": wanted}
    merged = widened(old, new)
    assert set(merged["subjects"]) == {"a", "b"}
    assert merged["max_bytes"] <= 0 or merged["max_bytes"] >= max(present, wanted) > 0
    assert widened(merged, new) == merged
    assert widened(merged, old) == merged


def test_a_known_field_that_nobody_asked_about_is_kept() -> None:
    old = {"name": "s", "subjects": ["a"], "retention": "limits", "sealed": True}
    assert widened(old, {"name": "s", "subjects": ["a"], "retention": "limits"}) == old
