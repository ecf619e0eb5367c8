"""The clock that wakes the service: APScheduler, one alarm per schedule.

Each schedule has one job with a DateTrigger for its next due time; what is due is decided from the
cursor when the alarm rings, never by APScheduler's own bookkeeping, so an alarm that rings early,
late or twice does no harm. Nothing is polled.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger


class Alarms:
    """Alarms by name; `ring(name)` is called on the event loop when one is due."""

    def __init__(self, ring: Callable[[str], None]) -> None:
        self._ring = ring
        self._at: dict[str, float] = {}
        # Misfires and coalescing are judged by the cursor; here every alarm rings, however late.
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True}
        )

    def start(self) -> None:
        """Begin to ring. Needs a running event loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """Ring no more."""
        self._scheduler.shutdown(wait=False)

    def set(self, name: str, at: float | None) -> None:
        """Set the alarm of `name` to `at` (seconds since 1970), or remove it."""
        if self._at.get(name) == at:
            return
        if at is None:
            del self._at[name]
            try:
                self._scheduler.remove_job(name)
            except JobLookupError:
                return  # it has rung a moment ago
            return
        self._at[name] = at
        self._scheduler.add_job(
            self._rung,
            DateTrigger(datetime.fromtimestamp(at, UTC)),
            args=[name, at],
            id=name,
            replace_existing=True,
        )

    def check(self) -> None:
        """Compare all alarms with the wall clock now: it may have jumped."""
        self._scheduler.wakeup()

    async def _rung(self, name: str, at: float) -> None:
        if self._at.get(name) == at:
            del self._at[name]
            self._ring(name)
