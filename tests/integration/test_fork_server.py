"""Fork servers by themselves: what they import beforehand, what they leave out, how they end."""

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.forked.both_ways import BothWays, ended

from penstock.errors import Transient
from penstock.testing.attempts import marked_processes
from penstock_executor.process import shell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shell().endswith("bash"), reason="no bash"),
]

LEARNING = """
import sys
print([n for n in ('numpy', 'sklearn', 'joblib', 'json') if n in sys.modules])
import os, threading, warnings
warnings.filterwarnings('ignore')
import numpy as np
print(np.__spec__.name, np.__spec__.loader is np.__loader__)
a = np.arange(250000.0).reshape(500, 500)
print(float((a @ a).sum()), threading.active_count())
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
x = np.random.RandomState(0).rand(120, 5); y = (x[:, 0] > 0.5).astype(int)
print(RandomForestClassifier(20, n_jobs=2, random_state=0).fit(x, y).score(x, y))
print(cross_val_score(LogisticRegression(), x, y, n_jobs=2).round(3).tolist())
import joblib, pickle
print(joblib.Parallel(2, 'threading')(joblib.delayed(abs)(i) for i in range(3)))
print(type(pickle.loads(pickle.dumps(LogisticRegression()))).__name__)
print(os.environ.get('KMP_INIT_AT_FORK'), sorted({str(f[:3]) for f in warnings.filters}))
"""
MODULES = ["numpy", "sklearn.ensemble", "sklearn.linear_model", "sklearn.model_selection"]


@pytest.fixture
async def ways(tmp_path: Path) -> AsyncIterator[BothWays]:
    ways = BothWays(tmp_path)
    await ways.open(namespace=True)
    yield ways
    ways.close()


async def test_packages_imported_beforehand_work_as_those_that_a_step_imports(
    ways: BothWays, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text(LEARNING)
    command = ways.command("python s.py", tmp_path)
    plain = await ended(await ways.plain(command))
    await ended(await ways.forked(command, MODULES))
    await ways.preloaded(command, MODULES)
    forked = await ended(await ways.forked(command, MODULES))
    assert forked == plain
    assert plain.status == 0


async def test_each_step_has_its_own_random_numbers(ways: BothWays, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import numpy, random, uuid, multiprocessing\n"
        "print(numpy.random.rand(), random.random(), uuid.uuid4(), multiprocessing.current_process().authkey)\n"
    )
    command = ways.command("python s.py", tmp_path)
    await ways.forked(command, ["numpy", "random"])
    await ways.preloaded(command, ["numpy"])
    seen = [
        (await ended(await ways.forked(command, ["numpy"]))).stdout.split(b" ", 3) for _ in range(4)
    ]
    for one in zip(*seen, strict=True):
        assert len(set(one)) == 4


async def test_a_step_leaves_no_trace_in_the_next(ways: BothWays, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import numpy, os, sys, json\n"
        "print(getattr(numpy, 'mark', None), os.environ.get('MARK'), getattr(json, 'mark', None))\n"
        "numpy.mark = json.mark = 1; os.environ['MARK'] = 'x'; sys.path.append('/x'); print(sys.path.count('/x'))\n"
    )
    command = ways.command("python s.py", tmp_path)
    await ways.forked(command, ["numpy"])
    await ways.preloaded(command, ["numpy"])
    for _ in range(3):
        found = await ended(await ways.forked(command, ["numpy"]))
        assert found.stdout == b"None None None\n1\n", found


async def test_what_a_step_brings_itself_hides_what_is_installed(
    ways: BothWays, tmp_path: Path
) -> None:
    (tmp_path / "numpy.py").write_text("mine = True\n")
    (tmp_path / "s.py").write_text("import numpy; print(numpy.mine)\n")
    command = ways.command("python s.py", tmp_path)
    await ways.forked(command, ["numpy"])
    await ways.preloaded(command, ["numpy"])
    assert (await ended(await ways.forked(command, ["numpy"]))).stdout == b"True\n"


async def test_unfit_modules_are_left_out_and_remembered(ways: BothWays, tmp_path: Path) -> None:
    """`this` prints when it is imported, `no_such` is none, the folder of a step is never imported."""
    (tmp_path / "mine.py").write_text("open('/tmp/never', 'w')\n")
    (tmp_path / "s.py").write_text("print('ok')\n")
    command = ways.command("python s.py", tmp_path)
    modules = ["this", "antigravity_no_such", "mine", "numpy"]
    await ways.forked(command, modules)
    await ways.preloaded(command, ["numpy"])
    [learned] = json.loads((tmp_path / "preload.json").read_bytes()).values()
    assert learned["modules"] == ["numpy"]
    assert set(learned["unfit"]) == set(modules) - {"numpy"}


async def test_a_damaged_file_of_what_was_learned_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "preload.json").write_bytes(b'{"x": 7')
    (tmp_path / "s.py").write_text("print('ok')\n")
    ways = BothWays(tmp_path)
    await ways.open(namespace=True)
    try:
        found = await ended(await ways.forked(ways.command("python s.py", tmp_path)))
        assert found.stdout == b"ok\n"
    finally:
        ways.close()


async def test_a_changed_environment_gets_a_fresh_interpreter(
    ways: BothWays, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text(
        "import os; print(open(f'/proc/{os.getpid()}/stat').read() != '')\n"
    )
    command = ways.command("python s.py", tmp_path)
    await ended(await ways.forked(command))
    [pair] = ways.forks._pairs.values()
    first = pair.small
    assert first is not None
    first.watched = {**first.watched, str(tmp_path / "site"): 1}  # as if it had been installed into
    assert command.program is not None
    assert ways.forks.start(command, command.program, ()) is None
    await ended(await ways.forked(command))
    assert pair.small is not first


async def test_when_a_server_is_killed_its_steps_are_lost_and_the_next_one_runs(
    ways: BothWays, tmp_path: Path
) -> None:
    mark = f"mark-{secrets.token_hex(8)}"
    (tmp_path / "s.py").write_text("import time; print('up', flush=True); time.sleep(600)\n")
    (tmp_path / "ok.py").write_text("print('ok')\n")
    running = await ways.forked(ways.command("python s.py", tmp_path, MARK=mark))
    await asyncio.wait_for(running.started.wait(), 20)
    async with asyncio.timeout(20):
        while not marked_processes(mark):  # noqa: ASYNC110 - other processes set no events of ours
            await asyncio.sleep(0.01)
    [pair] = ways.forks._pairs.values()
    assert pair.small is not None
    os.kill(pair.small.process.pid, signal.SIGKILL)
    with pytest.raises(Transient, match="init was killed"):
        await asyncio.wait_for(running.ended, 20)
    async with asyncio.timeout(20):
        while marked_processes(mark):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    for fd in (running.stdout, running.stderr):
        os.close(fd)
    found = await ended(await ways.forked(ways.command("python ok.py", tmp_path)))
    assert found.stdout == b"ok\n"


async def test_a_stopped_step_is_killed_with_all_it_started(ways: BothWays, tmp_path: Path) -> None:
    mark = f"mark-{secrets.token_hex(8)}"
    (tmp_path / "s.py").write_text(
        "import signal, subprocess, time, os\nsignal.signal(15, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\nif os.fork(): print('up', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    running = await ways.forked(ways.command("python s.py", tmp_path, MARK=mark))
    async with asyncio.timeout(20):
        while len(marked_processes(mark)) < 3:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    running.stop(0.2)
    assert await asyncio.wait_for(running.ended, 20) == signal.SIGKILL
    assert marked_processes(mark) == []
    for fd in (running.stdout, running.stderr):
        os.close(fd)


async def test_variables_that_native_code_reads_get_a_server_of_their_own(
    ways: BothWays, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text("import os; print(os.environ['OMP_NUM_THREADS'], hash('a'))\n")
    found = []
    for number in ("1", "2", "1"):
        command = ways.command("python s.py", tmp_path, OMP_NUM_THREADS=number, PYTHONHASHSEED="3")
        found.append((await ended(await ways.forked(command))).stdout)
    assert found[0] == found[2] != found[1]
    assert len(ways.forks._pairs) == 2


async def test_a_step_may_ask_for_a_plain_process(ways: BothWays, tmp_path: Path) -> None:
    command = ways.command("python s.py", tmp_path, PENSTOCK_FORK_SERVER="off")
    assert command.program is not None
    assert ways.forks.start(command, command.program, ()) is None
    assert ways.forks._pairs == {}
