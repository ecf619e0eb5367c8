"""Settings of the trigger."""

from penstock.runtime.settings import Common


class Settings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a trigger needs to know."""

    late_s: float = 30
    """A tick that could not be decided within this many seconds counts as missed."""
    takeover_s: float = 2
    """How long a decision of another replica may wait before this one carries it out as well."""
    watch_s: float = 10
    """How often the wall clock is compared with the one that never jumps."""
