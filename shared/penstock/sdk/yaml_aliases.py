"""YAML's anchors and aliases, written out event by event, within bounds.

An alias stands for the events of its anchor, with their places: what is wrong in them is told where it
is written. What aliases bring is counted, so that a small file cannot become an enormous one.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import yaml

from penstock.errors import Invalid

ALIASED_MAX = 20_000
"""Values, keys and brackets that all aliases of a file may bring together."""

Refusal = Callable[[Any, str, str, str], Invalid]
"""Makes an error of an event, a code, a message and a hint."""


class _Recording:
    """The events of an anchor whose end has not come yet."""

    __slots__ = ("anchor", "depth", "events")

    def __init__(self, anchor: str) -> None:
        self.anchor = anchor
        self.depth = 0
        self.events: list[Any] = []


def written_out(events: Iterable[Any], refusal: Refusal) -> Iterator[Any]:
    """Yield events without aliases: instead of each, those of its anchor.

    Raises:
        Invalid: E_YAML_ALIAS, of no anchor before it, of what it stands in, or of too much.
    """
    anchors: dict[str, list[Any]] = {}
    recordings: list[_Recording] = []
    aliased = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            brought = _brought(event, anchors, recordings, refusal)
            aliased += len(brought)
            if aliased > ALIASED_MAX:
                raise refusal(
                    event,
                    "E_YAML_ALIAS",
                    f"alias *{event.anchor} makes the file too large; allowed: {ALIASED_MAX:,} values",
                    "write fewer aliases within aliases",
                )
            for recording in recordings:
                recording.events += brought
            yield from brought
            continue
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            recordings.append(_Recording(anchor))
        for recording in recordings:
            recording.events.append(event)
            recording.depth += _step(event)
        while recordings and recordings[-1].depth == 0:
            ended = recordings.pop()
            anchors[ended.anchor] = ended.events
        yield event


def _brought(
    event: Any, anchors: dict[str, list[Any]], recordings: list[_Recording], refusal: Refusal
) -> list[Any]:
    name = event.anchor
    if any(recording.anchor == name for recording in recordings):
        raise refusal(event, "E_YAML_ALIAS", f"alias *{name} stands in what it names", "")
    if name not in anchors:
        raise refusal(
            event, "E_YAML_ALIAS", f"alias *{name} has no anchor before it", f"mark it with &{name}"
        )
    return anchors[name]


def _step(event: Any) -> int:
    """Return how many brackets an event opens; less than nothing: closes."""
    if isinstance(event, yaml.CollectionStartEvent):
        return 1
    return -1 if isinstance(event, yaml.CollectionEndEvent) else 0
