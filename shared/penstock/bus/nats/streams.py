"""Streams and consumers as JSON of the JetStream API, and reading single messages.

The API is strict: an unknown field is an error, so this is written out and not left to nats-py,
which lacks the newest fields (ADR-42, ADR-51, ADR-56).
"""

import asyncio
import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg

from penstock.bus import ConsumerSpec, Headers, Standing, Stored, StreamSpec
from penstock.bus.nats.connection import Connection
from penstock.bus.nats.failures import (
    CONSUMER_NOT_FOUND,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    no_stream,
    refusal,
)
from penstock.bus.nats.publisher import STATUS
from penstock.bus.nats.requests import (
    API_WAIT_S,
    ATTEMPT_WAIT_S,
    Refusal,
    answered,
    api,
    api_or_refused,
    asked,
)
from penstock.errors import BusUnavailable, Invalid, NotFound

NANOSECONDS = 1_000_000_000
PRIORITY_GROUP = "s"
QUESTIONS_MAX = 1024
_NO_MESSAGE = 10037
_INFORMATIVE = frozenset({"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"})


# -- streams ------------------------------------------------------------------------------------
def stream_config(spec: StreamSpec) -> dict[str, Any]:
    """Return the server's words for a stream."""
    config: dict[str, Any] = {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "retention": spec.retention,
        "storage": "file",
        "num_replicas": 1,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": spec.max_bytes,
        "max_age": int(spec.max_age_s * NANOSECONDS),
        "max_msgs_per_subject": spec.max_msgs_per_subject or -1,
        "max_msg_size": spec.max_msg_size or -1,
        "discard": spec.discard,
        "discard_new_per_subject": spec.discard_new_per_subject,
        "duplicate_window": int(_window_s(spec) * NANOSECONDS),
        "no_ack": spec.no_ack,
        "allow_direct": spec.allow_direct,
        "compression": "s2" if spec.compression else "none",
        "description": spec.description,
    }
    if spec.allow_ttl:
        config["allow_msg_ttl"] = True
    if spec.allow_together:
        config["allow_atomic"] = True
    if spec.allow_schedules:
        config["allow_msg_schedules"] = True
        config["allow_rollup_hdrs"] = True
    if spec.persist_async:
        config["persist_mode"] = "async"
    if spec.name.startswith("KV_"):  # what `nats kv` expects of a bucket
        config["allow_rollup_hdrs"] = True
        config["deny_delete"] = True
    return config


async def ensure_stream(connection: Connection, spec: StreamSpec) -> None:
    """Create the stream, or widen an existing one."""
    wanted = stream_config(spec)
    try:
        await api(connection, f"STREAM.CREATE.{spec.name}", wanted)
        return
    except Refusal as error:
        if error.error.err_code != STREAM_NAME_IN_USE:
            raise refusal(error.error.err_code, error.error.description, spec.name) from error
    info = await api_or_refused(connection, f"STREAM.INFO.{spec.name}", None, spec.name)
    present: dict[str, Any] = info["config"]
    merged = widened(present, wanted)
    if merged != present:
        await api_or_refused(connection, f"STREAM.UPDATE.{spec.name}", merged, spec.name)


def widened(present: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that grants what both grant; nothing stored may fall out of it.

    Raises:
        Invalid: E_STREAM, the streams differ in what cannot be changed.
    """
    if present.get("retention", "limits") != wanted["retention"]:
        raise Invalid(
            f"retention is {present.get('retention')!r}, wanted {wanted['retention']!r}",
            code="E_STREAM",
            where=str(wanted["name"]),
            hint="use another workspace, or delete the stream",
        )
    merged = dict(present)
    for key, value in wanted.items():
        if key == "subjects":
            kept = [subject for subject in present.get(key, []) if subject not in value]
            merged[key] = [*value, *kept]
            if set(merged[key]) == set(present.get(key, [])):
                merged[key] = present[key]
        elif key in ("max_bytes", "max_age", "max_msgs_per_subject", "max_msg_size", "max_msgs"):
            merged[key] = _wider(int(present.get(key, 0)), int(value))
        elif key == "duplicate_window":
            merged[key] = max(int(present.get(key, 0)), int(value))
        elif key in ("storage", "num_replicas", "max_consumers", "persist_mode", "deny_delete"):
            merged.setdefault(key, value)
        elif isinstance(value, bool):
            if bool(present.get(key, False)) != value:
                merged[key] = value
        elif present.get(key, "") != value:
            merged[key] = value
    if merged.get("persist_mode") == "async" and "persist_mode" not in present:
        del merged["persist_mode"]  # cannot be changed; slower, and safe
    for key in ("allow_msg_schedules", "allow_msg_ttl"):
        if present.get(key):
            merged[key] = True  # the server never takes these back
    return merged


def _wider(present: int, wanted: int) -> int:
    return present if present <= 0 else (wanted if wanted <= 0 else max(present, wanted))


def _window_s(spec: StreamSpec) -> float:
    """Return the dedupe window; the server wants it no longer than max_age, and above 100 ms."""
    window_s = min(spec.duplicate_window_s, spec.max_age_s or spec.duplicate_window_s)
    return max(window_s, 0.1)


async def stream_state(connection: Connection, stream: str) -> dict[str, Any]:
    """Return the server's `state` of a stream."""
    info = await api_or_refused(connection, f"STREAM.INFO.{stream}", None, stream)
    state: dict[str, Any] = info["state"]
    return state


async def purge(connection: Connection, stream: str, subject: str, up_to: int) -> int:
    """Delete messages on `subject`; return how many."""
    body: dict[str, Any] = {"filter": subject}
    if up_to:
        body["seq"] = up_to
    answer = await api_or_refused(connection, f"STREAM.PURGE.{stream}", body, stream)
    purged: int = answer.get("purged", 0)
    return purged


# -- consumers ----------------------------------------------------------------------------------
def consumer_config(spec: ConsumerSpec) -> dict[str, Any]:
    """Return the server's words for a durable consumer."""
    config: dict[str, Any] = {
        "name": spec.name,
        "durable_name": spec.name,
        "ack_policy": "explicit",
        "ack_wait": int(spec.ack_wait_s * NANOSECONDS),
        "deliver_policy": spec.start,
        "replay_policy": "instant",
        "max_deliver": spec.max_deliver,
        "max_ack_pending": spec.max_ack_pending,
        "max_waiting": 2048,
        **filters(spec.filter_subjects),
    }
    if spec.inactive_s:
        config["inactive_threshold"] = int(spec.inactive_s * NANOSECONDS)
    if spec.pinned:
        config["priority_groups"] = [PRIORITY_GROUP]
        config["priority_policy"] = "pinned_client"
        config["priority_timeout"] = int(spec.pinned_ttl_s * NANOSECONDS)
    return config


def filters(subjects: Sequence[str]) -> dict[str, Any]:
    """Return the field that holds a consumer's filter."""
    if not subjects:
        return {}
    if len(subjects) == 1:
        return {"filter_subject": subjects[0]}
    return {"filter_subjects": list(subjects)}


async def ensure_consumer(connection: Connection, spec: ConsumerSpec) -> None:
    """Create or update a durable consumer."""
    body = {"stream_name": spec.stream, "config": consumer_config(spec)}
    verb = f"CONSUMER.CREATE.{spec.stream}.{spec.name}"
    await api_or_refused(connection, verb, body, f"{spec.stream}/{spec.name}")


async def standing(connection: Connection, stream: str, consumer: str) -> Standing:
    """Return where a durable consumer stands, all 0 if there is none."""
    try:
        told = await api(connection, f"CONSUMER.INFO.{stream}.{consumer}")
    except Refusal as error:
        if error.error.err_code == CONSUMER_NOT_FOUND:
            return Standing()
        where = f"{stream}/{consumer}"
        raise refusal(error.error.err_code, error.error.description, where) from error
    return Standing(
        floor=int(told.get("ack_floor", {}).get("stream_seq", 0)),
        pending=int(told.get("num_pending", 0)),
        on_loan=int(told.get("num_ack_pending", 0)),
    )


# -- single messages ----------------------------------------------------------------------------
async def last(connection: Connection, stream: str, subject: str) -> Stored | None:
    """Return the last message on `subject`, or None."""
    found = await last_many(connection, stream, [subject])
    return found[0]


async def last_many(
    connection: Connection, stream: str, subjects: Sequence[str]
) -> list[Stored | None]:
    """Return the last messages on many subjects; reading may be repeated, so it is, in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + API_WAIT_S
    while True:
        try:
            await connection.found(max(deadline - loop.time(), 0.01))
            return await _last_many(connection, stream, subjects)
        except BusUnavailable as error:
            if error.code == "E_NO_STREAM" or loop.time() >= deadline:
                raise
            await asyncio.sleep(0.05)


async def _last_many(
    connection: Connection, stream: str, subjects: Sequence[str]
) -> list[Stored | None]:
    found: list[Stored | None] = []
    for begin in range(0, len(subjects), QUESTIONS_MAX):
        part = subjects[begin : begin + QUESTIONS_MAX]
        questions = [await asked(connection, *_direct(stream, subject)) for subject in part]
        for question, subject in zip(questions, part, strict=True):
            try:
                found.append(_direct_answer(await answered(question, ATTEMPT_WAIT_S)))
            except NotFound:  # no direct get on this stream, or no such stream
                found.append(await _last_slowly(connection, stream, subject))
    return found


def _direct(stream: str, subject: str) -> tuple[str, bytes]:
    if "*" in subject or ">" in subject:
        escaped = subject.replace("\\", "\\\\").replace('"', '\\"')
        return f"$JS.API.DIRECT.GET.{stream}", f'{{"last_by_subj":"{escaped}"}}'.encode()
    return f"$JS.API.DIRECT.GET.{stream}.{subject}", b""


def _direct_answer(message: Msg) -> Stored | None:
    headers = message.headers or {}
    if "Nats-Sequence" not in headers:
        if headers.get(STATUS) in ("404", None):
            return None
        raise Invalid(headers.get("Description", "not a request"), where=message.subject)
    return Stored(
        subject=headers["Nats-Subject"],
        data=message.data,
        sequence=int(headers["Nats-Sequence"]),
        at=moment(headers["Nats-Time-Stamp"]),
        headers={k: v for k, v in headers.items() if k not in _INFORMATIVE},
    )


async def _last_slowly(connection: Connection, stream: str, subject: str) -> Stored | None:
    return await _got(connection, stream, {"last_by_subj": subject})


async def stored_at(connection: Connection, stream: str, sequence: int) -> Stored | None:
    """Return the message with this sequence, or None."""
    return await _got(connection, stream, {"seq": sequence})


async def _got(connection: Connection, stream: str, which: dict[str, Any]) -> Stored | None:
    try:
        answer = await api(connection, f"STREAM.MSG.GET.{stream}", which)
    except Refusal as error:
        if error.error.err_code == _NO_MESSAGE:
            return None
        if error.error.err_code == STREAM_NOT_FOUND:
            raise no_stream(stream) from error
        raise refusal(error.error.err_code, error.error.description, stream) from error
    message = answer["message"]
    return Stored(
        subject=message["subject"],
        data=base64.b64decode(message.get("data", "")),
        sequence=message["seq"],
        at=moment(message["time"]),
        headers=_decoded_headers(base64.b64decode(message.get("hdrs", ""))),
    )


def _decoded_headers(block: bytes) -> Headers:
    lines = block.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def moment(text: str) -> float:
    """Return RFC 3339 with up to nanoseconds as seconds since 1970."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    at = datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return at + (float(f"0.{rest}") if rest else 0.0)


def rfc3339(at: float) -> str:
    """Return seconds since 1970 as RFC 3339 with nanoseconds, as schedules want it."""
    whole = int(at // 1)
    nanoseconds = min(int((at - whole) * NANOSECONDS), NANOSECONDS - 1)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanoseconds:09d}Z"
