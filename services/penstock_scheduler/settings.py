"""Settings of the scheduler."""

from penstock.errors import Invalid
from penstock.runtime.settings import Common
from penstock_scheduler.state import DEADLINE_S, WINDOW

WINDOW_MAX = 256
"""Sixteen partitions times this is what a work consumer lends out."""
DEADLINE_S_MAX = 30 * 86_400


class Settings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scheduler needs to know."""

    window: int = WINDOW
    """Attempts of one partition that may be out at one compute target."""
    deadline_s: float = DEADLINE_S
    """Seconds a run may take when its request does not say."""


def checked(settings: Settings) -> Settings:
    """Return the settings if they are sound.

    Raises:
        Invalid: E_CONFIG.
    """
    if not 1 <= settings.window <= WINDOW_MAX:
        raise Invalid(
            f"{settings.window}; allowed: 1 to {WINDOW_MAX}", code="E_CONFIG", where="window"
        )
    if not 1 <= settings.deadline_s <= DEADLINE_S_MAX:
        raise Invalid(
            f"{settings.deadline_s:g}; allowed: 1 to {DEADLINE_S_MAX:,}",
            code="E_CONFIG",
            where="deadline_s",
        )
    return settings
