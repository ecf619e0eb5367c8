"""The local stack without processes: its files, its settings, its flags, its logs."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from penstock.bus.topology import buckets, streams
from penstock.cli.config import masked
from penstock.cli.demo import copied
from penstock.cli.listeners import _warning_of
from penstock.cli.serve import flags_of
from penstock.contracts.subjects import Subjects
from penstock.errors import Corrupt, Invalid, NotFound
from penstock.runtime import children, nats_server, stack
from penstock.runtime.launch import serve
from penstock.runtime.stack import Service, Stack
from penstock.testing.servers import NATS_BINARY, binary


def a_stack(**changes: object) -> Stack:
    mine = Stack(
        workspace="penstock",
        bus="nats://penstock:secret@127.0.0.1:4222",
        store="file:/x",
        supervisor_pid=os.getpid(),
        supervisor_born=stack.birth_of(os.getpid()),
        started_at=1.0,
        state="ready",
        services=(Service(name="nats", pid=1, born="b", state="ready"),),
    )
    return msgspec.structs.replace(mine, **changes)


def test_what_is_written_is_found_again_from_any_folder_below(tmp_path: Path) -> None:
    home = tmp_path / stack.FOLDER
    home.mkdir()
    stack.write(home, a_stack())
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert stack.find(below) == a_stack(dir=str(home))
    assert (home / stack.STATE_FILE).stat().st_mode & 0o777 == 0o600
    assert [file.name for file in home.iterdir()] == [stack.STATE_FILE]


def test_a_stack_is_stopped_when_its_supervisor_is_another_process_of_that_number() -> None:
    assert a_stack().seen().state == "ready"
    reborn = a_stack(supervisor_born="another boot/1")
    assert not reborn.alive()
    assert reborn.seen().state == "stopped"
    assert reborn.seen().services[0] == Service(name="nats", state="stopped")


def test_a_process_that_has_ended_was_never_born() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    assert stack.birth_of(process.pid)
    process.wait()
    assert stack.birth_of(process.pid) == ""
    assert stack.birth_of(0) == ""


def test_a_strangers_state_file_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"mine": true}')
    assert stack.find(tmp_path) is None


def test_a_state_file_that_makes_no_sense_is_said_to_be_so(tmp_path: Path) -> None:
    home = tmp_path / stack.FOLDER
    home.mkdir()
    (home / stack.STATE_FILE).write_text("{")
    with pytest.raises(Corrupt) as refused:
        stack.find(tmp_path)
    assert refused.value.code == "E_STATE"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://user:secret@host:4222", "nats://***@host:4222"),
        ("s3+http://key:sec%40ret@host:9000/bucket", "s3+http://***@host:9000/bucket"),
        ("file:/a/b", "file:/a/b"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert stack.without_password(url) == shown
    assert masked("store", url) == shown


def test_the_stores_limit_has_room_for_every_stream_of_every_workspace() -> None:
    names = Subjects()
    reserved = sum(spec.max_bytes for spec in (*streams(names).values(), *buckets(names).values()))
    for workspaces in (1, 3):
        limit = nats_server.store_bytes(workspaces, free=0)
        assert workspaces * reserved <= limit * nats_server.FILL
    assert nats_server.store_bytes(1, free=10**15) > nats_server.store_bytes(1, free=0)


def test_a_bus_keeps_its_password_and_its_port(tmp_path: Path) -> None:
    first, file = nats_server.prepare(tmp_path / "bus", "one")
    again, _ = nats_server.prepare(tmp_path / "bus", "two")
    assert (again.port, again.password) == (first.port, first.password)
    assert again.workspaces == ("one", "two")
    text = file.read_text(encoding="utf-8")
    assert "sync_interval: always" in text
    assert '"127.0.0.1:' in text
    assert "http" not in text


@pytest.mark.server
def test_a_folder_with_quotes_and_blanks_in_its_name_is_fine_for_the_bus(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s "a" folder é'
    folder.mkdir()
    _, file = nats_server.prepare(folder, "one")
    program = binary(NATS_BINARY)
    if program is None:
        pytest.skip(f"{NATS_BINARY} is neither beside this Python nor on PATH")
    subprocess.run([program, "--config", file, "-t"], check=True, capture_output=True)


def test_settings_of_a_service_are_read_from_its_command_line() -> None:
    words = ("--slots", "4", "--bus=nats://a:1", "--verbose", "--late_s", "-1")
    assert flags_of(words, "executor") == {
        "slots": "4",
        "bus": "nats://a:1",
        "verbose": "true",
        "late_s": "-1",
    }


@pytest.mark.parametrize("words", [("loose",), ("--slots", "1", "--slots", "2"), ("-x",)])
def test_words_that_are_no_settings_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(Invalid) as refused:
        flags_of(words, "executor")
    assert refused.value.code == "E_CONFIG"


def test_a_misspelt_service_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(NotFound) as refused:
        serve("plannr", {})
    assert refused.value.hint == "did you mean 'planner'?"


def test_a_missing_extra_is_explained() -> None:
    with pytest.raises(Invalid) as refused:
        serve("trigger=a_package_that_is_not_there:main", {})
    assert refused.value.hint == "pip install 'penstock[trigger]'"


def test_a_log_never_grows_beyond_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOG_BYTES_MAX", 1000)
    log = children.Log(tmp_path / "x.log")
    for number in range(200):
        log.write(f"line {number}")
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["x.log", "x.log.1"]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert list(log.tail)[-1] == "line 199"
    assert "line 199" in files[0].read_text()


def test_a_terminal_shows_warnings_of_services_and_nothing_else() -> None:
    warning = '{"event": "late", "level": "warning", "code": "E_BUS", "message": "gone"}'
    assert _warning_of(warning) == "late; E_BUS; gone"
    assert _warning_of('{"event": "ready", "level": "info"}') == ""
    assert _warning_of("{broken") == ""


def test_the_demo_copies_what_is_missing_and_keeps_what_is_changed(tmp_path: Path) -> None:
    place = tmp_path / "digits"
    assert copied(place)
    script = place / "evaluate" / "evaluate.py"
    script.write_text("mine")
    (place / "README.md").unlink()
    assert not copied(place)
    assert script.read_text() == "mine"
    assert (place / "README.md").exists()


def test_the_demo_leaves_a_folder_of_something_else_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(Invalid) as refused:
        copied(tmp_path)
    assert refused.value.code == "E_DEMO"
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_demos_scripts_are_short_enough_to_read() -> None:
    scripts = [*(Path(children.__file__).parents[1] / "demo" / "digits").rglob("*.py")]
    assert len(scripts) == 5
    for script in scripts:
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 40, script.name
