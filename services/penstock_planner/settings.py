"""Settings of the planner."""

from typing import Literal

from penstock.runtime.settings import Common


class Settings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a planner needs to know."""

    concurrency: int = 32
    """Requests in work at a time in this process, 1 to 1,000."""
    unknown_compute: Literal["default", "refuse", "wait"] = "default"
    """Where steps go whose compute target nobody has made and no executor serves: to the default target, nowhere
    (the request is refused), or into the queue of that name, until an executor comes."""
