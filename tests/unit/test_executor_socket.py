"""The step's socket, and the streams of its log, without a bus."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from penstock.clock import SystemClock
from penstock_executor.decide.keeping import Budget, Keeping
from penstock_executor.decide.metrics import LINE_BYTES_MAX
from penstock_executor.logs import Stream
from penstock_executor.step_socket import StepSocket


class Written:
    """What the socket wrote to metrics.jsonl."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, line: bytes) -> None:
        self.data += line

    @property
    def points(self) -> list[tuple[str, object]]:
        lines = [msgspec.json.decode(line) for line in self.data.splitlines()]
        return [(line["name"], line["value"]) for line in lines]


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
async def step(tmp_path: Path, written: Written) -> AsyncIterator[StepSocket]:
    socket_ = StepSocket(tmp_path, tmp_path / "images", SystemClock(), written.write)
    yield socket_
    socket_.close()


def connected(step: StepSocket) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(step.path))
    return client


def point(name: str, value: object, kind: str = "scalar", **more: str) -> bytes:
    return json.dumps({"kind": kind, "name": name, "value": value, **more}).encode() + b"\n"


async def answered(step: StepSocket, request: bytes) -> dict[str, str]:
    def ask() -> bytes:
        with connected(step) as client:
            client.settimeout(10)
            client.sendall(request)
            return client.makefile("rb").readline()

    answer: dict[str, str] = json.loads(await asyncio.to_thread(ask))
    return answer


async def test_what_a_dead_sender_left_is_read_at_the_end(
    step: StepSocket, written: Written
) -> None:
    for number in range(3):
        with connected(step) as client:  # closed before anybody accepted it
            client.sendall(point("n", number) * 100)
    step.close()
    assert sorted(value for _, value in written.points if isinstance(value, int)) == sorted(
        [0, 1, 2] * 100
    )
    assert step.logged.metrics["n"] in (0, 1, 2)
    assert not step.path.exists()


async def test_a_line_in_pieces_is_one_line_and_half_a_line_is_none(
    step: StepSocket, written: Written
) -> None:
    with connected(step) as client:
        whole = point("a", 1)
        for at in range(len(whole)):
            client.sendall(whole[at : at + 1])
            await asyncio.sleep(0)
        client.sendall(b'{"kind":"scalar","name":"b","val')
        step.close()
    assert written.points == [("a", 1)]


async def test_a_flush_is_answered_after_what_was_sent_before(
    step: StepSocket, written: Written
) -> None:
    assert await answered(step, point("a", 1) + b'{"kind":"flush"}\n') == {}
    assert written.points == [("a", 1)]


@pytest.mark.parametrize(
    ("name", "suffix", "file"),
    [
        ("roc", ".png", "roc.png"),
        ("../../etc/passwd", ".png", "_.._etc_passwd.png"),
        (".hidden", ".svg", "hidden.svg"),
        ("a b/ü", "/../x", "a_b_.png"),
    ],
)
async def test_an_image_lands_in_its_folder_whatever_its_name(
    step: StepSocket, tmp_path: Path, name: str, suffix: str, file: str
) -> None:
    answer = await answered(step, point(name, None, "image", suffix=suffix))
    assert answer == {"path": str(tmp_path / "images" / file)}


async def test_two_images_of_one_name_do_not_overwrite_each_other(
    step: StepSocket,
) -> None:
    first = await answered(step, point("roc", None, "image", suffix=".png"))
    second = await answered(step, point("roc", None, "image", suffix=".png"))
    assert second["path"] != first["path"]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"kind":"other","name":"a"}\n',
        b'{"kind":"scalar","name":""}\n',
        b'{"kind":"scalar","name":"' + b"x" * 300 + b'"}\n',
        b"\xff\n",
    ],
)
async def test_what_is_no_point_is_counted(step: StepSocket, written: Written, line: bytes) -> None:
    with connected(step) as client:
        client.sendall(line + point("a", 1))
    step.close()
    assert (step.refused, written.points) == (1, [("a", 1)])


async def test_a_line_without_end_closes_its_connection_only(
    step: StepSocket, written: Written
) -> None:
    def flood() -> None:
        with connected(step) as client:
            client.settimeout(20)
            client.sendall(b"x" * (2 * LINE_BYTES_MAX))

    with pytest.raises(OSError, match=r"pipe|reset"):
        await asyncio.to_thread(flood)
    assert await answered(step, point("a", 1) + b'{"kind":"flush"}\n') == {}
    assert written.points == [("a", 1)]


async def test_a_path_too_long_for_a_socket_gets_a_short_one(
    tmp_path: Path, written: Written
) -> None:
    root = tmp_path / ("long" * 30)
    root.mkdir()
    step = StepSocket(root, root / "images", SystemClock(), written.write)
    folder = step.path.parent
    assert folder != root
    assert await answered(step, point("a", 1) + b'{"kind":"flush"}\n') == {}
    step.close()
    assert not folder.exists()


async def test_a_stream_has_a_file_once_there_is_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "stdout.txt"
    stream = Stream("stdout", path, Keeping(Budget(10), tail_bytes=4), SystemClock())
    stream.take(b"")
    assert not path.exists()
    stream.take(b"0123456789abcdefgh")
    stream.end()
    data = path.read_bytes()
    assert data.startswith(b"0123456789\n[penstock: ")
    assert data.endswith(b"4 bytes left out here]\nefgh")
    assert (stream.size, stream.read(0, 10)) == (len(data), b"0123456789")
    assert stream.last == b"0123456789abcdefgh"
    stream.close()


async def test_a_full_disk_loses_log_bytes_and_nothing_else(tmp_path: Path) -> None:
    stream = Stream("stdout", Path("/dev/full"), None, SystemClock())
    stream.take(b"x")
    assert stream.problem == "No space left on device"
    assert (stream.size, stream.last) == (0, b"x")
    stream.close()
