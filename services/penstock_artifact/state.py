"""What the service keeps in memory: all of it bounded, none of it needed.

A copy that starts anew reads the store again. Moments are those of a clock that never jumps.

Contents are written once, so that bytes once verified stay verified for as long as the object is
seen to exist. Existence is believed for FRESH_S only, because a retention rule, an operator or a power
cut may delete an object at any time; reuse must not hit what is gone for longer than that.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from penstock.contracts.artifacts import Layout, Manifest, ObjectRef
from penstock.contracts.base import Message
from penstock.units import Seconds

FRESH_S = 2.0
OBJECTS_MAX = 200_000
ENTRIES_MAX = 400_000
"""Entries of remembered manifests, all together."""


class Mark(Message):
    """That a copy serves; it is renewed while it does, and removed by a clean stop."""

    instance: str
    at: float
    machine: str = ""
    boot: str = ""
    space: str = ""
    """Its PID namespace: in another one `pid` says nothing."""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Tree:
    """A checked manifest and what follows from it."""

    digest: str
    manifest: Manifest
    layout: Layout
    objects: tuple[ObjectRef, ...]
    """In key order."""
    size: int
    """Bytes of the manifest."""


@dataclass(slots=True)
class Objects:
    """What is known about objects: key → (size seen, when, whether the bytes were verified)."""

    limit: int = OBJECTS_MAX
    seen: "OrderedDict[str, tuple[int, Seconds, bool]]" = field(default_factory=OrderedDict)

    def saw(self, key: str, size: int | None, at: Seconds) -> None:
        """Note an object's size, or that it is not there."""
        known = self.seen.pop(key, None)
        if size is None:
            return
        verified = known is not None and known[2] and known[0] == size
        self._keep(key, (size, at, verified))

    def verified(self, key: str, size: int, at: Seconds) -> None:
        """Note that an object's bytes were read and right."""
        self.seen.pop(key, None)
        self._keep(key, (size, at, True))

    def is_fresh(self, ref: ObjectRef, now: Seconds) -> bool:
        """Say whether the object was there with its size a moment ago."""
        known = self.seen.get(ref.key)
        return known is not None and known[0] == ref.size and now - known[1] < FRESH_S

    def is_verified(self, ref: ObjectRef) -> bool:
        """Say whether the object's bytes were verified since it was last found missing."""
        known = self.seen.get(ref.key)
        return known is not None and known[0] == ref.size and known[2]

    def _keep(self, key: str, value: tuple[int, Seconds, bool]) -> None:
        self.seen[key] = value
        while len(self.seen) > self.limit:
            self.seen.popitem(last=False)


@dataclass(slots=True)
class Trees:
    """Checked manifests, the least recently used forgotten first."""

    limit: int = ENTRIES_MAX
    trees: "OrderedDict[str, Tree]" = field(default_factory=OrderedDict)
    entries: int = 0

    def get(self, digest: str) -> Tree | None:
        """Return a remembered tree."""
        tree = self.trees.get(digest)
        if tree is not None:
            self.trees.move_to_end(digest)
        return tree

    def add(self, tree: Tree) -> None:
        """Remember a tree, unless it alone would fill the memory."""
        count = len(tree.manifest.entries) + 1
        if tree.digest in self.trees or count > self.limit // 2:
            return
        self.trees[tree.digest] = tree
        self.entries += count
        while self.entries > self.limit:
            _, oldest = self.trees.popitem(last=False)
            self.entries -= len(oldest.manifest.entries) + 1
