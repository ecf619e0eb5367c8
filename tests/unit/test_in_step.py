"""`penstock.current_run()` outside a run, and what it puts on the wire inside one."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.sdk.in_step import CurrentRun, current_run


class Peer:
    """The other end of a step's socket."""

    def __init__(self, path: Path) -> None:
        self.lines: list[dict[str, Any]] = []
        self.images = path.parent / "images"
        self.images.mkdir()
        self.arrived = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def wait(self, count: int) -> list[dict[str, Any]]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.lines) >= count, 10)
        return self.lines

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            for line in file:
                point = json.loads(line)
                if point["kind"] == "flush":
                    connection.sendall(b"{}\n")
                    continue
                if point["kind"] == "image":
                    path = self.images / f"{point['name']}{point['suffix']}"
                    connection.sendall(json.dumps({"path": str(path)}).encode() + b"\n")
                with self.arrived:
                    self.lines.append(point)
                    self.arrived.notify_all()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    peer = Peer(tmp_path / "socket")
    yield peer
    peer.close()


@pytest.fixture
def run(peer: Peer, tmp_path: Path) -> Iterator[CurrentRun]:
    run = CurrentRun(
        {
            "PENSTOCK_STEP_SOCKET": str(tmp_path / "socket"),
            "PENSTOCK_RUN_ID": "06fac3vcr2v7947",
            "PENSTOCK_STEP": "train",
            "PENSTOCK_ATTEMPT": "2",
            "PENSTOCK_EXPERIMENT": "trial",
            "PENSTOCK_PARAMETERS": '{"rate": 0.5}',
            "PENSTOCK_INPUTS": '{"data": "/in/data"}',
            "PENSTOCK_OUTPUTS": '{"model": "/out/model"}',
        }
    )
    yield run
    run._forget()


def test_outside_a_run_everything_prints_and_nothing_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = CurrentRun({})
    run.log("loss", 0.5)
    run.log_list("losses", [1, 2])
    run.log_row("epochs", epoch=1)
    run.log_table("table", {"a": [1]})
    run.log_image("roc", path="roc.png")
    run.tag("key", "value")
    run.flush()
    assert (run.offline, run.id, run.parameters) == (True, "offline", {})
    assert run.tags == {"key": "value"}
    printed = capsys.readouterr().out
    assert "loss = 0.5" in printed
    assert "image roc" in printed
    assert current_run() is current_run()


def test_a_step_learns_of_its_run(run: CurrentRun) -> None:
    assert (run.id, run.step, run.attempt, run.experiment) == (
        "06fac3vcr2v7947",
        "train",
        2,
        "trial",
    )
    assert run.parameters == {"rate": 0.5}
    assert run.input("data") == Path("/in/data")
    assert run.output("model") == Path("/out/model")
    with pytest.raises(KeyError, match="this step has: data"):
        run.input("date")


class Scalar:
    """As numpy's scalars are."""

    def item(self) -> float:
        return 1.5


class Array:
    """As numpy's arrays are."""

    def tolist(self) -> list[float]:
        return [1.0, math.inf]


def test_values_travel_as_json_can_carry_them(run: CurrentRun, peer: Peer) -> None:
    run.log("nan", math.nan)
    run.log("low", -math.inf)
    run.log("flag", value=True)
    run.log("scalar", Scalar())  # type: ignore[arg-type]
    run.log_list("list", Array())  # type: ignore[arg-type]
    run.flush()
    assert [(p["name"], p["value"]) for p in peer.wait(5)] == [
        ("nan", "NaN"),
        ("low", "-Infinity"),
        ("flag", True),
        ("scalar", 1.5),
        ("list", [1.0, "Infinity"]),
    ]


def test_an_image_is_put_where_the_executor_says(
    run: CurrentRun, peer: Peer, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"JPG")
    run.log_image("photo", path=tmp_path / "a.jpg")

    class Figure:
        def savefig(self, path: str) -> None:
            Path(path).write_bytes(b"PNG")

    run.log_image("roc", plot=Figure())
    assert (peer.images / "photo.jpg").read_bytes() == b"JPG"
    assert (peer.images / "roc.png").read_bytes() == b"PNG"
    with pytest.raises(ValueError, match="either path or plot"):
        run.log_image("none")


@pytest.mark.parametrize("name", ["", "x" * 251])
def test_a_name_that_is_none_is_refused_at_once(run: CurrentRun, name: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        run.log(name, 1)


def test_something_too_large_is_refused_with_advice(run: CurrentRun) -> None:
    with pytest.raises(ValueError, match="Write it to an output"):
        run.log("huge", "x" * (9 * 1024 * 1024))


def test_threads_and_forked_children_may_log_at_the_same_time(run: CurrentRun, peer: Peer) -> None:
    def work(who: int) -> None:
        for number in range(200):
            run.log(f"thread{who}", number)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    child = os.fork()
    if child == 0:
        for number in range(200):
            run.log("child", number)
        os._exit(0)
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    lines = peer.wait(800)
    for name in ("thread0", "thread1", "thread2", "child"):
        assert [p["value"] for p in lines if p["name"] == name] == list(range(200))


def test_a_lost_executor_loses_metrics_but_not_the_steps_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = CurrentRun({"PENSTOCK_STEP_SOCKET": str(tmp_path / "nobody")})
    run.log("loss", 1)
    run.log("loss", 2)
    assert capsys.readouterr().err.count("not logged") == 1


def test_loading_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import penstock; penstock.current_run()\n"
        "print(' '.join(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "nats", "msgspec", "socket", "ssl", "blake3", "numpy", "click"}
