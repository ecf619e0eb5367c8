"""A warm interpreter whose forks are steps: it has started already, and imported what they import.

The executor starts it as `python [options] PLACEHOLDER FD` (or `-m PLACEHOLDER`), with a folder on
PYTHONPATH whose `sitecustomize` calls `serve_here`. So the interpreter stops at the end of its start,
before it looks at PLACEHOLDER, and answers launch requests as the launcher does: the same protocol,
the same tree of processes (launcher.py). Only the command is not spawned but forked. In that fork

    1. what a new process has of its own is made new: session, descriptors, variables, signals, seeds;
    2. PLACEHOLDER becomes the step's script wherever the C part of the interpreter keeps it;
    3. `sitecustomize` returns, and the interpreter goes on as every `python script.py` does.

The script is run, its exceptions are printed and the interpreter is ended by the code that always does
it, with no frame of ours on the stack. Whatever cannot be made equal, `exec`s the plain command line.

User code never runs in the server: it imports installed packages only, before the first request
(preload.py). Like the launcher it uses the standard library only, and may be run by an interpreter
of another environment than the executor's.
"""

import _signal  # type: ignore[import-not-found]  # without the enums of `signal`, which cost each fork 60 page faults
import contextlib
import ctypes
import gc
import json
import os
import signal
import site
import sys
import sysconfig
import types
from typing import Any, NoReturn

from penstock_executor.in_step import hooks
from penstock_executor.init import OOM_SCORE, libc, write
from penstock_executor.launcher import serve, settled
from penstock_executor.preload import Plain, Preload, Unfit

PLACEHOLDER = "penstock-fork-server-" + "x" * 1003
"""Stands where the script's path will be, and is the room for it."""
ROOM = "PENSTOCK_FORK_SERVER_ROOM"
"""A long variable: the room for what /proc/<pid>/environ shows of a step."""
IN_STEP = os.path.join(os.path.dirname(os.path.abspath(hooks.__file__)), "site")  # noqa: PTH100, PTH118, PTH120
"""The folder on PYTHONPATH whose `sitecustomize` this server stands in for."""
PR_SET_MM = 35
PR_SET_MM_MAP = 14
CLOSE_RANGE = 436
_SIGCHLD, _SIGTERM = int(signal.SIGCHLD), int(signal.SIGTERM)
_SET_MAP, _ZERO, _ALL = (ctypes.c_ulong(n) for n in (PR_SET_MM_MAP, 0, 0xFFFFFFFF))
# looked up before the forks, not by each of them
_prctl, _sbrk, _syscall = libc.prctl, libc.sbrk, libc.syscall
_sbrk.restype = ctypes.c_void_p
VARIABLES_MAX = 4096
_environ = ctypes.c_void_p.in_dll(libc, "environ")
_pointers = (ctypes.c_void_p * VARIABLES_MAX)()
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_pointers))  # as long as the process lives
WIDE = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
WIDE_BYTES = 4


def serve_here(folder: str, usual: frozenset[str]) -> None:
    """Serve until the requests end, then exit; return in forked steps only.

    `folder` is what the executor put on PYTHONPATH, `usual` the modules that every start imports.

    Raises:
        ImportError: in a step, if there is no other `sitecustomize`, as site.py expects.
    """
    try:
        server = Server(folder, usual)
        if not server.run():
            _wait_for_children()
            os._exit(0)
    except Unfit:  # it was told
        os._exit(0)
    except BaseException:  # site.py would go on
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    if server.customized is None:
        raise ImportError(name="sitecustomize")
    sys.modules["sitecustomize"] = server.customized


class Server:
    """What the forks start from."""

    def __init__(self, folder: str, usual: frozenset[str]) -> None:
        sys.path.remove(folder)
        hooks.sort_listings()  # before any package takes os.listdir for itself
        before = set(sys.modules)
        self.customized = _customized()
        self.usual = usual | (set(sys.modules) - before)
        self.path = list(sys.path)
        self.is_module = sys.argv[0] == "-m"
        number, wanted = int(sys.argv[1]), json.loads(sys.argv[2])
        self.places = _places(PLACEHOLDER)
        self.areas = _areas()
        self.ends = [0, 0]
        self.memory = _Memory()
        self.coerced = _coerced()
        self.requests = settled(number)
        self.preload = Preload(wanted["modules"], wanted["bytes_max"])

    def run(self) -> bool:
        """Import, say so, and serve; return True in forked steps, False at the end."""
        with contextlib.suppress(OSError):
            write("/proc/self/oom_score_adj", OOM_SCORE)
        problem = ""
        absolute = [place for place in self.places if place[1]]
        if not self.places or (not absolute and not self.is_module):
            problem = "the interpreter does not keep its script's name where it is expected"
        report = {} if problem else self.preload.run(self._tell)
        self._tell(
            {
                "ready": not problem,
                "problem": problem,
                "version": sys.version,
                "watched": watched(),
                **report,
            }
        )
        self.preload.put_away(self.usual)
        gc.collect()
        return serve(self.requests, self._forked)

    def _tell(self, report: dict[str, Any]) -> None:
        self.requests.sendall(json.dumps(report).encode() + b"\n")

    def _forked(self, request: dict[str, Any], outputs: list[int]) -> int:
        """Fork the command; return its process id, in it 0."""
        command = os.fork()
        if command:
            return command
        try:
            _renew(outputs)
            self._become(request)
        except BaseException:  # Plain, and whatever we did not think of
            _exec_plain(request)
        return 0

    def _become(self, request: dict[str, Any]) -> None:
        """Take on everything in which this step differs from the server.

        Raises:
            Plain: what cannot be taken on.
        """
        variables: dict[str, str] = request["variables"]
        self.preload.check(variables)
        target = request["target"]
        paths = [os.path.abspath(p) for p in _pythonpath(variables)]  # noqa: PTH100 - as site.py
        hooked = IN_STEP in paths
        paths = [path for path in paths if path != IN_STEP]
        first = os.getcwd() if self.is_module else _folder_of(target)  # noqa: PTH109 - as C does
        self.preload.check_names([first, *paths])
        sys.path[:] = list(dict.fromkeys([*paths, *self.path]))
        self._name(target)
        arguments = request["arguments"]
        sys.argv[:] = ["-m" if self.is_module else target, *arguments]
        sys.orig_argv[:] = request["typed"]
        self._show(request["typed"])
        self._set_environment(variables)
        self._trim()
        if hooked:
            hooks.find_standins()
        self.preload.renew()
        # gc.freeze has put the old one out of the collector's reach, and with it what a script leaves there
        main = types.ModuleType("__main__")
        main.__dict__.update(sys.modules["__main__"].__dict__)
        sys.modules["__main__"] = main
        if not self.is_module:
            self.preload.ending.of(main.__dict__, target)

    def _name(self, target: str) -> None:
        """Write the script's path, or the module's name, over every PLACEHOLDER."""
        if "\0" in target:
            raise Plain("a NUL")
        here = os.getcwd()  # noqa: PTH109 - as C does
        whole = target if target.startswith("/") else f"{here}/{target.removeprefix('./')}"
        old = PLACEHOLDER.encode(WIDE)
        for address, slashes in self.places:
            new = f"{whole if slashes else target}\0".encode(WIDE, "surrogateescape")
            if len(new) > len(old):
                raise Plain("a long path")
            if ctypes.string_at(address, len(old)) != old:
                continue  # a copy that has been freed
            ctypes.memmove(address - slashes * WIDE_BYTES, new, len(new))

    def _show(self, arguments: list[str]) -> None:
        """Have ps and /proc show this step's arguments."""
        start, end = self.areas[0]
        data = os.fsencode("\0".join([*arguments, ""]))
        if len(data) > end - start:
            raise Plain("more arguments than there is room for")
        ctypes.memmove(start, data, len(data))
        self.ends[0] = start + len(data)

    def _set_environment(self, variables: dict[str, str]) -> None:
        """Have this step's variables where exec would have put them: for C, for Python, and for /proc.

        Those in /proc mark what is a step's.
        """
        start, end = self.areas[1]
        encoded = os.fsencode
        data = {encoded(name): encoded(value) for name, value in variables.items()}
        texts = [b"%b=%b\0" % one for one in data.items()]
        text = b"".join(texts)
        if len(text) > end - start or len(texts) >= VARIABLES_MAX:
            raise Plain("more variables than there is room for")
        ctypes.memmove(start, text, len(text))
        self.ends[1] = start + len(text)
        addresses: list[ctypes.c_void_p | int | None] = []
        for one in texts:
            addresses.append(start)
            start += len(one)
        addresses.append(None)
        _pointers[: len(addresses)] = addresses
        _environ.value = ctypes.addressof(_pointers)
        for name, value in self.coerced.items():
            if name not in variables:
                data[encoded(name)] = encoded(value)
                os.putenv(name, value)
        kept = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001 - its only place
        kept.clear()
        kept.update(data)

    def _trim(self) -> None:
        """Have nothing behind arguments and variables shown."""
        if not self.memory.trimmed(*self.ends):
            for (_, end), new in zip(self.areas, self.ends, strict=True):
                ctypes.memset(new, 0, end - new)


def watched() -> dict[str, int]:
    """Return the times of change of what makes up this environment: another time, another one."""
    found = {}
    folders = [
        *site.getsitepackages(),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    ]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    for folder in dict.fromkeys(folders):
        found[folder] = mtime(folder)
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208 - pathlib is not loaded here
                if name.endswith(".pth"):
                    found[f"{folder}/{name}"] = mtime(f"{folder}/{name}")
    for path in (sysconfig.get_path("stdlib"), sys.executable, f"{sys.prefix}/pyvenv.cfg"):
        found[path] = mtime(path)
    return found


def mtime(path: str) -> int:
    """Return when a file or folder was changed, in nanoseconds; 0 when there is none."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - pathlib is not loaded here
    except OSError:
        return 0


def _customized() -> types.ModuleType | None:
    """Do what site.py would do after this, and return the `sitecustomize` there really is."""
    ours = sys.modules.pop("sitecustomize")
    try:
        site.execsitecustomize()
        if site.ENABLE_USER_SITE:
            site.execusercustomize()
        return sys.modules.get("sitecustomize")
    finally:
        sys.modules["sitecustomize"] = ours


def _places(text: str) -> list[tuple[int, int]]:
    """Return where `text` lies as a C wide string, each with the number of slashes before it.

    A path that was made absolute has some: the server starts in the root folder.
    """
    wide = text.encode(WIDE)
    slash = "/".encode(WIDE)
    found = []
    with open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123 - as above
        for line in maps:
            fields = line.split()
            if fields[1] != "rw-p" or fields[5:6] not in ([], ["[heap]"]):
                continue
            start, end = (int(part, 16) for part in fields[0].split("-"))
            data = ctypes.string_at(start, end - start)
            at = data.find(wide)
            while at >= 0:
                slashes = 0
                while data[:at].endswith(slash * (slashes + 1)):
                    slashes += 1
                found.append((start + at, slashes))
                at = data.find(wide, at + 1)
    return found


def _areas() -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where the kernel keeps the arguments and the variables that it shows."""
    arg_start, arg_end, env_start, env_end = (int(f) for f in _stat_fields()[45:49])
    return (arg_start, arg_end), (env_start, env_end)


class _Map(ctypes.Structure):
    """struct prctl_mm_map of linux/prctl.h."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("code", "code_end", "data", "data_end")),
        *((name, ctypes.c_uint64) for name in ("brk_start", "brk", "stack")),
        *((name, ctypes.c_uint64) for name in ("arg", "arg_end", "env", "env_end", "auxv")),
        ("auxv_size", ctypes.c_uint32),
        ("exe", ctypes.c_uint32),
    )


class _Memory:
    """What the kernel knows of where things lie in memory: the same in every fork, but for the ends."""

    def __init__(self) -> None:
        fields = _stat_fields()
        code, code_end, stack = (int(f) for f in fields[23:26])
        data, data_end, brk_start, arg, arg_end, env, env_end = (int(f) for f in fields[42:49])
        exe = 0xFFFFFFFF  # no other one
        self._map = _Map(
            *(code, code_end, data, data_end, brk_start, 0, stack, arg, arg_end, env, env_end),
            *(0, 0, exe),
        )
        self._where = ctypes.byref(self._map)
        self._size = ctypes.c_ulong(ctypes.sizeof(self._map))

    def trimmed(self, arg_end: int, env_end: int) -> bool:
        """Move the ends of the two areas; say whether the kernel does that."""
        new = self._map
        new.brk, new.arg_end, new.env_end = _sbrk(0), arg_end, env_end
        done: int = _prctl(PR_SET_MM, _SET_MAP, self._where, self._size, _ZERO)
        return done == 0


def _stat_fields() -> list[str]:
    with open("/proc/self/stat", encoding="utf-8") as file:  # noqa: PTH123 - as above
        return file.read().rpartition(")")[2].split()


def _coerced() -> dict[str, str]:
    """Return the variable that the interpreter itself has set (PEP 538)."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - as above
        given = file.read().split(b"\0")
    names = {text.partition(b"=")[0] for text in given}
    return {n: v for n, v in os.environ.items() if n == "LC_CTYPE" and b"LC_CTYPE" not in names}


def _pythonpath(variables: dict[str, str]) -> list[str]:
    value = variables.get("PYTHONPATH", "")
    return value.split(":") if value else []


def _folder_of(script: str) -> str:
    """Return the folder that a script's imports look into first."""
    if os.path.isdir(script):  # noqa: PTH112 - as above
        return script
    return os.path.dirname(os.path.realpath(script))  # noqa: PTH120 - as above


def _renew(outputs: list[int]) -> None:
    """Be a new process: session, descriptors and signals."""
    signal.set_wakeup_fd(-1)
    for number in (_SIGCHLD, _SIGTERM):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for standard, fd in enumerate((null, *outputs)):
        os.dup2(fd, standard)
    if _syscall(CLOSE_RANGE, 3, _ALL, 0) != 0:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _exec_plain(request: dict[str, Any]) -> NoReturn:
    """Become the plain command."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(  # noqa: S606 - no other process than this one
            request["command"][0], request["command"], request["environment"]
        )
    finally:
        os._exit(127)


def _wait_for_children() -> None:
    """Return when the attempts that were started here have ended: they end with us otherwise."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
