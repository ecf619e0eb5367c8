"""Figures as a table for people, as JSON for programs, and as Markdown for the repository."""

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.registry import Row, Samples, Workload

LATEST = Path(".bench/latest.json")
HEADINGS = ("workload", "ours", "floor", "unit", "ratio", "bound", "", "n", "min..max ours / floor")
Figure = dict[str, Any]


def figure(row: Row, samples: Samples) -> Figure:
    """Return a row's figure: medians, their ratio, the spread, and whether the bound holds."""
    ours, floor = median(samples.ours), median(samples.floor)
    bound = row.bound
    result: Figure = {
        "ours": rounded(ours),
        "floor": rounded(floor),
        "ratio": rounded(ours / floor),
        "unit": row.unit,
        "n": len(samples.ours),
        "ours_min_max": [rounded(min(samples.ours)), rounded(max(samples.ours))],
        "floor_min_max": [rounded(min(samples.floor)), rounded(max(samples.floor))],
        "floor_is": row.floor,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if bound is not None:
        what = "" if bound.of == "ratio" else f" {row.unit}"
        result["bound"] = f"{bound.sign} {bound.limit:g}{what}"
        result["holds"] = bound.holds(ours, floor)
    return result | ({"more": dict(samples.more)} if samples.more else {})


def rounded(value: float) -> float:
    """Return a figure with four significant digits, which is more than it deserves."""
    return float(f"{value:.4g}")


def cells(name: str, one: Figure) -> tuple[str, ...]:
    """Return a figure as the cells of its line."""
    holds = one.get("holds")
    mark = "" if holds is None else "holds" if holds else "MISSED"
    spread = " / ".join(
        f"{short(low)}..{short(high)}" for low, high in (one["ours_min_max"], one["floor_min_max"])
    )
    numbers = (short(one["ours"]), short(one["floor"]), one["unit"], short(one["ratio"]))
    return (name, *numbers, one.get("bound", ""), mark, str(one["n"]), spread)


def short(value: float) -> str:
    """Return a figure for people."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def line(words: tuple[str, ...]) -> str:
    """Return one line of the table; columns have fixed widths, so that lines may come one by one."""
    name, ours, floor, unit, ratio, bound, mark, number, spread = words
    return (
        f"{name:<32} {ours:>9} {floor:>9} {unit:<8} {ratio:>7}  {bound:<12} {mark:<7}"
        f" {number:>4}  {spread}"
    ).rstrip()


def kept(found: Mapping[str, Figure], path: Path = LATEST) -> None:
    """Put figures beside those of other runs, in one step, so that nobody reads half a file."""
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    temporary = path.with_suffix(f".{os.getpid()}")
    text = json.dumps({**known, **found}, indent=2, sort_keys=True, ensure_ascii=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def markdown(known: Mapping[str, Workload], path: Path = LATEST) -> str:
    """Return the latest figures as a page, in the order of the registry."""
    figures: dict[str, Figure] = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for one in known.values() for row in one.rows if row.name in figures]
    dates = sorted(figures[row.name]["measured_at"] for row in rows)
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m tests.bench --markdown` from the latest figures. How to read them, and what each floor",
        "is: [tests/bench/README.md](../../../tests/bench/README.md). Every floor is measured in the same run as the",
        "figure that it stands beside; figures are medians. Trust the ratios, not the seconds.",
        "",
        f"Measured {dates[0][:10]} to {dates[-1][:10]} on {machine}.",
        "",
        "| workload | ours | floor | unit | ratio | asked | | n | floor is |",
        "|---|--:|--:|---|--:|---|---|--:|---|",
    ]
    for row in rows:
        words = cells(row.name, figures[row.name])
        lines.append("| " + " | ".join((*words[:8], figures[row.name]["floor_is"])) + " |")
    return "\n".join([*lines, ""])
