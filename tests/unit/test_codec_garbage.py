"""Bytes of strangers: whatever they are, they are refused as what they are."""

import pytest

from penstock.contracts import codec
from penstock.contracts.requests import RunRequest
from penstock.contracts.work import StopAttempt
from penstock.errors import Corrupt, Invalid

DEEP = [b"[" * 5_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000]


@pytest.mark.parametrize("data", DEEP)
def test_what_nests_deeper_than_the_stack_is_corrupt_and_not_a_bug(data: bytes) -> None:
    with pytest.raises(Corrupt):
        codec.inbound(data)
    with pytest.raises(Corrupt):
        codec.decoded(data, StopAttempt)


@pytest.mark.parametrize("half", [rb"\ud800", rb"\uDBFF", rb"\ud83dx"])
def test_half_a_character_is_refused_before_anything_else_is_said(half: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        codec.read(b'{"no_such_field":"' + half + b'"}', RunRequest, "request")
    assert caught.value.code == "E_DECODE"


def test_a_character_of_two_halves_is_read() -> None:
    request = codec.read(rb'{"name":"\ud83d\ude00 \\ud800"}', RunRequest, "request")
    assert request.name == "\N{GRINNING FACE} \\ud800"
