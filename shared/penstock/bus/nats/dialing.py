"""Getting a client of nats-py that is connected, and getting rid of one, whatever state it is in."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import SplitResult, urlsplit

from nats import errors as library
from nats.aio.client import Client

from penstock.errors import BusUnavailable, Invalid, NotAllowed
from penstock.units import KIB

PORT = 4222
CONNECT_WAIT_S = 3.0
RECONNECT_WAIT_S = 0.05
DISCARD_WAIT_S = 2.0
READ_BYTES = 32 * KIB
"""What one read takes from the socket. asyncio's own 256 KiB are mapped into memory and unmapped again
for each message: a fifteenth of what a scheduler did."""
NEVER_S = 3600

OnError = Callable[[Exception], Awaitable[None]]
OnLost = Callable[[Client], Callable[[], Awaitable[None]]]


async def dialed(
    urls: Sequence[SplitResult],
    *,
    name: str,
    user: str,
    password: str,
    on_error: OnError,
    on_lost: OnLost,
) -> tuple[Client, str]:
    """Return a client connected to one of the servers, tried in random order, and its address.

    Raises:
        NotAllowed: a server refuses the credentials, and no other takes them.
        BusUnavailable: no server answers.
    """
    failures: list[Exception] = []

    async def note(error: Exception) -> None:
        failures.append(error)
        await on_error(error)

    for url in random.sample(urls, len(urls)):
        client = Client()
        address = f"{url.scheme}://{url.hostname}:{url.port or PORT}"
        lost = on_lost(client)
        try:
            await asyncio.wait_for(
                client.connect(
                    address,
                    name=name,
                    user=user or None,
                    password=password or None,
                    connect_timeout=int(CONNECT_WAIT_S),
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]
                    max_reconnect_attempts=1,  # 0 would mean: never give up
                    ping_interval=NEVER_S,  # the connection's own heartbeat notices more
                    error_cb=note,
                    disconnected_cb=lost,
                    closed_cb=lost,
                ),
                CONNECT_WAIT_S,
            )
        except (TimeoutError, library.Error, OSError) as error:
            failures.append(error)
            await discard(client)
        except asyncio.CancelledError:
            await discard(client)
            raise
        else:
            _read_less(client)
            return client, address
    where = ",".join(f"{url.hostname}:{url.port or PORT}" for url in urls)
    refused = [error for error in failures if "authorization" in str(error).lower()]
    if refused:
        raise NotAllowed(f"the server refuses user {user!r}", where=where, hint="check the bus URL")
    reasons = [str(error) for error in failures if not isinstance(error, library.NoServersError)]
    raise BusUnavailable(
        f"no NATS server answers: {reasons[-1] if reasons else 'no answer'}", where=where
    )


def _read_less(client: Client) -> None:
    """Have the socket read in pieces of READ_BYTES, where asyncio lets itself be told."""
    writer = getattr(client._transport, "_io_writer", None)  # noqa: SLF001 - neither tells it otherwise
    if isinstance(writer, asyncio.StreamWriter) and hasattr(writer.transport, "max_size"):
        writer.transport.max_size = READ_BYTES


async def discard(client: Client) -> None:
    """End a client."""
    with contextlib.suppress(Exception):  # what a dying client says helps nobody
        await asyncio.wait_for(client.close(), DISCARD_WAIT_S)
    transport = client._transport  # noqa: SLF001 - nats-py forgets it when closing fails midway
    if transport is not None:
        with contextlib.suppress(Exception):
            transport.close()  # type: ignore[no-untyped-call]
            closed = transport.wait_closed()  # type: ignore[no-untyped-call]
            await asyncio.wait_for(closed, DISCARD_WAIT_S)


def parsed(url: str) -> SplitResult:
    """Return the parts of a server's URL. Raises Invalid, E_CONFIG."""
    text = url.strip()
    parts = urlsplit(text if "://" in text else f"nats://{text}")
    try:
        valid = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise Invalid(
            f"{parts.hostname or text!r} is no address of a server",
            code="E_CONFIG",
            where="bus",
            hint="nats://host:4222",
        )
    return parts
