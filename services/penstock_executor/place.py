"""Folders of attempts: made, locked while their executor lives, swept when it is gone.

    <data>/attempts/<run>-<step>-<attempt>-<delivery>/    one attempt, see decide/layout.py
    <data>/bin/python                                     only where the interpreter has no such name

Each attempt's folder carries a lock (flock) of the executor that runs it. The kernel lets go of it
when that process ends, however it ends, so whoever finds the folder unlocked may remove it. Making
and sweeping exclude each other by a lock on `attempts/` itself.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from penstock.contracts.plans import PlannedOutput
from penstock.errors import Invalid, Transient
from penstock.ids import digest_of
from penstock_executor.decide.control import VALUE_BYTES_MAX, is_value, value_of
from penstock_executor.decide.layout import Place, is_file
from penstock_executor.reach import Reach

ATTEMPTS = "attempts"
DOOMED = ".removed-"
ONE_WORD = re.compile(r"[\w./+@%:,=-]+")
"""What a shell leaves alone, letters of any language among it."""
FREE_BYTES_MIN = 64 * 1024 * 1024
"""Less free space than this, and an attempt is not begun."""


class Attempts:
    """The folder of all attempts of one data folder."""

    def __init__(self, data: Path, inputs: Path | None = None) -> None:
        self.root = data / ATTEMPTS
        self._inputs = inputs
        """Where inputs lie that are to be seen apart from the rest."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        self._locks: dict[str, int] = {}

    def make(self, name: str, outputs: dict[str, PlannedOutput]) -> Place:
        """Create and lock the folders of an attempt; remove a dead executor's folder of that name.

        Raises:
            Invalid: E_BUSY, a living executor on this data folder runs it already.
            Transient: E_DISK, no space.
        """
        root = self.root / name
        with self._locked(fcntl.LOCK_SH), _disk(root):
            free = shutil.disk_usage(self.root).free
            if free < FREE_BYTES_MIN:
                raise Transient(
                    f"{free:,} bytes free; needed: {FREE_BYTES_MIN:,}",
                    code="E_DISK",
                    where=str(self.root),
                    hint="free some space",
                )
            try:
                root.mkdir(mode=0o700)
            except FileExistsError:
                self._remove_unlocked(root)
                root.mkdir(mode=0o700)
            handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._locks[name] = handle
            place = Place(str(root), str(self._inputs / name) if self._inputs else "")
            for folder in (place.inputs, place.outputs, place.temporary, place.log):
                Path(folder).mkdir()
            for output in outputs:
                Path(place.output_folder(output)).mkdir()
        return place

    def release(self, name: str) -> None:
        """Remove an attempt's folder and let go of its lock. Slow for big trees: call in a thread."""
        handle = self._locks.pop(name, -1)
        if handle >= 0:  # else it is not ours
            remove(self.root / name)
            if self._inputs is not None:
                remove(self._inputs / name)
            os.close(handle)

    def sweep(self) -> tuple[int, int]:
        """Kill what dead executors left and remove their folders; return how many of each."""
        with self._locked(fcntl.LOCK_EX):
            dead = [path for path in self.root.iterdir() if self._unlocked(path)]
            killed = kill_marked([str(path) for path in dead])
            for path in dead:
                remove(path)
        return killed, len(dead)

    def _remove_unlocked(self, root: Path) -> None:
        if not self._unlocked(root):
            raise Invalid(
                "another executor on this data folder runs it", code="E_BUSY", where=str(root)
            )
        kill_marked([str(root)])
        remove(root)

    def _unlocked(self, path: Path) -> bool:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return True  # something that we never make
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
        return True

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)


def remove(root: Path) -> None:
    """Remove a tree, whatever modes the step gave its folders. What cannot go stays for the sweep."""
    doomed = root.with_name(f"{DOOMED}{secrets.token_hex(8)}")
    with contextlib.suppress(OSError):
        root = root.rename(doomed)
    if root.is_symlink() or not root.is_dir():
        with contextlib.suppress(OSError):
            root.unlink()
        return
    try:
        _remove_folder(root)
    except RecursionError:  # deeper than python's stack: it must not end a sweep, and so a start
        subprocess.run(["rm", "-rf", "--", str(root)], capture_output=True, check=False)


def _remove_folder(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    if not root.exists():
        return
    for folder, names, _ in os.walk(root):  # top down: chmod 000 hides what is below
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                if not path.is_symlink():
                    path.chmod(stat.S_IRWXU)
    shutil.rmtree(root, ignore_errors=True)


def kill_marked(roots: list[str]) -> int:
    """Kill processes whose variables name one of these attempt folders; return how many.

    Only where an executor without namespaces was killed can there be any.
    """
    marks = [b"=" + os.fsencode(root) + b"/" for root in roots]
    killed = 0
    for entry in Path("/proc").iterdir() if marks else ():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes()
            if any(mark in variables for mark in marks):
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
    return killed


def plain(data: Path) -> Path:
    """Return a way to the data folder that a shell takes for one word: itself, or a link to it.

    Commands have paths put into them as they are, as on Azure ML, where no path has a blank in it. The
    link's name depends on the folder alone, so that the next executor's sweep knows what it left.

    Raises:
        Invalid: E_DIR, somebody else owns the place of the links.
    """
    if ONE_WORD.fullmatch(str(data)):
        return data
    home = Path(tempfile.gettempdir()) / f"penstock-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    about = home.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise Invalid(
            f"not a folder of our own; {str(data)!r} needs a link there, since it is not one word",
            code="E_DIR",
            where=str(home),
            hint="set PENSTOCK_EXECUTOR_DATA_DIR to a path without blanks and quotes",
        )
    link = home / digest_of(os.fsencode(data))[:12]
    fresh = home / f"{link.name}.{os.getpid()}"
    fresh.symlink_to(data, target_is_directory=True)
    fresh.replace(link)
    return link


def python_folder(data: Path) -> str:
    """Return the folder that makes `python` mean this interpreter, creating a shim if there is none."""
    beside = Path(sys.executable).parent
    if (beside / "python").exists():
        return str(beside)
    folder = data / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    shim = folder / "python"
    temporary = folder / f".python-{secrets.token_hex(4)}"
    quoted = sys.executable.replace("'", "'\\''")
    temporary.write_text(f"#!/bin/sh\nexec '{quoted}' \"$@\"\n", encoding="utf-8")
    temporary.chmod(0o755)
    temporary.rename(shim)
    return str(folder)


def output_problem(place: Place, name: str, output: PlannedOutput) -> tuple[str, str] | None:
    """Return (code, message) if what lies at an output's path is not what was declared.

    What is inside a folder is looked at when it is stored.
    """
    path = place.output(name, output)
    declared = "a file" if is_file(output) else "a folder"
    try:
        mode = Reach(place.root).status(path).st_mode
    except NotADirectoryError:
        message = f"output {name!r} at {path} is below a link or a file; declared: {declared}"
        return "E_OUTPUT_TYPE", message
    except OSError:
        return "E_OUTPUT_MISSING", f"the step wrote no output {name!r} at {path}"
    wanted = stat.S_ISREG if is_file(output) else stat.S_ISDIR
    if wanted(mode):
        return None
    kinds = ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISREG, "a file"))
    found = next((text for test, text in kinds if test(mode)), "neither a file nor a folder")
    return "E_OUTPUT_TYPE", f"output {name!r} at {path} is {found}; declared: {declared}"


def value_problem(place: Place, name: str, output: PlannedOutput) -> tuple[str, str] | None:
    """Return (code, message) if an output that is a value does not read as its type."""
    if not is_value(output.type):
        return None
    data = Reach(place.root).read(place.output(name, output), VALUE_BYTES_MAX + 1)
    if len(data) > VALUE_BYTES_MAX:
        return "E_OUTPUT_TYPE", f"output {name!r} has more than {VALUE_BYTES_MAX:,} bytes"
    if value_of(output.type, data) is None:
        return "E_OUTPUT_TYPE", f"output {name!r} is no {output.type}: {data[:40]!r}"
    return None


@contextlib.contextmanager
def _disk(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Transient(error.strerror or str(error), code="E_DISK", where=str(root)) from error
