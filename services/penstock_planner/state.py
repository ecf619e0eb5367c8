"""What the planner keeps on the bus. In memory it keeps nothing that a restart would miss."""

from penstock.contracts.base import Message
from penstock.contracts.spec import PipelineSpec

SPEC_KEPT_BYTES_MAX = 512 * 1024
"""A larger spec that came as an artifact stays one; the bucket then holds `artifact:<digest>`."""

StoredSpec = PipelineSpec | str
"""Bucket `specs`, key = digest of the canonical spec: the spec, or where it is stored."""


class KeyEntry(Message):
    """Bucket `keys`: the run that an idempotency key has become.

    `planned` turns true when every part of the plan is in the inbox. Until then whoever meets the
    key plans the same run again, which is harmless.
    """

    key: str
    run: str
    content: str
    """Digest of the request: the same key with another request is refused."""
    at: float
    planned: bool = False
