"""What is kept of a step's output and of what it logs."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.logs import ATTEMPT_BYTES_MAX
from penstock_executor.decide.keeping import HEAD_BYTES, TAIL_BYTES, Budget, Keeping
from penstock_executor.decide.metrics import (
    METRIC_NAMES_MAX,
    SUMMARY_BYTES_MAX,
    TAGS_MAX,
    Line,
    Logged,
    Point,
    columns,
)


def test_head_and_tails_together_are_what_the_contract_promises() -> None:
    assert HEAD_BYTES + 2 * TAIL_BYTES == ATTEMPT_BYTES_MAX


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_below_the_cap_every_byte_is_kept_at_once(chunks: list[bytes]) -> None:
    keeping = Keeping(Budget(800))
    assert [keeping.taken(chunk) for chunk in chunks] == chunks
    assert keeping.ended() == b""


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=30), st.integers(0, 100))
def test_above_the_cap_head_and_tail_are_kept_and_what_is_missing_is_counted(
    chunks: list[bytes], head: int
) -> None:
    keeping = Keeping(Budget(head), tail_bytes=50)
    written = b"".join(keeping.taken(chunk) for chunk in chunks)
    everything = b"".join(chunks)
    end = keeping.ended()
    if len(everything) <= head:
        assert written == everything
        return
    rest = everything[head:]
    assert written.startswith(everything[:head] + b"\n[penstock: ")
    assert end.endswith(rest[-50:])
    assert keeping.left_out == max(0, len(rest) - 50)
    assert (b"bytes left out here" in end) == (len(rest) > 50)


def test_a_flood_on_one_stream_leaves_the_other_its_tail() -> None:
    budget = Budget(10)
    out, err = Keeping(budget, tail_bytes=5), Keeping(budget, tail_bytes=5)
    out.taken(b"0123456789abcdef")
    assert err.taken(b"oops").startswith(b"\n[penstock: ")
    assert err.ended() == b"oops"


def take(logged: Logged, kind: str, name: str, value: object) -> None:
    point = msgspec.convert({"kind": kind, "name": name, "value": value}, Point)
    logged.take(point, len(msgspec.json.encode(value)))


def test_of_a_scalar_the_last_value_counts() -> None:
    logged = Logged()
    for value in (0.5, 0.4, "NaN", 0.3):
        take(logged, "scalar", "loss", value)
    assert logged.summary() == ({"loss": 0.3}, [])


def test_rows_become_columns_and_a_missing_value_is_a_gap() -> None:
    logged = Logged()
    take(logged, "row", "epochs", {"epoch": 1, "loss": 0.5})
    take(logged, "row", "epochs", {"epoch": 2, "note": "x"})
    take(logged, "row", "epochs", {"epoch": 3, "loss": 0.1})
    expected = {"epoch": [1, 2, 3], "loss": [0.5, None, 0.1], "note": [None, "x", None]}
    assert logged.summary() == ({"epochs": expected}, [])


def test_lists_and_tables_come_whole_and_images_not_at_all() -> None:
    logged = Logged()
    take(logged, "list", "losses", [3, 2, 1])
    take(logged, "table", "confusion", {"a": [1, 0], "b": [0, 1]})
    take(logged, "image", "roc", "images/roc.png")
    take(logged, "tag", "dataset", "2026-11")
    assert logged.summary() == (
        {"losses": [3, 2, 1], "confusion": {"a": [1, 0], "b": [0, 1]}},
        [],
    )
    assert logged.tags == {"dataset": "2026-11"}


def test_a_metric_too_large_for_the_summary_is_named_and_the_others_stay() -> None:
    logged = Logged()
    take(logged, "list", "huge", list(range(30_000)))
    take(logged, "scalar", "accuracy", 0.9)
    for number in range(40_000):
        take(logged, "row", "rows", {"number": number})
    assert logged.summary() == ({"accuracy": 0.9}, ["huge", "rows"])
    assert logged.metrics["rows"] is None, "rows that nobody will see must not fill the memory"


def test_the_summary_never_exceeds_its_limit() -> None:
    logged = Logged()
    for number in range(5000):
        take(logged, "scalar", f"metric-{number}", "x" * 50)
    kept, rest = logged.summary()
    assert len(msgspec.json.encode(kept)) <= SUMMARY_BYTES_MAX
    assert len(kept) + len(rest) == 5000
    assert len(kept) > 500


def test_names_and_tags_are_bounded() -> None:
    logged = Logged()
    for number in range(METRIC_NAMES_MAX + 10):
        take(logged, "scalar", f"m{number}", 1)
    for number in range(TAGS_MAX + 10):
        take(logged, "tag", f"t{number}", "x" * 5000)
    assert len(logged.metrics) == METRIC_NAMES_MAX
    assert len(logged.tags) == TAGS_MAX
    assert logged.tags["t0"] == "x" * 1024
    assert "(further names)" in logged.summary()[1]


def test_tables_of_the_archive_are_all_rows_or_the_last_whole_table() -> None:
    lines = [
        Line(time=0, name="a", kind="row", value={"x": 1}),
        Line(time=1, name="b", kind="table", value={"y": [1]}),
        Line(time=2, name="b", kind="table", value={"y": [2, 3]}),
        Line(time=3, name="a", kind="row", value={"x": 2}),
        Line(time=4, name="c", kind="scalar", value=1),
    ]
    assert columns(lines) == {"a": {"x": [1, 2]}, "b": {"y": [2, 3]}}
