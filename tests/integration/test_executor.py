"""A real executor on a real bus, with a real artifact service: the B corpus of reliability.md §5c."""

import asyncio
import secrets
import shlex
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.bus import Delivery, Received
from penstock.bus.nats import connect
from penstock.bus.topology import work_consumer
from penstock.contracts.codec import decoded
from penstock.contracts.logs import ATTEMPT_BYTES_MAX
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptFailed, AttemptStarted, WorkInput, WorkItem
from penstock.ids import run_id
from penstock.testing.attempts import Attempts, marked_processes
from penstock.testing.fleet import Fleet
from penstock.testing.images import IMAGE
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock.units import MIB, Seconds
from penstock_executor.decide.outcome import DELIVERIES_MAX

pytestmark = pytest.mark.server

FILE = PlannedOutput(type="uri_file", file="m.bin")
FOLDER = PlannedOutput()
GONE_S = 5.0


def python(code: str) -> str:
    """Return a command line that runs `code`, as a step would be written."""
    return f"python -c {shlex.quote(code)}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("executor")


def kind_of(mode: str) -> dict[str, str]:
    """Return the settings of an executor with namespaces (auto), without (off), or with containers."""
    return {"kind": "docker", "image": IMAGE} if mode == "docker" else {"namespace": mode}


@pytest.fixture(
    scope="module", params=["auto", "off", pytest.param("docker", marks=pytest.mark.docker)]
)
def fleet(
    request: pytest.FixtureRequest, nats: NatsServer, root: Path
) -> Iterator[tuple[Fleet, str]]:
    """An executor of two slots, with namespaces, without, or with containers, and an artifact service."""
    mode: str = request.param
    directory = root / mode
    store = f"file:{directory / 'store'}"
    workspace = f"t{secrets.token_hex(5)}"
    with Fleet(directory, bus=nats.url, store=store, workspace=workspace) as fleet:
        fleet.start("artifact")
        if mode == "docker":
            request.getfixturevalue("image")
        fleet.start("executor", slots="2", drain_s="1", **kind_of(mode))
        yield fleet, mode


@pytest.fixture
async def attempts(
    fleet: tuple[Fleet, str], nats: NatsServer, tmp_path: Path
) -> AsyncIterator[Attempts]:
    names = Subjects(fleet[0].workspace)
    bus = await connect(nats.url, name="attempts")
    trees = TreeClient(bus, names, cache=tmp_path / "cache", patience_s=20)
    attempts = Attempts(bus, names, trees)
    await attempts.open()
    yield attempts
    await trees.close()
    await bus.close()


async def until(true: Callable[[], Awaitable[object]], timeout_s: float = 20) -> None:
    """Return once `true` returns something true, asked again and again."""
    async with asyncio.timeout(timeout_s):
        while not await true():  # noqa: ASYNC110 - other processes set no events of ours
            await asyncio.sleep(0.02)


async def gone(mark: str) -> bool:
    """Say whether no process carries `mark` any more, waiting GONE_S for that."""
    deadline = time.monotonic() + GONE_S
    while marked_processes(mark):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def marked(mark: str, count: int) -> None:
    """Return when that many processes carry `mark`."""

    async def there() -> bool:
        return len(marked_processes(mark)) >= count

    await until(there)


async def failed(attempts: Attempts, command: str, **fields: Any) -> AttemptFailed:
    given = await attempts.give(command, **fields)
    return await given.failure()


# -- how it ends -------------------------------------------------------------------------------------
async def test_a_step_that_writes_its_outputs_succeeds_and_its_bytes_are_stored(
    attempts: Attempts,
) -> None:
    given = await attempts.give(
        "echo working && printf abc > ${{outputs.one}} && mkdir ${{outputs.many}}/sub &&\n"
        "  printf x > ${{outputs.many}}/sub/x && printf y > ${{outputs.many.path}}/y",
        outputs={"one": FILE, "many": FOLDER},
    )
    result = await given.success()
    assert await attempts.files(result.outputs["one"].digest) == {"m.bin": b"abc"}
    assert await attempts.files(result.outputs["many"].digest) == {"sub/x": b"x", "y": b"y"}
    assert (await attempts.archived(given))["stdout.txt"] == b"working\n"
    assert [type(report) for report in given.reports] == [AttemptStarted, type(result)]


@pytest.mark.parametrize("code", [1, 3, 255])
async def test_an_exit_code_is_reported_as_it_was(attempts: Attempts, code: int) -> None:
    failure = (await failed(attempts, f"echo oops >&2; exit {code}")).failure
    assert (failure.code, failure.exit_code) == ("E_EXIT", code)
    assert failure.log_tail == "oops\n"


@pytest.mark.parametrize("name", ["SEGV", "ABRT", "KILL", "TERM"])
async def test_a_signal_is_reported_by_name(attempts: Attempts, name: str) -> None:
    failure = (await failed(attempts, f"kill -{name} $$")).failure
    assert (failure.code, failure.signal) == ("E_SIGNAL", f"SIG{name}")


async def test_a_command_that_does_not_exist_is_not_tried_again(attempts: Attempts) -> None:
    result = await failed(attempts, "no-such-command --now")
    assert result.failure.exit_code == 127
    assert "command not found" in result.failure.hint
    assert "no-such-command" in result.failure.log_tail
    assert not result.retriable


async def test_an_expression_without_a_value_fails_before_anything_runs(attempts: Attempts) -> None:
    given = await attempts.give("echo ${{inputs.x}}")
    result = await given.failure()
    assert result.failure.code == "E_COMMAND"
    assert not any(isinstance(report, AttemptStarted) for report in given.reports)


async def test_a_missing_output_is_named(attempts: Attempts) -> None:
    failure = (await failed(attempts, "true", outputs={"model": FILE, "log": FOLDER})).failure
    assert failure.code == "E_OUTPUT_MISSING"
    assert "'model'" in failure.message
    assert "out/model/m.bin" in failure.message


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("mkdir -p ${{outputs.o}}", FILE),
        ("ln -s /etc/passwd ${{outputs.o}}", FILE),
        ("rmdir ${{outputs.o}} && ln -s /etc ${{outputs.o}}", FOLDER),
        ("ln -s /etc/passwd ${{outputs.o}}/x", FOLDER),
        ("mkfifo ${{outputs.o}}/pipe", FOLDER),
        ("mkfifo ${{outputs.o}}", FILE),
        ("rmdir ${{outputs.o}} && echo > ${{outputs.o}}", FOLDER),
        (
            'cd ../out && rmdir o && mkdir "$TMPDIR/x" && echo 1 > "$TMPDIR/x/m.bin" && ln -s ../tmp/x o',
            FILE,
        ),
    ],
)
async def test_an_output_of_another_kind_is_refused(
    attempts: Attempts, command: str, output: PlannedOutput
) -> None:
    assert (await failed(attempts, command, outputs={"o": output})).failure.code == "E_OUTPUT_TYPE"


async def test_a_step_that_removes_its_output_folder_is_told_what_is_missing(
    attempts: Attempts,
) -> None:
    failure = (await failed(attempts, "rm -r ${{outputs.o}}", outputs={"o": FOLDER})).failure
    assert failure.code == "E_OUTPUT_MISSING"


async def test_a_step_that_removes_its_working_directory_still_ends(attempts: Attempts) -> None:
    given = await attempts.give('rm -rf "$PWD"; printf ok > ${{outputs.o}}', outputs={"o": FILE})
    result = await given.success()
    assert await attempts.files(result.outputs["o"].digest) == {"m.bin": b"ok"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"run": 7',
        b"",
        b"[" * 5_000,
        b'{"type":"work.item.v1","run":"../../x","step":"../x","attempt":1,"pipeline":"p"}',
        b'{"type":"work.item.v1","run":"000000000000000","step":"s","attempt":1,"pipeline":"p"}',
    ],
)
async def test_a_broken_work_item_is_set_aside_and_its_attempt_fails(
    attempts: Attempts, body: bytes
) -> None:
    names = attempts.names
    dead: asyncio.Queue[bytes] = asyncio.Queue()

    async def on_dead(message: Received) -> None:
        dead.put_nowait(message.data)

    subscription = await attempts.bus.subscribe(names.dead("work"), on_dead)
    run = run_id(Seconds(time.time()), secrets.token_hex(8))
    item = WorkItem(run=run, step="broken", attempt=1, pipeline="test")
    broken = attempts.expect(item)
    await attempts.bus.append(names.work("default", run, "broken", 1), body)
    failure = await broken.failure()
    assert failure.failure.code == "E_INTERNAL"
    assert await asyncio.wait_for(dead.get(), 10) == body
    await subscription.close()


async def test_an_attempt_that_no_executor_even_began_is_lost_and_not_run(
    fleet: tuple[Fleet, str], attempts: Attempts
) -> None:
    """They died of its inputs, say: only the queue knows how often it was taken."""
    taken = asyncio.Event()

    async def die(delivery: Delivery) -> None:
        if delivery.deliveries >= DELIVERIES_MAX:
            taken.set()
        await delivery.nak()

    spec = work_consumer(attempts.names, "heavy")
    dying = await attempts.bus.consume(spec, die, batch=1)
    given = await attempts.give("true", target="heavy")
    await asyncio.wait_for(taken.wait(), 20)
    await dying.close()
    name = fleet[0].start("executor", slots="1", targets="heavy", **kind_of(fleet[1]))
    failure = await given.failure()
    assert failure.failure.code == "E_LOST"
    assert failure.retriable
    assert [type(report) for report in given.reports] == [AttemptFailed]
    kept = await attempts.bus.last(attempts.names.stream("dead"), attempts.names.dead("work"))
    assert kept is not None
    assert decoded(kept.data, WorkItem) == given.item
    fleet[0].terminate(name)


# -- what it sees ------------------------------------------------------------------------------------
async def test_a_step_gets_its_code_inputs_and_parameters(attempts: Attempts) -> None:
    code = await attempts.trees.put_bytes({"main.py": b"print('hello')", "lib/x.txt": b"x"}, "t")
    data = await attempts.trees.put_bytes({"table.csv": b"a,b\n1,2\n"}, "t")
    many = await attempts.trees.put_bytes({"1": b"one", "sub/2": b"2" * 100_000}, "t")
    given = await attempts.give(
        "python main.py && cat lib/x.txt && basename ${{inputs.file}} && cat ${{inputs.file}} && "
        "ls ${{inputs.folder}} && echo rate=${{inputs.rate}} $[[depth=${{inputs.depth}}]] "
        "$AZUREML_PARAMETER_rate && echo changed > main.py && echo new > new.txt && "
        'test "$(readlink -f "$PWD")" = "$(readlink -f "$AZUREML_CR_EXECUTION_WORKING_DIR_PATH")"',
        code=code.digest,
        inputs={
            "file": WorkInput(type="uri_file", artifact=data.digest),
            "folder": WorkInput(type="uri_folder", artifact=many.digest),
            "rate": WorkInput(value=0.5),
            "depth": WorkInput(),
        },
    )
    await given.success()
    expected = b"hello\nxtable.csv\na,b\n1,2\n1\nsub\nrate=0.5 0.5\n"
    assert (await attempts.archived(given))["stdout.txt"] == expected
    again = await attempts.give("cat main.py && test ! -e new.txt", code=code.digest)
    await again.success()
    assert (await attempts.archived(again))["stdout.txt"] == b"print('hello')"


async def test_an_input_that_a_step_tries_to_change_stays_as_it_is(
    attempts: Attempts, fleet: tuple[Fleet, str]
) -> None:
    data = await attempts.trees.put_bytes({"small": b"s", "large": b"L" * 200_000}, "t")
    inputs = {"data": WorkInput(type="uri_folder", artifact=data.digest)}
    for name in ("small", "large"):
        command = (
            f"chmod u+w ${{{{inputs.data}}}}/{name}; echo poison >> ${{{{inputs.data}}}}/{name}"
        )
        result = await failed(attempts, command, inputs=inputs)
        if fleet[1] == "docker" or (
            fleet[1] == "auto"
            and "no PID namespaces here" not in fleet[0].tail("executor-1", 10**6)
        ):
            assert "Read-only file system" in result.failure.log_tail
        else:
            assert result.failure.code == "E_INPUT_CHANGED"
            assert name in result.failure.message
        given = await attempts.give(
            "cd ${{inputs.data}} && cat small && wc -c < large && ! grep -q poison large",
            inputs=inputs,
        )
        await given.success()
        assert (await attempts.archived(given))["stdout.txt"].split() == [b"s200000"]


async def test_a_missing_input_is_the_inputs_fault(attempts: Attempts) -> None:
    inputs = {"data": WorkInput(type="uri_folder", artifact="ab" * 32)}
    result = await failed(attempts, "true", inputs=inputs)
    assert result.failure.code == "E_INPUT"
    assert "data" in result.failure.where or "artifact" in result.failure.where


async def test_a_step_reads_nothing_from_stdin(attempts: Attempts) -> None:
    given = await attempts.give("cat; read line; echo end")
    await given.success()
    assert (await attempts.archived(given))["stdout.txt"] == b"end\n"


async def test_python_is_the_executors_own_and_no_credential_is_in_sight(
    attempts: Attempts, fleet: tuple[Fleet, str]
) -> None:
    given = await attempts.give("python -c 'import sys; print(sys.executable)'; env")
    await given.success()
    text = (await attempts.archived(given))["stdout.txt"].decode()
    own = "/usr/bin/python" if fleet[1] == "docker" else sys.executable
    assert text.splitlines()[0] == own
    names = {line.partition("=")[0] for line in text.splitlines()[1:]}
    assert "PENSTOCK_BUS" not in names
    assert "PENSTOCK_STORE" not in names
    lines = [line for line in text.splitlines() if not line.startswith("MLFLOW_TRACKING_URI=file:")]
    assert not [line for line in lines if "nats://" in line or "file:/" in line]


async def test_a_very_long_command_runs(attempts: Attempts) -> None:
    given = await attempts.give(f"echo {'x' * 300_000} | wc -c")
    await given.success()
    assert (await attempts.archived(given))["stdout.txt"].strip() == b"300001"


async def test_what_a_step_writes_to_outputs_and_logs_is_archived(attempts: Attempts) -> None:
    given = await attempts.give("echo 1 > outputs/a; echo 2 > logs/b; ln -s /etc/passwd outputs/l")
    await given.success()
    files = await attempts.archived(given)
    assert files["outputs/a"] == b"1\n"
    assert files["logs/b"] == b"2\n"
    assert b"outputs/l" in files["stderr.txt"]
    assert "outputs/l" not in files


async def test_an_executor_does_not_write_where_a_steps_links_lead(
    attempts: Attempts, tmp_path: Path
) -> None:
    kept, new = tmp_path / "kept", tmp_path / "new"
    kept.write_text("as it was")
    command = (
        f"cd ../out/artifacts; mkdir user_logs; ln -s {kept} user_logs/std_log.txt; ln -s {new} logs;"
        f" ln -s {tmp_path} outputs; cd ../../code; echo evil; echo 1 > outputs/kept; echo 1 > logs/y"
    )
    result = await failed(attempts, command, outputs={"artifacts": FOLDER})
    assert result.failure.code == "E_OUTPUT_TYPE", "links that leave an output are refused"
    assert kept.read_text() == "as it was"
    assert not new.exists()


async def test_an_executor_does_not_read_or_move_what_a_steps_links_lead_to(
    attempts: Attempts, tmp_path: Path
) -> None:
    for name in ("outputs/secret", "r/meta.yaml", "r/metrics/m", "r/tags/team"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1700000000000 7 0\n")
    command = (
        f"mkdir -p ../mlflow; ln -s {tmp_path} ../mlflow/0; rm -r outputs; ln -s {tmp_path}/outputs outputs;"
        f" ln -s {tmp_path} ../images; true"
    )
    given = await attempts.give(command)
    result = await given.success()
    assert (result.metrics, result.tags) == ({}, {})
    assert (await attempts.archived(given)).keys() == {"stderr.txt"}, "and a note in it"
    assert (tmp_path / "outputs" / "secret").exists()


async def test_a_step_ends_as_it_did_whatever_it_leaves_where_mlflow_writes(
    attempts: Attempts,
) -> None:
    command = (
        "for run in a b c d; do mkdir -p ../mlflow/0/$run/metrics ../mlflow/0/$run/tags; done; cd ../mlflow/0;"
        " mkfifo a/meta.yaml a/metrics/m; printf -- '- 1' > b/meta.yaml; printf '{' > c/meta.yaml;"
        " echo 'start_time: 5' > d/meta.yaml; printf '1700000000000 7 0\\nx y\\n17' > d/metrics/m"
    )
    given = await attempts.give(command)
    result = await given.success(20)
    assert result.metrics == {"m": 7.0}
    files = await attempts.archived(given)
    assert files["mlflow/0/d/metrics/m"] == b"1700000000000 7 0\nx y\n17"
    assert b"mlflow/0/a/meta.yaml" in files["stderr.txt"], "a pipe is left out, and named"


# -- logs --------------------------------------------------------------------------------------------
async def test_both_streams_come_live_in_order_and_complete(attempts: Attempts) -> None:
    code = (
        "import sys\n"
        "for n in range(5000):\n"
        "    print('out', n)\n"
        "    print('err', n, file=sys.stderr)\n"
    )
    given = await attempts.give(python(code))
    await given.success()
    out = "".join(f"out {n}\n" for n in range(5000)).encode()
    err = "".join(f"err {n}\n" for n in range(5000)).encode()
    assert await attempts.live_log(given, "stdout") == out
    assert await attempts.live_log(given, "stderr") == err
    files = await attempts.archived(given)
    assert (files["stdout.txt"], files["stderr.txt"]) == (out, err)


async def test_a_line_is_seen_while_the_step_still_runs(attempts: Attempts) -> None:
    given = await attempts.give("echo first; sleep 100")
    await until(lambda: attempts.chunks(given))
    assert [chunk.data for chunk in await attempts.chunks(given)] == [b"first\n"]
    assert not given.results
    await attempts.stop(given, grace_s=0)
    await given.failure()


async def test_long_lines_and_binary_output_are_kept_byte_for_byte(attempts: Attempts) -> None:
    code = (
        "import sys\n"
        "sys.stdout.buffer.write(b'x' * 200_000 + b'\\n' + bytes(range(256)) * 40)\n"
        "sys.stderr.buffer.write(b'\\x1b[31m\\xff\\x00 12%\\r 13%')\n"
    )
    given = await attempts.give(python(code))
    await given.success()
    expected = b"x" * 200_000 + b"\n" + bytes(range(256)) * 40
    assert await attempts.live_log(given, "stdout") == expected
    files = await attempts.archived(given)
    assert files["stdout.txt"] == expected
    assert files["stderr.txt"] == b"\x1b[31m\xff\x00 12%\r 13%"


async def test_a_flood_without_a_newline_is_cut_in_the_middle_and_fails_nothing(
    attempts: Attempts,
) -> None:
    code = (
        "import os\n"
        "block = b'f' * (1 << 20)\n"
        "for n in range(300): os.write(1, block)\n"
        "os.write(1, b'the end'); os.write(2, b'still here')\n"
    )
    given = await attempts.give(python(code))
    beside = await attempts.give("echo beside")
    await beside.success()
    await given.success()
    files = await attempts.archived(given)
    log = files["stdout.txt"]
    assert ATTEMPT_BYTES_MAX - 10 * MIB < len(log) < ATTEMPT_BYTES_MAX
    assert log.startswith(b"f" * 1000)
    assert log.endswith(b"the end")
    assert b"bytes left out here]" in log[-6 * MIB :]
    assert files["stderr.txt"].endswith(b"still here")


async def test_the_last_words_before_a_crash_are_kept(attempts: Attempts) -> None:
    code = "import os, sys\nprint('last words')\nos.write(2, b'dying')\nos.kill(os.getpid(), 9)\n"
    given = await attempts.give(f"exec {python(code)}")
    result = await given.failure()
    assert result.failure.signal == "SIGKILL"
    assert result.failure.log_tail == "dyinglast words\n"


async def test_two_steps_at_a_time_do_not_mix(attempts: Attempts) -> None:
    command = (
        "for i in 1 2 3 4 5 6 7 8; do echo {0}; echo {0} >> ${{{{outputs.o}}}}; sleep 0.02; done"
    )
    both = [
        await attempts.give(command.format(word), step=word, outputs={"o": FILE})
        for word in ("left", "right")
    ]
    for given, word in zip(both, (b"left", b"right"), strict=True):
        result = await given.success()
        assert await attempts.live_log(given, "stdout") == (word + b"\n") * 8
        assert await attempts.files(result.outputs["o"].digest) == {"m.bin": (word + b"\n") * 8}


# -- nothing is left ---------------------------------------------------------------------------------
DAEMON = (
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        time.sleep(600)\n"
    "    os._exit(0)\n"
    "os.wait()\n"
)
"""A double-forked daemon in a session of its own that holds stdout and ignores SIGTERM."""


def mark() -> tuple[str, dict[str, str]]:
    text = f"mark-{secrets.token_hex(8)}"
    return text, {"MARK": text}


async def test_a_daemon_that_holds_stdout_neither_delays_nor_survives_the_end(
    attempts: Attempts,
) -> None:
    text, variables = mark()
    given = await attempts.give(python(DAEMON + "print('done')"), environment_variables=variables)
    result = await given.success(timeout_s=20)
    assert result.seconds < 10
    assert await gone(text)
    assert (await attempts.archived(given))["stdout.txt"] == b"done\n"


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
async def test_nothing_is_left_of_a_step_that_ignores_sigterm(attempts: Attempts, how: str) -> None:
    text, variables = mark()
    given = await attempts.give(
        python(DAEMON + "time.sleep(600)"),
        environment_variables=variables,
        timeout_s=1.5 if how == "timeout" else 0,
    )
    await marked(text, 2)
    if how == "cancelled":
        await attempts.stop(given, grace_s=0.3)
    result = await given.failure(timeout_s=20)
    assert result.failure.code == {"timeout": "E_TIMEOUT", "cancelled": "E_CANCELLED"}[how]
    if how == "timeout":
        assert "1.5 s" in result.failure.message
    assert await gone(text)


async def test_a_step_may_clean_up_within_its_grace(attempts: Attempts) -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(0.3); print('saved'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready'); time.sleep(600)\n"
    )
    given = await attempts.give(f"{python(code)}; echo never")
    await until(lambda: attempts.chunks(given))
    began = time.monotonic()
    await attempts.stop(given, grace_s=10)
    result = await given.failure()
    assert result.failure.code == "E_CANCELLED"
    assert time.monotonic() - began < 8, "it ended early, so nobody waited for the whole grace"
    assert b"saved" in (await attempts.archived(given))["stdout.txt"]


async def test_an_attempt_that_is_still_prepared_can_be_stopped(attempts: Attempts) -> None:
    blockers = [await attempts.give("sleep 600", step=f"b{n}") for n in range(2)]
    for blocker in blockers:
        await blocker.start()
    waiting = await attempts.give("sleep 600", step="waiting")  # stays in the queue
    for blocker in blockers:
        await attempts.stop(blocker, grace_s=0)
        await blocker.failure()
    await waiting.start()
    await attempts.stop(waiting, reason="superseded", grace_s=0)
    result = await waiting.failure()
    assert result.failure.code == "E_CANCELLED"
    assert not result.retriable


async def test_a_step_that_kills_its_parent_and_its_group_hurts_only_itself(
    attempts: Attempts,
) -> None:
    given = await attempts.give("kill -TERM $PPID; kill -KILL 0")
    assert (await given.failure()).failure.signal == "SIGKILL"
    after = await attempts.give("echo alive")
    await after.success()


async def test_no_folder_is_left_of_an_attempt(
    attempts: Attempts, fleet: tuple[Fleet, str]
) -> None:
    given = await attempts.give("mkdir -p a/b && touch a/b/c && chmod 000 a/b a; exit 1")
    await given.failure()
    folder = fleet[0].directory / "executor-1" / "attempts"

    async def removed() -> bool:
        return not list(folder.glob(f"{given.item.run}*"))

    await until(removed)


# -- what a step logs --------------------------------------------------------------------------------
LOGGING = """
import os, sys, threading
import penstock
run = penstock.current_run()
run.log("loss", 0.5); run.log("loss", float("nan")); run.log("accuracy", 0.97)
run.log_list("losses", [3, 2, 1])
for epoch in (1, 2): run.log_row("epochs", epoch=epoch, loss=1 / epoch)
run.log_table("confusion", {"a": [1, 0], "b": [0, 1]})
run.tag("dataset", "2026-11")
open("roc.png", "wb").write(b"PNG"); run.log_image("roc", path="roc.png")
threads = [threading.Thread(target=run.log, args=(f"thread{n}", n)) for n in range(4)]
for t in threads: t.start()
for t in threads: t.join()
if os.fork() == 0:
    run.log("child", 1)
    os._exit(0)
os.wait()
assert run.parameters == {"size": 3, "rate": 0.5}, run.parameters
assert run.input("data").joinpath("x").read_text() == "x"
run.output("model").write_text(run.id + " " + run.step + " " + run.experiment)
run.log("last", 1)
os.kill(os.getpid(), 9) if "crash" in sys.argv else None
"""


@pytest.mark.parametrize("end", ["", "crash"])
async def test_what_a_step_logs_is_kept_also_when_it_crashes(attempts: Attempts, end: str) -> None:
    data = await attempts.trees.put_bytes({"x": b"x"}, "t")
    given = await attempts.give(
        f"exec {python(LOGGING)} {end}",
        experiment="trial",
        parameters={"size": 3},
        inputs={
            "data": WorkInput(type="uri_folder", artifact=data.digest),
            "rate": WorkInput(value=0.5),
        },
        outputs={"model": FILE},
    )
    result = await given.result()
    assert isinstance(result, AttemptFailed) == bool(end), result
    assert result.metrics == {
        "loss": "NaN",
        "accuracy": 0.97,
        "losses": [3, 2, 1],
        "epochs": {"epoch": [1, 2], "loss": [1.0, 0.5]},
        "confusion": {"a": [1, 0], "b": [0, 1]},
        **{f"thread{n}": n for n in range(4)},
        "child": 1,
        "last": 1,
    }
    assert result.tags == {"dataset": "2026-11"}
    files = await attempts.archived(given)
    assert files["images/roc.png"] == b"PNG"
    assert files["tables/epochs.csv"].decode().splitlines() == ["epoch,loss", "1,1.0", "2,0.5"]
    assert files["metrics.jsonl"] == await attempts.live_log(given, "metrics")
    lines = [msgspec.json.decode(line) for line in files["metrics.jsonl"].splitlines()]
    assert [line["value"] for line in lines if line["name"] == "loss"] == [0.5, "NaN"]
    if not isinstance(result, AttemptFailed):
        model = await attempts.files(result.outputs["model"].digest)
        assert model == {"m.bin": f"{given.item.run} step trial".encode()}


async def test_many_points_are_all_kept(attempts: Attempts) -> None:
    code = (
        "import penstock\nrun = penstock.current_run()\nfor n in range(20_000): run.log('n', n)\n"
    )
    given = await attempts.give(python(code))
    result = await given.success()
    assert result.metrics == {"n": 19_999}
    lines = (await attempts.archived(given))["metrics.jsonl"].splitlines()
    assert [msgspec.json.decode(line)["value"] for line in lines] == list(range(20_000))


async def test_nonsense_on_the_socket_is_counted_and_hurts_nothing(attempts: Attempts) -> None:
    code = (
        "import os, socket\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(os.environ['PENSTOCK_STEP_SOCKET'])\n"
        's.sendall(b\'hello\\n{"kind":"scalar"}\\n\\xff\\xff\\n\')\n'
        "import penstock; penstock.current_run().log('x', 1)\n"
    )
    given = await attempts.give(python(code))
    assert (await given.success()).metrics == {"x": 1}
    assert b"3 lines on the step's socket" in (await attempts.archived(given))["stderr.txt"]
