"""What a step logged, folded as it comes: the summary that its result carries.

    scalar  the last value logged under a name
    list    the last list
    row     a dict of columns, one value per row
    table   the last dict of columns
    image   kept in the archive under images/, not in the summary
    tag     a tag of the run

All points are in the archive's metrics.jsonl; the summary is cut at SUMMARY_BYTES_MAX and the
metrics that did not fit are named.
"""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from penstock.units import KIB, MIB

SUMMARY_BYTES_MAX = 64 * KIB
METRICS_BYTES_MAX = 64 * MIB
METRIC_NAMES_MAX = 10_000
TAGS_MAX = 100
TAG_BYTES_MAX = 1024
LINE_BYTES_MAX = 8 * MIB
NAME_CHARACTERS_MAX = 250

Kind = Literal["scalar", "list", "row", "table", "image", "tag", "flush"]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the step's socket."""

    kind: Kind
    name: str = ""
    value: object = None
    time: float = 0
    suffix: str = ""
    """Of an image's file name, such as ".png"."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of metrics.jsonl."""

    time: float
    name: str
    kind: Kind
    value: object


@dataclass(slots=True)
class Logged:
    """The fold of all points so far."""

    metrics: dict[str, object] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Encoded size of a metric, about, bytes."""
    tags: dict[str, str] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    """Metrics too large for the summary by themselves."""

    def take(self, point: Point, size: int) -> None:
        """Fold one point of `size` encoded bytes."""
        name = point.name
        match point.kind:
            case "tag":
                if name in self.tags or len(self.tags) < TAGS_MAX:
                    self.tags[name] = str(point.value)[:TAG_BYTES_MAX]
                return
            case "image" | "flush":
                return
            case _:
                pass
        if name not in self.metrics and len(self.metrics) >= METRIC_NAMES_MAX:
            self.large.add("(further names)")
            return
        same = self.kinds.get(name) == point.kind
        self.kinds[name] = point.kind
        if point.kind == "row" and isinstance(point.value, dict):
            self.sizes[name] = self.sizes.get(name, 0) + size if same else size
            if self.sizes[name] > SUMMARY_BYTES_MAX:
                self.metrics[name] = None
                self.large.add(name)
                return
            before = self.metrics.get(name) if same else None
            self.metrics[name] = _with_row(before, point.value)
            return
        self.sizes[name] = size
        if size > SUMMARY_BYTES_MAX:
            self.metrics[name] = None
            self.large.add(name)
            return
        self.large.discard(name)
        self.metrics[name] = point.value

    def summary(self) -> tuple[dict[str, object], list[str]]:
        """Return the metrics that fit into SUMMARY_BYTES_MAX, smallest first, and the names of the rest."""
        left = SUMMARY_BYTES_MAX
        fitting: set[str] = set()
        for name in sorted(self.metrics, key=lambda n: self.sizes[n]):
            size = len(msgspec.json.encode({name: self.metrics[name]}))
            if name not in self.large and size <= left:
                fitting.add(name)
                left -= size
        kept = {name: value for name, value in self.metrics.items() if name in fitting}
        return kept, sorted((set(self.metrics) - fitting) | self.large)


def columns(lines: list[Line]) -> dict[str, dict[str, list[object]]]:
    """Return the tables among `lines`: all rows of a name, or its last whole table."""
    tables: dict[str, dict[str, list[object]]] = {}
    for line in lines:
        if line.kind == "row" and isinstance(line.value, dict):
            tables[line.name] = _with_row(tables.get(line.name), line.value)
        elif line.kind == "table" and isinstance(line.value, dict):
            tables[line.name] = {
                str(name): list(values) if isinstance(values, list) else [values]
                for name, values in line.value.items()
            }
    return tables


def _with_row(before: object, row: dict[str, object]) -> dict[str, list[object]]:
    """Return columns with one more row (the columns' own lists grow); gaps are None."""
    table: dict[str, list[object]] = before if isinstance(before, dict) else {}
    rows = max((len(values) for values in table.values()), default=0)
    for name in (*table, *(n for n in row if n not in table)):
        values = table.setdefault(name, [])
        values += [None] * (rows - len(values))
        values.append(row.get(name))
    return table
