"""A subscription that is made again on every new client."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from nats import errors as library
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Native

if TYPE_CHECKING:
    from penstock.bus.nats.connection import Connection

DRAIN_WAIT_S = 2.0
_PENDING_MAX = 1_000_000
_PENDING_BYTES_MAX = 512 * 1024 * 1024
"""Never reached: what comes is taken over at once."""


class Listener:
    """A subscription that outlives the client it was made on."""

    def __init__(
        self,
        connection: "Connection",
        subject: str,
        queue: str,
        receive: Callable[[Msg], Awaitable[None]],
    ) -> None:
        self.connection = connection
        self.subject = subject
        self.queue = queue
        self.receive = receive
        self.native: Native | None = None

    async def attach(self, client: Client) -> None:
        """Subscribe on `client`."""
        receive = self.receive

        async def callback(message: Msg) -> None:
            await receive(message)

        self.native = await client.subscribe(
            self.subject,
            queue=self.queue,
            cb=callback,
            pending_msgs_limit=_PENDING_MAX,
            pending_bytes_limit=_PENDING_BYTES_MAX,
        )

    async def detach(self) -> None:
        """Unsubscribe, if there still is somebody to tell."""
        native, self.native = self.native, None
        if native is not None:
            with contextlib.suppress(library.Error, OSError):
                await native.unsubscribe()

    async def close(self, *, drain: bool = True) -> None:
        """End it for good: what the server had sent is still received, nothing afterwards."""
        self.connection.listeners.discard(self)
        native = self.native
        if drain and native is not None and self.connection.connected.is_set():
            with contextlib.suppress(library.Error, OSError, asyncio.TimeoutError):
                await asyncio.wait_for(native.drain(), DRAIN_WAIT_S)  # type: ignore[no-untyped-call]
        await self.detach()
