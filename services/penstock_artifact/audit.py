"""Looking again at what was committed last before somebody pulled the plug.

A copy that serves keeps a mark in the bucket, renewed every MARK_S; a clean stop removes it. A mark that
nobody renews, or of a process that is gone, says that a copy, or its machine, ended uncleanly: the trees that were
committed last are *doubtful* then. A doubtful tree is read through, whole, before anybody may use it;
what is wrong in it is deleted, so that it counts as missing: reuse passes it by, and whoever runs
the step again stores it anew. The same happens to a tree whose reader says that its bytes are wrong.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus, Stored
from penstock.bus.buckets import Bucket, is_deleted
from penstock.clock import Clock
from penstock.contracts.artifacts import ArtifactRecord
from penstock.contracts.subjects import Subjects
from penstock.errors import NotFound, PenstockError, Transient
from penstock_artifact import decide
from penstock_artifact.state import Mark

MARK_S = 30.0
MACHINE = Path("/etc/machine-id")
BOOT = Path("/proc/sys/kernel/random/boot_id")
SPACE = "/proc/self/ns/pid"


def this_process(instance: str, at: float) -> Mark:
    """Return what tells this process from all others: of this boot, of this machine, and elsewhere."""
    told = []
    for path in (MACHINE, BOOT):
        try:
            told.append(path.read_text(encoding="ascii").strip())
        except (OSError, UnicodeDecodeError):
            told.append("")
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink(SPACE)  # noqa: PTH115 - not a path but a name
    machine, boot = told
    return Mark(instance=instance, at=at, machine=machine, boot=boot, space=space, pid=os.getpid())


def is_running(pid: int) -> bool:
    """Say whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Audit:
    """The marks, and the trees to be looked at. `doubt` is told a tree's digest."""

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        log: FilteringBoundLogger,
        clock: Clock,
        *,
        instance: str,
        recent_s: float,
        trees_max: int,
        doubt: Callable[[str], None],
    ) -> None:
        self.bus = bus
        self.log = log
        self.clock = clock
        self.recent_s = recent_s
        self.trees_max = trees_max
        self.doubt = doubt
        self.instance = instance
        self._bucket = names.bucket("artifacts")
        self._marks = Bucket(bus, self._bucket, Mark)
        self._key = f"serving.{instance}"

    async def begin(self) -> int:
        """Doubt what unclean ends left behind, then leave our own mark; return how many trees.

        To be awaited before anything is served.
        """
        count = await self.look(starting=True)
        await self._renew()
        return count

    async def keep(self, settle: Callable[[], Awaitable[None]]) -> None:
        """Have what is doubtful settled, renew our mark and look at the others', until cancelled."""
        while True:
            await settle()
            await asyncio.sleep(MARK_S)
            with contextlib.suppress(Transient):
                await self._renew()
                await self.look()

    async def end(self) -> None:
        """Take our mark away: everything that was begun here is done, or was told undone."""
        with contextlib.suppress(PenstockError):
            await self._marks.delete(self._key)

    async def look(self, *, starting: bool = False) -> int:
        """Doubt the recent trees if a copy has ended uncleanly; return how many.

        `starting`: a mark of our own name is then that of an earlier life.
        """
        mine = this_process(self.instance, self.clock.now())
        stale = [
            (key, mark)
            for key, mark in (await self._seen()).items()
            if (starting if key == self._key else decide.is_stale(mark, mine, is_running))
        ]
        if not stale:
            return 0
        since = min(mark.at for _, mark in stale) - self.recent_s
        digests = await self._recent(since)
        for digest in digests:
            self.doubt(digest)
        self.log.warning(
            "a copy ended uncleanly: what was committed last is looked at before it is used",
            copies=[mark.instance for _, mark in stale],
            trees=len(digests),
        )
        for key, _ in stale:
            with contextlib.suppress(NotFound):
                await self._marks.delete(key)
        return len(digests)

    async def _renew(self) -> None:
        await self._marks.put(self._key, this_process(self.instance, self.clock.now()))

    async def _seen(self) -> dict[str, Mark]:
        found: dict[str, Mark] = {}

        def take(stored: Stored) -> None:
            key = self._marks.key_of(stored)
            found.pop(key, None)
            with contextlib.suppress(PenstockError):
                value = self._marks.value_of(stored)
                if value is not None:
                    found[key] = value.value

        await self.bus.replay(self._marks.stream, (self._marks.subject("serving.*"),), take)
        return found

    async def _recent(self, since: float) -> list[str]:
        """Return the digests of at most `trees_max` trees that were committed since, newest first."""
        records = Bucket(self.bus, self._bucket, ArtifactRecord)
        subject = records.subject("*")
        last = await self.bus.last(records.stream, subject)
        found: list[str] = []

        def take(stored: Stored) -> None:
            if stored.at >= since and not is_deleted(stored):
                found.append(records.key_of(stored))

        if last is not None:
            after = max(0, last.sequence - self.trees_max)
            await self.bus.replay(records.stream, (subject,), take, after=after)
        return found[::-1]
