"""A run's events are numbered and linked: whatever is left out, added, moved or changed shows."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.chain import START, Check, Told, checked, link


def story(count: int) -> list[Told]:
    told, previous = [], START
    for seq in range(1, count + 1):
        body = b'{"seq":%d,"what":"started"}' % seq
        previous = link(previous, body)
        told.append(Told(100 + seq, seq, previous, body))
    return told


def test_a_link_is_what_ten_lines_in_any_language_compute() -> None:
    first = hashlib.sha256(b"one").hexdigest()
    assert link(START, b"one") == first
    assert link(first, b"two") == hashlib.sha256(first.encode() + b"two").hexdigest()


def test_what_was_told_is_whole() -> None:
    told = story(5)
    assert checked(told) == Check("whole", 5, told[-1].link)


def test_a_story_whose_beginning_has_expired_is_whole_from_there() -> None:
    told = story(5)
    assert checked(told[2:]) == Check("shortened", 3, told[-1].link)


def test_no_events_are_no_events() -> None:
    assert checked([]) == Check("whole", 0)


@given(st.integers(2, 9), st.data())
def test_a_changed_body_shows_at_the_event_itself(count: int, data: st.DataObject) -> None:
    told = story(count)
    place = data.draw(st.integers(0, count - 1))
    body = bytearray(told[place].body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    told[place] = msgspec.structs.replace(told[place], body=bytes(body))
    found = checked(told)
    assert (found.verdict, found.sequence) == ("broken", told[place].sequence)


@given(st.integers(2, 9), st.data())
def test_an_event_that_is_left_out_shows_unless_it_was_the_first_or_the_last(
    count: int, data: st.DataObject
) -> None:
    told = story(count)
    place = data.draw(st.integers(1, max(1, count - 2)))
    del told[place]
    verdict = "broken" if place < count - 1 else "whole"
    assert checked(told).verdict == verdict


@given(st.integers(2, 9), st.data())
def test_a_moved_or_repeated_event_shows(count: int, data: st.DataObject) -> None:
    told = story(count)
    place = data.draw(st.integers(0, count - 2))
    told.insert(place, told[data.draw(st.integers(place, count - 1))])
    assert checked(told).verdict == "broken"


@pytest.mark.parametrize("header", ["", "0" * 64])
def test_an_event_that_somebody_else_put_there_shows(header: str) -> None:
    told = story(3)
    told.append(Told(200, 4, header, b'{"seq":4,"what":"succeeded"}'))
    found = checked(told)
    assert (found.verdict, found.sequence) == ("broken", 200)
    assert found.reason == ("event 4 is not what was linked" if header else "it carries no link")
