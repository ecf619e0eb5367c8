"""One connection to a stack: opened when it is needed, closed by whoever opened it."""

import asyncio
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from penstock.bus import Bus
from penstock.bus.nats import connect
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable, PenstockError, Transient
from penstock.sdk.conversation import Conversation
from penstock.sdk.submissions import who
from penstock.sdk.target import START_HINT, Target, target_of

if TYPE_CHECKING:
    from penstock.trees.client import TreeClient

CONNECT_S = 5.0


class Connection:
    """A connection to one stack, and what moves files to and from its store."""

    def __init__(
        self,
        bus: str | None = None,
        dir: str | Path | None = None,  # noqa: A002 - as the option is called
        workspace: str | None = None,
        *,
        target: Target | None = None,
    ) -> None:
        self.target = target or target_of(
            folder=dir, bus=bus, workspace=workspace, environ=os.environ, start=Path.cwd()
        )
        self._talk: Conversation | None = None
        self._trees: TreeClient | None = None
        self._opening = asyncio.Lock()

    # -- the connection -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> Conversation:
        """Connect if not connected.

        Raises:
            BusUnavailable: E_CONNECT.
        """
        async with self._opening:
            if self._talk is None:
                bus = await self._connected()
                names = Subjects(self.target.workspace)
                self._talk = Conversation(bus, names)
        return self._talk

    async def close(self) -> None:
        """Leave the bus; the client may be opened again."""
        if self._talk is not None:
            bus, trees, self._talk, self._trees = self._talk.bus, self._trees, None, None
            if trees is not None:
                await trees.close()
            await bus.close()

    async def _connected(self) -> Bus:
        name = f"client-{who()}"
        try:
            return await asyncio.wait_for(connect(self.target.bus, name=name), CONNECT_S)
        except (Transient, TimeoutError) as error:
            from penstock.runtime.stack import without_password

            url = without_password(self.target.bus)
            why = error.message if isinstance(error, PenstockError) else "no answer"
            raise BusUnavailable(
                f"cannot reach {url}: {why}",
                code="E_CONNECT",
                where=self.target.sources.get("bus", ""),
                hint=f"is it running? try `penstock doctor`; or {START_HINT}",
            ) from error

    @property
    def trees(self) -> "TreeClient":
        """Moves files to and from the store; only while connected."""
        if self._trees is None:
            # Asking about runs needs none of this, and importing it takes longer than the answer.
            from penstock.trees.client import CLIENT_PATIENCE_S, TreeClient

            assert self._talk is not None, "not connected"  # noqa: S101
            talk = self._talk
            self._trees = TreeClient(talk.bus, talk.names, patience_s=CLIENT_PATIENCE_S)
        return self._trees
