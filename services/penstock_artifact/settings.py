"""Settings of the artifact service."""

from penstock.runtime.settings import Common


class Settings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the artifact service needs to know. `store` (of all services) is its object store."""

    grant_s: float = 900
    """Seconds that a grant on S3 may be used."""
    store_patience_s: float = 3
    """Seconds that a failing store is tried again before the caller is told E_STORE."""
    verify_max: int = 4
    """Objects that are read back at the same time."""
    audit_s: float = 3600
    """After an unclean end, trees committed so many seconds before it are read through before use."""
    audit_trees_max: int = 1000
    """… but no more than the last so many."""
