"""Many messages of one stream stored as one (ADR-50): staged by the server, then all or none, one fsync.

The stream answers the last message only, which says how many there were. What was staged and never
finished (we died, the connection was lost) the server forgets by itself.
"""

import secrets
from collections.abc import Sequence

import msgspec

from penstock.bus import MESSAGE_ID, TOGETHER_MAX, Appended, Outgoing
from penstock.bus.nats.connection import Connection
from penstock.bus.nats.failures import STREAM_NOT_FOUND, no_stream, refusal, unknown
from penstock.bus.nats.publisher import EXPECT, EXPECT_SUBJECT, ApiError
from penstock.bus.nats.requests import answered, asked
from penstock.errors import BusUnavailable, Invalid, NotFound

BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"


class _Stored(msgspec.Struct):
    seq: int = 0
    count: int = 0
    error: ApiError | None = None


_stored = msgspec.json.Decoder(_Stored)


async def append_together(
    connection: Connection, messages: Sequence[Outgoing], timeout_s: float
) -> list[Appended]:
    """Store messages in order, all or none; errors as the port says."""
    if not messages:
        return []
    if len(messages) > TOGETHER_MAX:
        raise Invalid(
            f"{len(messages):,} messages; allowed at once: {TOGETHER_MAX:,}",
            code="E_LIMIT",
            where=messages[0].subject,
        )
    batch = secrets.token_hex(11)
    headers = [_headers(message, batch, number) for number, message in enumerate(messages, 1)]
    headers[-1][BATCH_COMMIT] = "1"
    for message, full in zip(messages, headers, strict=True):
        connection.check_size(message.subject, message.data, full)
    where, reconnects = messages[-1].subject, connection.reconnects
    if not connection.connected.is_set():
        raise BusUnavailable("not connected", where=where)
    for message, full in zip(messages[:-1], headers, strict=False):
        await connection.send(message.subject, message.data, full)
    if connection.reconnects != reconnects:  # the server that had the beginning is gone
        raise unknown(where, "the connection was lost in the middle")
    try:
        question = await asked(connection, where, messages[-1].data, headers[-1])
        answer = await answered(question, timeout_s)
    except NotFound as error:
        raise no_stream(where) from error
    return _appended(answer.data, len(messages), where)


def _headers(message: Outgoing, batch: str, number: int) -> dict[str, str]:
    full = dict(message.headers) if message.headers else {}
    if message.message_id:
        full[MESSAGE_ID] = message.message_id
    if message.expect is not None:
        full[EXPECT] = str(message.expect.sequence)
        if message.expect.subject:
            full[EXPECT_SUBJECT] = message.expect.subject
    full[BATCH_ID] = batch
    full[BATCH_SEQUENCE] = str(number)
    return full


def _appended(data: bytes, count: int, where: str) -> list[Appended]:
    try:
        stored = _stored.decode(data)
    except msgspec.MsgspecError as error:
        raise unknown(where, "the answer is no stream's") from error
    if stored.error is not None:
        if stored.error.err_code == STREAM_NOT_FOUND:
            raise no_stream(where)
        raise refusal(stored.error.err_code, stored.error.description, where)
    if stored.count != count:
        raise unknown(where, f"{stored.count} of {count} messages are said to be stored")
    return [Appended(stored.seq - count + number) for number in range(1, count + 1)]
