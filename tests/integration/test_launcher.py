"""The launcher by itself: what it starts, how that ends, and that nothing of it is left."""

import asyncio
import ctypes
import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.testing.attempts import marked_processes
from penstock_executor.process import Command, Launcher, NotStarted, Running, shell

PATH = os.environ["PATH"]


@pytest.fixture(params=["namespace", "subreaper"])
async def launcher(request: pytest.FixtureRequest) -> AsyncIterator[Launcher]:
    died = asyncio.Event()
    launcher = Launcher(died.set)
    if request.param == "namespace":
        problem = await launcher.probe()
        if problem:
            pytest.skip(f"no PID namespaces on this machine: {problem}")
    yield launcher
    launcher.close()


def start(launcher: Launcher, text: str, **environment: str) -> Running:
    return launcher.start(
        Command([shell(), "-c", text], "/", {"PATH": PATH, **environment}, read_only=())
    )


def written(running: Running) -> tuple[bytes, bytes]:
    """Return what is in both pipes, and close them."""
    found = []
    for fd in (running.stdout, running.stderr):
        with os.fdopen(fd, "rb") as file:
            found.append(file.read() or b"")
    return found[0], found[1]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("exit 0", 0),
        ("exit 7", 7 << 8),
        ("kill -SEGV $$", signal.SIGSEGV),
        ("kill -KILL $$", signal.SIGKILL),
        ("kill -USR1 $$", signal.SIGUSR1),
    ],
)
async def test_a_wait_status_comes_back_as_it_was(
    launcher: Launcher, text: str, status: int
) -> None:
    running = start(launcher, text)
    assert await asyncio.wait_for(running.ended, 20) == status
    assert written(running) == (b"", b"")


async def test_a_command_has_its_own_session_stdin_and_default_signals(launcher: Launcher) -> None:
    code = (
        "import os, signal, sys\n"
        "print(os.getsid(0) == os.getpid(), sys.stdin.read() == '')\n"
        "print(sorted(os.listdir('/proc/self/fd')))\n"
        "ignored = int(open('/proc/self/status').read().split('SigIgn:')[1].split()[0], 16)\n"
        "print([n for n in (2, 13, 15, 17, 25) if ignored >> (n - 1) & 1])\n"
    )
    running = launcher.start(Command([sys.executable, "-I", "-S", "-c", code], "/", {"PATH": PATH}))
    assert await asyncio.wait_for(running.ended, 20) == 0
    out, err = written(running)
    assert err == b""
    first, second, third = out.decode().splitlines()
    assert first == "True True"
    assert second == "['0', '1', '2', '3']"  # 3 is the listing itself
    assert third == "[13, 25]"  # Python's own choice


async def test_in_a_namespace_a_step_sees_only_itself(launcher: Launcher) -> None:
    for _ in range(3):
        running = start(launcher, "ls -d /proc/[0-9]* | wc -l; echo $PPID")
        assert await asyncio.wait_for(running.ended, 20) == 0
        out, _ = written(running)
        seen, parent = (int(line) for line in out.split())
        if launcher.namespace:
            assert (seen <= 5, parent) == (True, 1)
        else:
            assert seen > 5


async def test_a_namespace_serves_again_only_if_it_is_as_it_was(launcher: Launcher) -> None:
    if not launcher.namespace:
        pytest.skip("that is about namespaces")

    async def namespace(text: str) -> str:
        running = start(launcher, f"readlink /proc/self/ns/pid; {text}")
        assert await asyncio.wait_for(running.ended, 20) == 0
        return written(running)[0].decode().strip()

    first = await namespace("true")
    assert await namespace("sleep 600 &") == first
    second = await namespace("true")
    assert second != first  # something was left
    assert await namespace("mount -t tmpfs x /mnt 2>/dev/null || true") == second
    third = await namespace("grep -c ' /mnt ' /proc/self/mountinfo || true")
    assert third.endswith("\n0")
    assert third.split()[0] != second or os.getuid() != 0
    await namespace("true; renice -n 3 1 > /dev/null")
    assert (await namespace("nice")).split()[1] == "0"


async def test_inputs_are_read_only_for_each_command_and_free_after_it(
    launcher: Launcher, tmp_path: Path
) -> None:
    if not launcher.namespace:
        pytest.skip("that is about namespaces")
    for number in range(3):
        folder, other = tmp_path / str(number), tmp_path / str(number + 1)
        folder.mkdir(exist_ok=True)
        other.mkdir(exist_ok=True)
        text = f"touch {folder}/x 2>/dev/null && echo written; touch {other}/y && echo free"
        command = Command([shell(), "-c", text], "/", {"PATH": PATH}, read_only=[str(folder)])
        running = launcher.start(command)
        assert await asyncio.wait_for(running.ended, 20) == 0
        assert written(running)[0] == b"free\n"


async def test_an_init_that_was_killed_while_it_waited_is_replaced(launcher: Launcher) -> None:
    if not launcher.namespace:
        pytest.skip("that is about namespaces")
    running = start(launcher, "true")
    assert await asyncio.wait_for(running.ended, 20) == 0
    written(running)
    before = children_of(launcher.process.pid)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while children_of(launcher.process.pid):  # noqa: ASYNC110 - a killed process sets no event
            await asyncio.sleep(0.01)
    after = start(launcher, "exit 3")
    assert await asyncio.wait_for(after.ended, 20) == 3 << 8
    written(after)
    assert before


async def test_a_long_request_gets_through(launcher: Launcher) -> None:
    for size in (10, 100_000, 10):
        running = start(launcher, 'echo "${#LONG}"', LONG="x" * size)
        assert await asyncio.wait_for(running.ended, 20) == 0
        assert written(running)[0] == b"%d\n" % size


async def test_a_command_that_cannot_be_started_says_why(launcher: Launcher) -> None:
    running = launcher.start(Command(["/no/such/shell", "-c", "true"], "/", {}))
    with pytest.raises(NotStarted, match="No such file"):
        await asyncio.wait_for(running.ended, 20)
    written(running)
    after = start(launcher, "exit 3")
    assert await asyncio.wait_for(after.ended, 20) == 3 << 8
    written(after)


async def test_a_folder_that_is_gone_is_reported(launcher: Launcher) -> None:
    running = launcher.start(Command([shell(), "-c", "true"], "/no/such/folder", {}))
    with pytest.raises(NotStarted, match="No such file"):
        await asyncio.wait_for(running.ended, 20)
    written(running)


async def test_stop_asks_first_and_kills_after_the_grace(launcher: Launcher) -> None:
    mark = f"mark-{secrets.token_hex(8)}"
    running = start(launcher, "trap '' TERM; echo up; while :; do sleep 0.05; done", MARK=mark)
    await asyncio.get_running_loop().run_in_executor(None, wait_for_bytes, running.stdout)
    loop = asyncio.get_running_loop()
    began = loop.time()
    running.stop(0.5)
    running.stop(60)  # the first order counts
    assert await asyncio.wait_for(running.ended, 20) == signal.SIGKILL
    assert 0.4 < loop.time() - began < 10
    assert marked_processes(mark) == []
    written(running)


async def test_when_the_launcher_closes_commands_end(launcher: Launcher) -> None:
    mark = f"mark-{secrets.token_hex(8)}"
    running = start(launcher, "echo up; sleep 600", MARK=mark)
    await asyncio.get_running_loop().run_in_executor(None, wait_for_bytes, running.stdout)
    running.kill()
    assert await asyncio.wait_for(running.ended, 20) == signal.SIGKILL
    assert marked_processes(mark) == []
    written(running)


async def test_hundred_commands_at_a_time_get_their_own_status(launcher: Launcher) -> None:
    all_running = [start(launcher, f"exit {number}") for number in range(100)]
    statuses = [await asyncio.wait_for(running.ended, 60) for running in all_running]
    assert statuses == [number << 8 for number in range(100)]
    for running in all_running:
        written(running)


LIMITED = """
import asyncio, os, sys
from penstock_executor.process import Command, Launcher
async def main():
    launcher = Launcher(lambda: None)
    print(await launcher.probe() or "namespace", flush=True)
    text = "echo $PPID; touch " + sys.argv[1] + "/x 2>/dev/null || echo read-only; kill -SEGV $$"
    running = launcher.start(Command(["/bin/sh", "-c", text], "/", {}, read_only=[sys.argv[1]]))
    print(await running.ended)
    print(os.read(running.stdout, 1000).decode(), end="")
    launcher.close()
asyncio.run(main())
"""
PR_CAPBSET_DROP = 24
CAP_SYS_ADMIN = 21


@pytest.mark.skipif(os.getuid() != 0, reason="only root has a privilege to lose")
def test_without_privileges_a_user_namespace_serves(tmp_path: Path) -> None:
    prctl = ctypes.CDLL(None).prctl
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0),
    )
    if done.stdout and not done.stdout.startswith("namespace"):
        pytest.skip(f"no user namespaces here: {done.stdout}")
    expected = ["namespace", str(int(signal.SIGSEGV)), "1", "read-only"]
    assert done.stdout.splitlines() == expected, done.stderr


def children_of(pid: int) -> list[int]:
    """Return the processes that `pid` has started and that live."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(one) for one in text.split()]


def wait_for_bytes(fd: int) -> None:
    """Return when there is something to read."""
    assert select.select([fd], [], [], 20)[0]
