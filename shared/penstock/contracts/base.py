"""The base of every message: frozen, keyword-only, defaults left out of the bytes."""

from typing import dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frozen struct whose new fields always get defaults, so old bytes still decode."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Strict(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Something people write by hand: an unknown field is a mistake and is refused with a hint."""
