"""`penstock up`, `down` and `status` as a user meets them: real processes, real signals."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from penstock.bus.nats import connect
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable
from penstock.runtime import stack
from penstock.testing.servers import NATS_BINARY, binary

pytestmark = pytest.mark.server

PENSTOCK = [sys.executable, "-m", "penstock.cli.main"]
SERVICES = {"nats", "artifact", "executor", "planner", "scheduler", "trigger"}
WAIT_S = 60.0
EMPTY = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}


def penstock(
    *words: str, cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PENSTOCK, *words],
        cwd=cwd,
        env={**EMPTY, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def status(folder: Path) -> dict[str, object]:
    answer: dict[str, object] = json.loads(penstock("status", "-o", "json", cwd=folder).stdout)
    return answer


def pids(folder: Path) -> dict[str, int]:
    found = stack.find(folder)
    assert found is not None
    return {service.name: service.pid for service in found.services}


def executors_of(folder: Path) -> list[tuple[list[str], int]]:
    told = status(folder)["executors"]
    assert isinstance(told, list)
    return sorted((executor["targets"], executor["slots"]) for executor in told)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s for {what}"
        time.sleep(0.02)


def is_ready(folder: Path) -> bool:
    found = stack.find(folder)
    return found is not None and found.seen().state == "ready"


def _command_lines() -> str:
    """Return what everybody on this machine may read of every process."""
    if sys.platform != "linux":
        return subprocess.run(
            ["ps", "-eo", "args"], capture_output=True, text=True, check=True
        ).stdout
    lines = []  # a small Linux has no ps
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(file.read_bytes().decode(errors="replace"))
    assert any("nats-server" in line for line in lines)
    return "\n".join(lines)


def gone(pid: int) -> bool:
    return stack.birth_of(pid) == ""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder without a stack; whatever the test starts in it or below is stopped."""
    if binary(NATS_BINARY) is None:
        pytest.skip(f"{NATS_BINARY} is neither beside this Python nor on PATH")
    yield tmp_path
    for file in tmp_path.rglob(stack.STATE_FILE):
        penstock("down", "--timeout", "10", "--dir", str(file.parent), cwd=tmp_path)


@pytest.fixture
def running(folder: Path) -> Path:
    """A folder with a stack that is ready."""
    started = penstock("up", "--detach", cwd=folder)
    assert started.returncode == 0, started.stderr
    return folder


def test_up_detach_returns_when_every_service_is_ready(running: Path) -> None:
    told = status(running)
    services = told["services"]
    assert isinstance(services, list)
    assert told["state"] == "ready"
    assert {(s["name"], s["state"]) for s in services} == {(name, "ready") for name in SERVICES}
    assert all(stack.birth_of(s["pid"]) for s in services)
    assert told["gateway"] is None


def test_the_bus_refuses_whoever_has_no_password_and_listens_on_loopback_only(
    running: Path,
) -> None:
    url = urlsplit(str(status(running)["bus"]))
    assert url.hostname == "127.0.0.1"
    assert url.password
    with socket.create_connection(("127.0.0.1", url.port or 0), timeout=5) as connection:
        connection.settimeout(5)
        assert b'"auth_required":true' in connection.recv(4096)
        connection.sendall(b"CONNECT {}\r\nPING\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(4096):
                answer += piece
        assert b"Authorization Violation" in answer


def test_what_holds_passwords_is_readable_by_its_owner_only(running: Path) -> None:
    home = running / stack.FOLDER
    for file in (home / "state.json", home / "bus" / "nats.conf", home / "bus" / "identity.json"):
        assert file.stat().st_mode & 0o777 == 0o600, file
    assert home.stat().st_mode & 0o777 == 0o700
    password = urlsplit(str(status(running)["bus"])).password
    assert password
    assert password not in _command_lines()


def test_a_second_up_changes_nothing_and_says_what_runs(running: Path) -> None:
    before = pids(running)
    second = penstock("up", "--detach", cwd=running)
    assert second.returncode == 0
    assert "already running" in second.stdout
    assert "127.0.0.1:" in second.stdout
    assert pids(running) == before


def test_a_second_up_that_asks_for_something_else_is_refused(running: Path) -> None:
    second = penstock("up", "--detach", "--workspace", "other", cwd=running)
    assert second.returncode == 2
    assert "E_RUNNING" in second.stderr
    assert "--workspace" in second.stderr


def test_commands_find_the_stack_from_a_folder_below(running: Path) -> None:
    below = running / "a" / "b"
    below.mkdir(parents=True)
    assert status(below)["state"] == "ready"
    assert "already running" in penstock("up", "--detach", cwd=below).stdout


def test_down_stops_everything_and_up_comes_back_with_the_same_address(running: Path) -> None:
    before, address = pids(running), status(running)["bus"]
    stopped = penstock("down", cwd=running)
    assert stopped.returncode == 0, stopped.stderr
    assert all(gone(pid) for pid in before.values())
    told = penstock("status", "-o", "json", cwd=running)
    assert (told.returncode, json.loads(told.stdout)["state"]) == (3, "stopped")
    assert penstock("down", cwd=running).returncode == 0
    assert penstock("up", "--detach", cwd=running).returncode == 0
    assert status(running)["bus"] == address


def test_two_stacks_in_two_folders_do_not_meet(folder: Path) -> None:
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    for name in ("one", "two"):
        assert penstock("up", "--detach", cwd=folder / name).returncode == 0
    one, two = status(folder / "one"), status(folder / "two")
    assert one["state"] == two["state"] == "ready"
    assert one["bus"] != two["bus"]
    assert penstock("down", cwd=folder / "one").returncode == 0
    assert status(folder / "two")["state"] == "ready"


def test_two_at_once_in_one_folder_start_one_stack(folder: Path) -> None:
    both = [
        subprocess.Popen(
            [*PENSTOCK, "up", "--detach"],
            cwd=folder,
            env=EMPTY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sorted("already running" in out for out, _ in told) == [False, True]


@pytest.mark.parametrize("name", ["planner", "nats", "executor"])
def test_a_killed_child_is_started_again(running: Path, name: str) -> None:
    victim = pids(running)[name]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: gone(victim), f"the end of {name}")
    wait_for(lambda: is_ready(running) and pids(running)[name] != victim, f"{name} to come back")
    services = status(running)["services"]
    assert isinstance(services, list)
    assert {s["name"]: s.get("restarts", 0) for s in services}[name] == 1


def test_a_killed_supervisor_leaves_no_process_behind(running: Path) -> None:
    found = stack.find(running)
    assert found is not None
    children = pids(running)
    os.kill(found.supervisor_pid, signal.SIGKILL)
    for name, pid in children.items():
        wait_for(lambda pid=pid: gone(pid), f"the end of {name}")  # type: ignore[misc]
    assert status(running)["state"] == "stopped"
    again = penstock("up", "--detach", cwd=running)
    assert again.returncode == 0, again.stderr
    assert is_ready(running)


def test_in_the_foreground_one_interrupt_stops_everything(folder: Path) -> None:
    process = subprocess.Popen(
        [*PENSTOCK, "up"],
        cwd=folder,
        env=EMPTY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: is_ready(folder), "the stack to be ready")
    children = pids(folder)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "penstock is ready" in out
    assert "Traceback" not in err
    assert all(gone(pid) for pid in children.values())


def test_a_service_that_does_not_start_is_shown_with_its_last_words(folder: Path) -> None:
    answer = penstock("up", "--detach", cwd=folder, environment={"PENSTOCK_EXECUTOR_SLOTS": "many"})
    assert answer.returncode == 1
    assert "executor does not start" in answer.stderr
    assert "PENSTOCK_EXECUTOR_SLOTS" in answer.stderr
    found = stack.find(folder)
    assert found is not None
    assert not found.alive()
    assert all(service.pid == 0 for service in found.services)


def test_a_store_that_is_none_is_refused_before_anything_starts(folder: Path) -> None:
    answer = penstock("up", "--detach", "--store", "ftp://u:secret@host/x", cwd=folder)
    assert answer.returncode == 2
    assert "E_CONFIG" in answer.stderr
    assert "secret" not in answer.stderr


def test_a_directory_that_cannot_be_made_is_a_clear_error(folder: Path) -> None:
    (folder / "file").write_text("")
    answer = penstock("up", "--detach", "--dir", str(folder / "file" / "below"), cwd=folder)
    assert answer.returncode == 2
    assert "E_DIR" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_port_that_somebody_took_meanwhile_is_replaced(running: Path) -> None:
    port = urlsplit(str(status(running)["bus"])).port
    assert penstock("down", cwd=running).returncode == 0
    with socket.create_server(("127.0.0.1", port or 0)):
        assert penstock("up", "--detach", cwd=running).returncode == 0
        assert urlsplit(str(status(running)["bus"])).port != port


def test_only_the_artifact_service_learns_the_key_of_the_store(folder: Path) -> None:
    # Nothing listens there: the artifact service says so and serves on, as it must after a power cut.
    store = "s3+http://key:very-secret@127.0.0.1:9/bucket"
    started = penstock("up", "--detach", "--store", store, cwd=folder)
    assert started.returncode == 0, started.stderr
    for name, pid in pids(folder).items():
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert (b"very-secret" in environment) == (name == "artifact"), name
    assert "very-secret" not in penstock("status", "-o", "json", cwd=folder).stdout


def test_with_a_bus_of_ones_own_no_other_is_started(running: Path) -> None:
    other = running / "other"
    other.mkdir()
    bus = str(status(running)["bus"])
    words = ("--dir", str(other / ".penstock"), "--workspace", "second")
    assert penstock("up", "--detach", "--bus", bus, *words, cwd=other).returncode == 0
    assert set(pids(other)) == SERVICES - {"nats"}
    asked = penstock("status", "--bus", bus, "--workspace", "second", "-o", "json", cwd=other)
    assert json.loads(asked.stdout)["state"] == "ready"


def test_the_doctor_finds_a_running_stack_well(running: Path) -> None:
    answer = penstock("doctor", "-o", "json", cwd=running)
    assert answer.returncode == 0, answer.stdout
    states = {check["check"]: check["state"] for check in json.loads(answer.stdout)}
    assert set(states.values()) <= {"ok", "warning"}
    assert {"streams", "store", "scheduler", "executor", "fsync of the bus"} <= set(states)


def test_the_doctor_is_red_about_passwords_that_others_may_read(running: Path) -> None:
    (running / stack.FOLDER / "state.json").chmod(0o644)
    answer = penstock("doctor", cwd=running)
    assert answer.returncode == 1
    assert "chmod 600" in answer.stdout


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mkfs.ext4") is None,
    reason="needs Linux, root and mkfs.ext4 to make a small disk",
)
@pytest.mark.slow
def test_a_full_disk_is_told_and_left_when_there_is_space_again(folder: Path) -> None:
    disk, image = folder / "disk", folder / "image"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(600 * 1024**2)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, disk], check=False).returncode:
        pytest.skip("loop devices cannot be mounted here")
    filler = disk / "filler"
    try:
        assert penstock("up", "--detach", cwd=disk).returncode == 0
        bus = str(status(disk)["bus"])
        fill(filler)
        with pytest.raises(BusUnavailable):
            asyncio.run(append_much(bus))
        wait_for(lambda: status(disk)["state"] == "degraded", "the supervisor to notice")
        filler.unlink()
        wait_for(lambda: is_ready(disk), "the bus to be restarted")
        asyncio.run(append_much(bus))
        assert penstock("down", cwd=disk).returncode == 0
        fill(filler)
        refused = penstock("up", "--detach", cwd=disk)
        assert refused.returncode == 4
        assert "E_DISK" in refused.stderr
    finally:
        penstock("down", "--timeout", "5", cwd=disk)
        subprocess.run(["umount", disk], check=False)


def fill(file: Path) -> None:
    """Take all the space that is left, to the last block."""
    for size in (1024**2, 512):
        with contextlib.suppress(OSError), file.open("ab", buffering=0) as opened:
            while opened.write(b"\0" * size) == size:
                pass


async def append_much(url: str) -> None:
    """Append a few messages that are larger than what a filled disk may still hide."""
    bus = await connect(url, name="test")
    try:
        for _ in range(5):
            subject = Subjects().trigger_event("test", "fired")
            await bus.append(subject, b"x" * 500_000, timeout_s=2)
    finally:
        await bus.close()


def test_an_executor_of_another_target_joins_the_stack_of_this_folder(folder: Path) -> None:
    assert penstock("up", "--detach", "--targets", "default,gpu", cwd=folder).returncode == 0
    again = penstock("up", "--detach", "--targets", "gpu", cwd=folder)
    assert again.returncode == 2
    assert "--targets" in again.stderr
    with subprocess.Popen(
        [*PENSTOCK, "serve", "executor", "--targets", "lab", "--slots", "3"],
        cwd=folder, env=EMPTY, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as joining:  # fmt: skip
        try:
            assert joining.stderr is not None
            assert str(folder / stack.FOLDER) in joining.stderr.readline()
            wait_for(lambda: len(executors_of(folder)) == 2, "the second executor")
            found = executors_of(folder)
            assert [targets for targets, _ in found] == [["default", "gpu"], ["lab"]]
            assert found[1] == (["lab"], 3)
        finally:
            joining.terminate()


def test_config_tells_people_and_shells_where_the_stack_of_this_folder_is(running: Path) -> None:
    told = penstock("config", "env", cwd=running).stdout
    bus = str(status(running)["bus"])
    assert told == f"export PENSTOCK_BUS={bus}\nexport PENSTOCK_WORKSPACE=penstock\n"
    shown = json.loads(penstock("config", "show", "-o", "json", cwd=running).stdout)
    setting = next(row for row in shown if row["setting"] == "bus")
    password = urlsplit(bus).password or ""
    assert setting["value"] == bus.replace(f"penstock:{password}", "***")
    assert setting["source"] == f"stack of {running / stack.FOLDER}"
    other = penstock(
        "config", "show", "-o", "json", cwd=running, environment={"PENSTOCK_BUS": "nats://x"}
    )
    assert {"setting": "bus", "value": "nats://x", "source": "environment PENSTOCK_BUS"} in (
        json.loads(other.stdout)
    )


def test_a_service_whose_log_nobody_reads_any_more_still_stops(running: Path) -> None:
    with subprocess.Popen(
        [*PENSTOCK, "serve", "executor"],
        cwd=running, env=EMPTY, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as service:  # fmt: skip
        assert service.stderr is not None
        try:
            assert any('"event": "ready"' in line for line in service.stderr)
            service.stderr.close()
            service.terminate()
            assert service.wait(WAIT_S) == 0
        finally:
            service.kill()


def test_steps_run_in_a_folder_whose_name_has_blanks_quotes_and_umlauts(folder: Path) -> None:
    place = folder / "Jörg's own  $work"
    place.mkdir()
    (place / "data.txt").write_text("found")
    (place / "pipeline.yml").write_text(
        "type: pipeline\njobs:\n"
        "  a: {command: 'cat ${{inputs.i}} > ${{outputs.o}}/x', outputs: {o: },"
        " inputs: {i: {type: uri_file, path: data.txt}}}\n"
        "  b: {command: 'cat ${{inputs.o}}/x', inputs: {o: '${{parent.jobs.a.outputs.o}}'}}\n"
    )
    assert penstock("up", "--detach", cwd=place).returncode == 0
    done = penstock("submit", "pipeline.yml", "--wait", "-o", "name", cwd=place)
    assert done.returncode == 0, done.stderr
    logs = penstock("run", "logs", done.stdout.strip(), "--step", "b", cwd=place)
    assert logs.stdout == "found\n"
