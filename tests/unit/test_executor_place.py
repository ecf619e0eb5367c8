"""Folders of attempts: made, locked while their executor lives, swept when it is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.contracts.plans import PlannedOutput
from penstock.errors import Invalid
from penstock_executor.decide.layout import Place
from penstock_executor.place import (
    Attempts,
    kill_marked,
    output_problem,
    python_folder,
    remove,
)

FILE = PlannedOutput(type="uri_file", file="m.bin")
FOLDER = PlannedOutput(type="uri_folder")

HOLDER = """
import sys
from pathlib import Path
from penstock_executor.place import Attempts
attempts = Attempts(Path(sys.argv[1]))
attempts.make("a-step-1-1", {})
print("made", flush=True)
sys.stdin.read()
"""


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_folder_is_ready_for_a_step_and_goes_with_all_it_holds(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    place = attempts.make("a-step-1-1", {"model": FILE, "data": FOLDER})
    assert place.output("model", FILE) == f"{place.root}/out/model/m.bin"
    assert names(place.root) == ["in", "log", "out", "tmp"]
    assert names(place.outputs) == ["data", "model"]
    assert names(place.output_folder("model")) == []
    attempts.release("a-step-1-1")
    assert list(attempts.root.iterdir()) == []


def test_a_living_executors_folder_is_neither_swept_nor_taken_and_a_dead_ones_is(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"made\n"
        attempts = Attempts(tmp_path)
        assert attempts.sweep() == (0, 0)
        with pytest.raises(Invalid, match="another executor"):
            attempts.make("a-step-1-1", {})
        assert (attempts.root / "a-step-1-1").exists()
        holder.kill()
    assert attempts.sweep() == (0, 1)
    assert list(attempts.root.iterdir()) == []


def test_releasing_what_is_not_ours_removes_nothing(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    (attempts.root / "other").mkdir()
    attempts.release("other")
    assert (attempts.root / "other").exists()


def test_processes_of_a_dead_attempt_are_found_by_their_variables(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": f"{tmp_path}/dead/tmp"}
    command = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert kill_marked([f"{tmp_path}/alive"]) == 0
        assert kill_marked([f"{tmp_path}/dead"]) == 1
        assert process.wait(10) == -9


def test_a_tree_without_permissions_can_be_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "c").write_text("x")
    (root / "link").symlink_to("/etc")
    (root / "a" / "b").chmod(0)
    (root / "a").chmod(0)
    remove(root)
    assert list(tmp_path.iterdir()) == []
    assert Path("/etc").exists()


def test_a_link_in_place_of_a_folder_is_removed_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").write_text("x")
    (tmp_path / "root").symlink_to(tmp_path / "kept")
    remove(tmp_path / "root")
    assert names(tmp_path) == ["kept"]
    assert (tmp_path / "kept" / "x").exists()


def test_a_folder_deeper_than_a_stack_goes_too(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    try:
        remove(tmp_path / "d")
        assert names(tmp_path) == []
    finally:
        subprocess.run(["rm", "-rf", tmp_path], check=True)  # pytest's own way recurses


@pytest.mark.parametrize(
    ("make", "output", "code"),
    [
        ("missing", FILE, "E_OUTPUT_MISSING"),
        ("folder", FILE, "E_OUTPUT_TYPE"),
        ("link", FILE, "E_OUTPUT_TYPE"),
        ("pipe", FILE, "E_OUTPUT_TYPE"),
        ("file", FILE, None),
    ],
)
def test_what_lies_at_an_outputs_path_must_be_what_was_declared(
    tmp_path: Path, make: str, output: PlannedOutput, code: str | None
) -> None:
    place = Place(str(tmp_path))
    path = Path(place.output("o", output))
    path.parent.mkdir(parents=True)
    match make:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("/etc/passwd")
        case "pipe":
            os.mkfifo(path)
        case "file":
            path.write_text("x")
    problem = output_problem(place, "o", output)
    assert (problem and problem[0]) == code
    if problem:
        assert "'o'" in problem[1]
        assert str(path) in problem[1]


def test_python_means_this_interpreter_also_where_it_has_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert python_folder(tmp_path) == str(Path(sys.executable).parent)
    elsewhere = tmp_path / "it's here" / "python3.11"
    elsewhere.parent.mkdir()
    elsewhere.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(elsewhere))
    folder = python_folder(tmp_path)
    done = subprocess.run(
        [f"{folder}/python", "-c", "print('hello')"], capture_output=True, check=True
    )
    assert done.stdout == b"hello\n"
