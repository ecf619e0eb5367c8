"""Trees whose bytes somebody has reason to doubt: read through before anybody uses them again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from structlog.typing import FilteringBoundLogger

from penstock.contracts.artifacts import ObjectRef, Place, tree_key
from penstock.errors import Corrupt, Transient
from penstock_artifact import decide
from penstock_artifact.effects import Discard
from penstock_artifact.state import Tree
from penstock_artifact.store import Store

ANSWER_S = 4.0
"""A commit or a look that still reads by then says so; the caller asks again and joins it."""


class Doubts:
    """The doubtful trees. What is wrong in one is deleted: it counts as missing from then on."""

    def __init__(
        self,
        store: Store,
        log: FilteringBoundLogger,
        committed: Callable[[str], Awaitable[Tree | None]],
        looked_at: Callable[[ObjectRef, list[tuple[str, Place]]], Awaitable[decide.Finding]],
    ) -> None:
        self.store = store
        self.log = log
        self._committed = committed
        self._looked_at = looked_at
        self._trees: dict[str, asyncio.Task[None] | None] = {}

    def __bool__(self) -> bool:
        """Say whether any tree is doubtful."""
        return bool(self._trees)

    def tasks(self) -> "Iterator[asyncio.Task[None]]":
        """Iterate over the looks that were begun."""
        return (task for task in self._trees.values() if task is not None)

    def add(self, digest: str) -> None:
        """Have a tree read through before anybody uses it again."""
        self._trees.setdefault(digest, None)

    async def take(self, digest: str, keys: tuple[str, ...]) -> None:
        """Take a reader's word that objects of a tree are wrong as a reason to read them."""
        tree = await self._committed(digest)
        for ref in tree.objects if tree is not None else ():
            if ref.key in keys:
                self.store.forget(ref.key)
                self.add(digest)

    async def settled(self, digest: str) -> None:
        """Wait until a tree is not doubtful.

        Raises:
            Transient: E_VERIFYING, it is still being read; or what keeps it from being read.
        """
        task = self._looking(digest)
        if task is None:
            return
        done, _ = await asyncio.wait({task}, timeout=ANSWER_S)
        if not done or task.cancelled():
            raise Transient("the tree is being looked at", code="E_VERIFYING", where=digest)
        task.result()

    async def settle_all(self) -> None:
        """Read all doubtful trees through, one after the other, also those that nobody asks for."""
        for digest in list(self._trees):
            task = self._looking(digest)
            if task is not None:
                await asyncio.wait({task})
                failure = None if task.cancelled() else task.exception()
                if failure is not None:  # a store that is away; whoever asks, or the next round
                    self.log.warning("could not be looked at", tree=digest, error=str(failure))

    def _looking(self, digest: str) -> "asyncio.Task[None] | None":
        if digest not in self._trees:
            return None
        task = self._trees[digest]
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._trees[digest] = asyncio.ensure_future(self._look(digest))
        return task

    async def _look(self, digest: str) -> None:
        tree: Tree | None = None
        wrong: list[Discard] = []
        missing = 0
        try:
            tree = await self._committed(digest)
        except Corrupt as error:
            wrong.append(Discard(key=tree_key(digest), why=error.message))
        if tree is not None:
            contents = decide.members(tree)
            gone = {ref.key for ref in await self.store.missing(tree.objects)}
            findings = await asyncio.gather(
                *(
                    self._looked_at(ref, contents[ref.key])
                    for ref in decide.to_verify(tree, self.store.known)
                    if ref.key not in gone
                )
            )
            missing = len(gone) + sum(finding.size is None for finding in findings)
            wrong = decide.damage(findings)
        for order in wrong:
            await self.store.discard(order)
        if wrong or missing:
            self.log.error(
                "a committed tree is damaged", tree=digest, wrong=len(wrong), missing=missing
            )
        self._trees.pop(digest, None)
