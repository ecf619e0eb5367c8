"""What keeps a thousand steps cheap for a client: looks, lines and rounds that are not made."""

import asyncio
import io
from pathlib import Path

import pytest

from penstock.sdk.names import distinct
from penstock.sdk.printing import Printer
from penstock.sdk.progress import _in_order
from penstock.trees.git import snapshot_git


class Stream(io.StringIO):
    """Counts writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


async def test_lines_that_come_at_once_are_one_write() -> None:
    stream = Stream()
    printer = Printer(stream)
    for number in range(1000):
        printer.say(str(number))
    await asyncio.sleep(0)
    assert stream.writes == 1
    assert stream.getvalue() == "".join(f"{number}\n" for number in range(1000))
    printer.say("later")
    printer.flush()
    await asyncio.sleep(0)
    assert stream.writes == 2
    assert stream.getvalue().endswith("999\nlater\n")


async def test_a_reader_who_has_gone_is_told_to_whoever_speaks_next() -> None:
    printer = Printer(Full())
    printer.say("into nothing")
    await asyncio.sleep(0)
    with pytest.raises(BrokenPipeError):
        printer.say("more")
    with pytest.raises(BrokenPipeError):
        printer.flush()


def test_names_are_the_same_with_and_without_a_memory() -> None:
    wanted = ["a", "a", "a_2", "b", "a", "a_2", "b", "a" * 63, "a" * 63]
    plain: dict[str, None] = {}
    quick: dict[str, None] = {}
    numbers: dict[str, int] = {}
    for name in wanted:
        plain[distinct(name, plain)] = None
        quick[distinct(name, quick, numbers)] = None
    assert list(quick) == list(plain)
    assert len(quick) == len(wanted)


def test_steps_come_in_waves_each_after_its_needs_and_as_they_were_written() -> None:
    graph = {"d": ("b", "c"), "c": ("a",), "b": ("a",), "a": (), "z": ("gone",), "e": ("d", "a")}
    assert _in_order(graph) == ["a", "z", "c", "b", "d", "e"]
    chain = {f"s{n}": (f"s{n - 1}",) if n else () for n in reversed(range(2000))}
    assert _in_order(chain) == [f"s{n}" for n in range(2000)]


def test_a_folder_in_no_repository_starts_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object, **options: object) -> None:
        raise AssertionError(words)

    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.setattr("subprocess.Popen", refuse)
    assert not snapshot_git(tmp_path).commit
