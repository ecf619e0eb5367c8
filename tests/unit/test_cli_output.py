"""What commands print, in every format."""

import json

import pytest
import yaml

from penstock.cli import output
from penstock.cli.plan import summary
from penstock.cli.run_diff import differences
from penstock.cli.run_tables import view_data
from penstock.contracts.artifacts import TreeRef
from penstock.contracts.queries import RunView, StepView
from penstock.sdk import wording

ROWS: list[dict[str, object]] = [
    {"run": "a1", "state": "failed", "note": "x\ty"},
    {"run": "b", "state": "queued", "note": None},
]
COLUMNS = {"run": "run", "state": "state", "note": "note"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("table", "RUN  STATE   NOTE\na1   failed  x y\nb    queued\n"),
        ("tsv", "a1\tfailed\tx y\nb\tqueued\t\n"),
        ("name", "a1\nb\n"),
    ],
)
def test_rows_are_printed_as_asked(
    kind: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output.print_rows(ROWS, COLUMNS, kind)
    assert capsys.readouterr().out == expected


def test_json_and_yaml_print_the_data_itself(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows(ROWS, COLUMNS, "json")
    assert json.loads(capsys.readouterr().out) == ROWS
    output.print_rows(ROWS, COLUMNS, "yaml", data=[1, {"a": "é"}])
    assert yaml.safe_load(capsys.readouterr().out) == [1, {"a": "é"}]


def test_an_empty_list_says_so_beside_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([], COLUMNS, "table", empty="no runs yet")
    assert capsys.readouterr() == ("", "no runs yet\n")
    output.print_rows([], COLUMNS, "json")
    assert capsys.readouterr() == ("[]\n", "")


def test_a_run_has_every_promised_field_whatever_happened_to_it() -> None:
    view = RunView(
        run="r", pipeline="p", state="queued", steps=(StepView(step="s"),), steps_total=1
    )
    assert view_data(view) == {
        "run": "r",
        "pipeline": "p",
        "state": "queued",
        "seconds": 0,
        "parameters": {},
        "metrics": {},
        "outputs": {},
        "steps": [
            {
                "step": "s",
                "state": "waiting",
                "attempts": 0,
                "seconds": 0,
                "reused_from": None,
                "outputs": {},
                "metrics": {},
                "error": None,
            }
        ],
        "steps_total": 1,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b[2Jb\rc\x00d", "abcd"),
        ("one\ntwo\tthree", "one two three"),
        ("\u202eevil\u2066", "evil"),
        ("\x9b2Jx", "2Jx"),
        ("grüße 火", "grüße 火"),
    ],
)
def test_a_users_text_cannot_steer_the_terminal(text: str, expected: str) -> None:
    assert wording.clean(text) == expected


def test_a_log_line_keeps_its_colours_and_nothing_else() -> None:
    assert wording.without_control("\x1b[31mred\x1b[0m\x1b[2J\x07!") == "\x1b[31mred\x1b[0m!"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 ms"), (0.0061, "6 ms"), (0.0994, "99 ms"), (0.4, "0.4 s"), (9.94, "9.9 s"),
        (12.4, "12 s"), (59.7, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (-1, "0 ms"),
    ],
)  # fmt: skip
def test_durations_are_for_people(seconds: float, expected: str) -> None:
    assert wording.duration(seconds) == expected


def test_sizes_are_for_people() -> None:
    assert [wording.size(n) for n in (0, 1023, 1024, 3.4 * 1024**2, 2**40)] == [
        "0 B", "1023 B", "1.0 KiB", "3.4 MiB", "1.0 TiB",
    ]  # fmt: skip


def test_wide_and_combining_characters_keep_columns_straight() -> None:
    lines = output.aligned([["火火", "x"], ["e\u0301", "y"]], ["name", "v"])
    assert lines == ["NAME  V", "火火  x", "e\u0301     y"]


@pytest.mark.parametrize("width", [20, 30, 44, 80])
def test_a_table_is_never_wider_than_the_terminal(width: int) -> None:
    table = [["run", "state", "a note"], ["0123456789abcde", "succeeded", "word " * 20]]
    for row in output.fitted(table, width):
        line = "  ".join(row)
        assert wording.cell_width(line) <= max(width, 15)


def test_differences_are_named_from_cause_to_effect() -> None:
    tree = TreeRef(digest="d" * 64)
    one = RunView(
        run="a", pipeline="p", state="succeeded", parameters={"lr": 0.1}, metrics={"m": 1.5}
    )
    two = RunView(
        run="b", pipeline="p", state="succeeded", parameters={"lr": 0.2}, outputs={"o": tree}
    )
    assert differences(one, two) == [
        {"what": "parameter lr", "first": "0.1", "second": "0.2"},
        {"what": "metric m", "first": "1.5", "second": ""},
        {"what": "output o", "first": "", "second": "d" * 12},
    ]
    assert differences(one, one) == []


def test_a_forecast_counts_what_is_certain_and_what_is_not() -> None:
    assert summary(["reuse", "run", "unknown", "unknown"]) == (
        "4 steps: 1 would run, 1 reused, 2 cannot be told yet"
    )
    assert summary(["reuse", "reuse"]) == "2 steps: 2 reused"
