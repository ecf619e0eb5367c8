"""The benchmarks' registry, their command and what they keep; nothing here measures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.bench.registry import Bound, Row, Samples, at_least, at_most, chosen, names_of, workloads
from tests.bench.report import HEADINGS, cells, figure, kept, line, markdown

ROOT = Path(__file__).parents[2]
ASKED = {
    "hello-warm", "hello-cold", "chain-50", "fan-200", "fan-1000", "cached-200", "cached-1000",
    "hand-over-512", "small-files-5000", "hand-over-512-minio", "small-files-5000-minio",
    "realistic", "stack-up", "help", "idle-memory", "idle-cpu", "first-byte-p50", "first-byte-p95",
    "event-delay-p50", "event-delay-p99", "log-throughput", "null-10000", "null-100000", "flat",
    "memory-per-step", "takeover-100000", "two-schedulers",
}  # fmt: skip
"""What the engine's issue wants measured, by name."""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_figure_that_is_asked_for_has_a_workload() -> None:
    rows = {row.name for one in workloads().values() for row in one.rows}
    assert rows >= ASKED


def test_every_row_says_what_its_floor_and_its_unit_are() -> None:
    for one in workloads().values():
        assert one.rows, one.name
        for row in one.rows:
            assert row.floor, f"{row.name} has no floor"
            assert row.unit, f"{row.name} has no unit"


def test_a_workload_is_found_by_its_name_and_by_each_of_its_rows() -> None:
    for one in workloads().values():
        for name in names_of(one):
            assert chosen([name]) == [one]


def test_a_whole_run_leaves_out_only_what_is_heavy() -> None:
    assert set(workloads().values()) - set(chosen([])) == {
        one for one in workloads().values() if one.heavy
    }


def test_every_workload_says_in_a_sentence_what_it_does() -> None:
    for one in workloads().values():
        assert (one.run.__doc__ or "").strip().endswith("."), one.name


def test_a_name_that_is_none_is_answered_with_the_names_and_exit_code_2() -> None:
    answer = command("chain-50,chain-51")
    assert answer.returncode == 2
    assert "chain-51" in answer.stderr
    assert all(name in answer.stderr for name in ASKED)


def test_the_list_names_every_row() -> None:
    answer = command("--list")
    assert answer.returncode == 0
    words = answer.stdout.split()
    assert {row.name for one in workloads().values() for row in one.rows} <= set(words)


@pytest.mark.parametrize(
    ("bound", "ours", "floor", "holds"),
    [
        (at_most(2), 4.0, 2.0, True),
        (at_most(2), 4.1, 2.0, False),
        (at_least(1.5), 3.0, 2.0, True),
        (at_least(1.5), 2.9, 2.0, False),
        (at_most(3, "ours"), 3.0, 0.1, True),
        (at_most(3, "ours"), 3.1, 9.0, False),
    ],
)
def test_a_bound_speaks_of_the_ratio_or_of_our_own_figure(
    bound: Bound, ours: float, floor: float, holds: bool
) -> None:
    assert bound.holds(ours, floor) is holds


def test_a_figure_is_medians_their_ratio_and_the_spread() -> None:
    row = Row("walk", "s", "a straight line", at_most(2))
    found = figure(row, Samples([3.0, 1.0, 2.0], [1.0, 1.0, 4.0], {"steps": 7}))
    del found["measured_at"]
    assert found == {
        "ours": 2.0,
        "floor": 1.0,
        "ratio": 2.0,
        "unit": "s",
        "n": 3,
        "ours_min_max": [1.0, 3.0],
        "floor_min_max": [1.0, 4.0],
        "floor_is": "a straight line",
        "bound": "≤ 2",
        "holds": True,
        "more": {"steps": 7},
    }


def test_figures_of_several_runs_merge_by_name(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "latest.json"
    one, two = Row("one", "s", "f"), Row("two", "s", "f")
    kept({"one": figure(one, Samples([1.0], [1.0]))}, file)
    kept({"two": figure(two, Samples([2.0], [1.0]))}, file)
    kept({"one": figure(one, Samples([3.0], [1.0]))}, file)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert {name: each["ours"] for name, each in found.items()} == {"one": 3.0, "two": 2.0}
    for each in found.values():
        assert {"ours", "floor", "ratio", "unit"} <= set(each)
        assert each["ratio"] == each["ours"] / each["floor"]


def test_the_page_shows_the_latest_figures_in_the_order_of_the_registry(tmp_path: Path) -> None:
    known = workloads()
    rows = [row for one in known.values() for row in one.rows][:3]
    file = tmp_path / "latest.json"
    kept({row.name: figure(row, Samples([1.0], [2.0])) for row in reversed(rows)}, file)
    lines = [text for text in markdown(known, file).splitlines() if text.startswith("| ")]
    assert [text.split(" | ")[0].removeprefix("| ") for text in lines[1:]] == [
        row.name for row in rows
    ]


def test_columns_stand_below_their_headings() -> None:
    row = Row("a-workload", "steps/s", "f", at_least(1))
    one = figure(row, Samples([12345.6], [123.4]))
    heading, text = line(HEADINGS), line(cells("a-workload", one))
    assert heading.index("unit") == text.index("steps/s")
    assert heading.index("bound") == text.index("≥ 1")
