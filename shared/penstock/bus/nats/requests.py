"""Requests and answers over the connection's mailbox, for core NATS and for the JetStream API."""

import asyncio
from asyncio import Future
from typing import Any, TypeVar

import msgspec
from nats.aio.msg import Msg

from penstock.bus import Headers
from penstock.bus.nats.connection import Connection
from penstock.bus.nats.failures import refusal, unknown
from penstock.bus.nats.publisher import NO_RESPONDERS, STATUS, ApiError
from penstock.errors import BusUnavailable, NotFound, PenstockError, Transient

API_WAIT_S = 5.0
ATTEMPT_WAIT_S = 2.5

T = TypeVar("T")


class Question:
    """A request that waits for its answer."""

    __slots__ = ("connection", "future", "subject", "token")

    def __init__(self, connection: Connection, subject: str) -> None:
        self.connection = connection
        self.subject = subject
        self.token = connection.token()
        self.future: Future[Msg] = asyncio.get_running_loop().create_future()

    def answer(self, message: Msg) -> None:
        """Take the answer."""
        self.leave()
        if not self.future.done():
            self.future.set_result(message)

    def fail(self, error: PenstockError) -> None:
        """Learn that none will come."""
        self.leave()
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()

    def lost(self) -> None:
        """Learn that the connection was lost."""
        self.fail(unknown(self.subject, "the connection was lost before the answer"))

    def leave(self) -> None:
        """Close the place in the mailbox."""
        self.connection.mailbox.pop(self.token, None)


async def asked(
    connection: Connection, subject: str, data: bytes, headers: Headers | None = None
) -> Question:
    """Send a request and return it, waiting.

    Raises:
        BusUnavailable: E_BUS, not connected.
        NotAllowed, Invalid: as Connection.send.
    """
    if not connection.connected.is_set():
        raise BusUnavailable("not connected", where=subject)
    connection.check_size(subject, data, headers)
    question = Question(connection, subject)
    connection.mailbox[question.token] = question
    try:
        await connection.send(subject, data, headers, connection.reply_to(question.token))
    except PenstockError:
        question.leave()
        raise
    return question


async def answered(question: Question, timeout_s: float) -> Msg:
    """Return the answer.

    Raises:
        NotFound: E_NO_RESPONDER.
        BusUnavailable: E_TIMEOUT, or E_BUS when the connection was lost.
        NotAllowed: the subject is denied to us.
    """
    try:
        message = await asyncio.wait_for(question.future, timeout_s)
    except TimeoutError as error:
        raise BusUnavailable(
            f"no answer within {timeout_s:g} s", code="E_TIMEOUT", where=question.subject
        ) from error
    finally:
        question.leave()
    if not message.data and message.headers and message.headers.get(STATUS) == NO_RESPONDERS:
        raise NotFound(
            "nobody listens", code="E_NO_RESPONDER", where=question.subject, hint="is it running?"
        )
    return message


async def request(
    connection: Connection,
    subject: str,
    data: bytes,
    headers: Headers | None = None,
    timeout_s: float = 5,
) -> Msg:
    """Send a request and return its answer. Errors as `answered`."""
    return await answered(await asked(connection, subject, data, headers), timeout_s)


class Refusal(Exception):
    """The JetStream API refused, with its own code."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.description)
        self.error = error


class _Head(msgspec.Struct):
    error: ApiError | None = None


async def api(
    connection: Connection, verb: str, body: object = None, *, timeout_s: float = API_WAIT_S
) -> dict[str, Any]:
    """Return the answer of the JetStream API; raises Refusal or BusUnavailable or NotAllowed.

    Everything asked here may be asked twice, so no answer means asking again until time is up.
    """
    subject = f"$JS.API.{verb}"
    data = b"" if body is None else msgspec.json.encode(body)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    pause_s = 0.02
    while True:
        try:
            left_s = deadline - loop.time()
            await connection.found(max(left_s, 0.01))
            message = await request(
                connection, subject, data, timeout_s=max(min(left_s, ATTEMPT_WAIT_S), 0.01)
            )
            break
        except NotFound as error:
            failure: PenstockError = BusUnavailable(
                "JetStream does not answer", where=subject, hint="start nats-server with JetStream"
            )
            failure.__cause__ = error
        except Transient as error:
            failure = error
        if loop.time() + pause_s >= deadline:
            if failure.code == "E_TIMEOUT":  # it speaks of the last try, which may have been short
                text = f"no answer within {timeout_s:g} s"
                raise BusUnavailable(text, code="E_TIMEOUT", where=subject) from failure
            raise failure
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.5)
    try:
        head = msgspec.json.decode(message.data, type=_Head)
        answer: dict[str, Any] = msgspec.json.decode(message.data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise BusUnavailable("the answer is not JetStream's", where=subject) from error
    if head.error is not None:
        raise Refusal(head.error)
    return answer


async def api_or_refused(
    connection: Connection, verb: str, body: object, where: str, *, timeout_s: float = API_WAIT_S
) -> dict[str, Any]:
    """Return what `api` does, with a refusal as one of our errors."""
    try:
        return await api(connection, verb, body, timeout_s=timeout_s)
    except Refusal as error:
        raise refusal(error.error.err_code, error.error.description, where) from error
