"""Settings of the planner."""

from penstock.runtime.settings import Common


class Settings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a planner needs to know."""

    concurrency: int = 32
    """Requests in work at a time in this process, 1 to 1,000."""
