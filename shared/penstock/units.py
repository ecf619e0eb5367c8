"""Quantities whose unit must not be guessed. Nothing here reads a clock or a disk."""

from typing import NewType

Seconds = NewType("Seconds", float)
"""A duration, or a moment as seconds since 1970-01-01T00:00:00Z."""

Bytes = NewType("Bytes", int)

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
