"""Installed packages that a fork server imports once, for the steps that import them anyway.

They are imported one after the other before the first step, then put away: a step sees in
`sys.modules` what a new interpreter has. When it first imports one of them, all come back at once,
with what their imports did to the process (warning filters, variables), which is what the import would
have done then.

Left out is every package whose import does what cannot be shared: starts threads or opens
files, writes output, changes signals, folder, locale, hooks or streams, depends on a variable that
every step has of its own, or takes more memory than there is. After such an import the interpreter
is of no use any more: the server reports and ends, and the executor starts another without it.
"""

import atexit
import contextlib
import ctypes
import fcntl
import importlib.machinery
import importlib.util
import locale
import os
import re
import signal
import site
import struct
import sys
import sysconfig
import termios
import time
import types
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from penstock_executor.ending import Ending

OWN = re.compile(
    r"PATH|PWD|OLDPWD|SHLVL|_|TMPDIR|PYTHONPATH|PIP_.*|PENSTOCK_.*|AZUREML_.*|AZURE_ML_.*|MLFLOW_.*"
)
"""Variables that each step has of its own."""
OURS = "penstock_executor"
CUSTOMIZE = frozenset({"sitecustomize", "usercustomize"})
ENVIRON_READ_WHOLE = "*"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Plain(Exception):
    """This step needs an interpreter of its own; the text says why."""


class Unfit(Exception):
    """The import of a package did what forks cannot share; the text says what."""


class Preload:
    """The packages, imported and put away."""

    def __init__(self, modules: Sequence[str], bytes_max: int) -> None:
        self.ending = Ending()
        self._wanted = modules
        self._bytes_max = bytes_max
        self._given = dict(os.environ)
        self._read: set[str] = set()
        self._away: dict[str, types.ModuleType] = {}
        self._tops: frozenset[str] = frozenset()
        self._kept: list[tuple[str, types.ModuleType, int]] = []
        self._filters: list[Any] = []
        self._finder = Away({}, self._back)
        self._variables: dict[str, str] = {}

    def run(self, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Import what is wanted and return what to report.

        Raises:
            Unfit: one of them is, which was told.
        """
        loaded: list[str] = []
        missing: list[str] = []
        self._filters = list(warnings.filters)
        atexit.register(self._leave)  # first, so it is called last
        before = _state()
        for name in self._wanted:
            tell({"importing": name})
            try:
                (loaded if self._imported(name) else missing).append(name)
                self._check(before)
            except BaseException as error:
                tell({"unfit": name, "reason": str(error) or repr(error)})
                raise Unfit(name) from None
        return {"loaded": loaded, "missing": missing, "bytes": _resident_bytes()}

    def put_away(self, usual: Collection[str]) -> None:
        """Take all modules from sight that are not usual in a new interpreter."""
        self._variables = {n: v for n, v in os.environ.items() if self._given.get(n) != v}
        filters = [f for f in warnings.filters if f not in self._filters]
        _set_filters(self._filters)
        self._filters = filters
        for name in [n for n in sys.modules if n not in usual and n != "sitecustomize"]:
            module = sys.modules.pop(name)
            if name.partition(".")[0] != OURS:
                self._away[name] = module
        self._tops = frozenset(name.partition(".")[0] for name in self._away)
        self._finder = Away(self._away, self._back)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))  # for ever: see _leave
        here = {n: m for n, m in sys.modules.items() if n not in ("sys", "builtins", "__main__")}
        self._kept = [(n, m, len(m.__dict__)) for n, m in (here | self._away).items()]

    def check(self, variables: dict[str, str]) -> None:
        """Check that the packages would find the same variables in this step.

        Raises:
            Plain: they would not.
        """
        for name in self._read:
            if variables.get(name) != self._given.get(name):
                raise Plain(f"{name} differs")

    def check_names(self, folders: Sequence[str]) -> None:
        """Check that these folders, first on the step's path, hide no module that is here already.

        Raises:
            Plain: they do.
        """
        here = self._tops
        for number, folder in enumerate(folders):
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):  # noqa: PTH208 - pathlib is not loaded here
                    stem = name.partition(".")[0]
                    if stem in here or (number and stem in CUSTOMIZE):
                        raise Plain(f"{name} in {folder}")

    def renew(self) -> None:
        """Make new what each process has of its own, in modules that are here already."""
        process = self._away.get("multiprocessing.process")
        if process is not None:
            process.ORIGINAL_DIR = os.path.abspath(os.getcwd())  # type: ignore[attr-defined]  # noqa: PTH100, PTH109
            own = process.current_process()
            own.authkey = os.urandom(32)
        logging = self._away.get("logging")
        if logging is not None:  # where relativeCreated counts from: seconds, or nanoseconds
            now = time.time() if isinstance(logging._startTime, float) else time.time_ns()  # noqa: SLF001
            logging._startTime = now  # type: ignore[attr-defined]  # noqa: SLF001
        sys.meta_path.insert(0, self._finder)

    def _back(self) -> None:
        """Do what the imports did."""
        _set_filters([*self._filters, *warnings.filters])
        os.environ.update(self._variables)
        random = self._away.get("numpy.random")
        if random is not None:
            random.seed()  # a new process has a random one

    def _leave(self) -> None:
        """Spare the interpreter, at its end, the taking apart of packages that it has not made.

        They are out of reach then, as they are in any interpreter that ends; nobody waits for 50 ms.
        """
        for name, module, size in self._kept:
            if sys.modules.get(name) is module and len(module.__dict__) == size:
                sys.modules[name] = None  # type: ignore[assignment]
        self.ending.come()

    def _imported(self, name: str) -> bool:
        """Import a module of an installed package; say whether there is one.

        Raises:
            Unfit: it is none, or depends on what each step has of its own.
        """
        if name in sys.modules:
            return True
        top = importlib.machinery.PathFinder.find_spec(name.partition(".")[0])
        if top is None or not _installed(top):
            return False
        read: set[str] = set()
        variables = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001 - its only place
        recorder = _Recorder(variables, read)
        _keep_variables(recorder)
        try:
            if not _is_module(name):
                return False
            importlib.import_module(name)
        finally:
            _keep_variables({name: recorder.value(name) for name in recorder.names()})
        own = sorted(n for n in read if OWN.fullmatch(n) or n == ENVIRON_READ_WHOLE)
        if own:
            raise Unfit(f"its import reads the variables {', '.join(own)}")
        self._read |= read
        return True

    def _check(self, before: dict[str, object]) -> None:
        if _state()["threads"] != before["threads"]:
            _fork_for_nothing()  # OpenBLAS, for one, ends its threads before any fork, and starts others
        changed = [what for what, value in _state().items() if value != before[what]]
        if changed:
            raise Unfit(f"its import changes {', '.join(changed)}")
        if _resident_bytes() > self._bytes_max:
            raise Unfit(f"more than {self._bytes_max:,} bytes with it")


class Away:
    """Finds the modules that were put away, and brings them back when one is imported."""

    def __init__(self, modules: dict[str, types.ModuleType], back: Callable[[], None]) -> None:
        self._modules = modules
        self._back = back
        self._path = list(sys.path)

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return how to load a module that was put away, None for any other."""
        if name not in self._modules:
            return None
        modules = dict(self._modules)
        sys.meta_path.remove(self)
        for top in {n.partition(".")[0] for n in modules}:
            if not _same(top, modules.get(top)):  # the step brings another one
                for hidden in [n for n in modules if n.partition(".")[0] == top]:
                    del modules[hidden]
        for other, module in modules.items():
            if other != name:  # the import system would take its own spec, and run it again
                sys.modules.setdefault(other, module)
        self._back()
        found = modules.get(name)
        if found is None:
            return importlib.util.find_spec(name)
        return importlib.machinery.ModuleSpec(name, _Loader(found))  # type: ignore[arg-type]


class _Loader:
    """Loads a module that is loaded. It has no base: importlib.abc imports much."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: object) -> types.ModuleType:
        """Return it."""
        return self._module

    def exec_module(self, module: types.ModuleType) -> None:
        """Give it back its own spec: the import system has put ours there."""
        module.__spec__ = self._spec


class _Recorder(dict[bytes, bytes]):
    """The variables, and which of them were asked for."""

    def __init__(self, data: dict[bytes, bytes], read: set[str]) -> None:
        super().__init__(data)
        self._names = read

    def __getitem__(self, name: bytes) -> bytes:
        self._names.add(os.fsdecode(name))
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[bytes]:
        self._names.add(ENVIRON_READ_WHOLE)
        return super().__iter__()

    def names(self) -> list[bytes]:
        """Return all names, without a record."""
        return list(super().__iter__())

    def value(self, name: bytes) -> bytes:
        """Return a value, without a record."""
        return super().__getitem__(name)


def _keep_variables(variables: dict[bytes, bytes]) -> None:
    os.environ._data = variables  # type: ignore[attr-defined]  # noqa: SLF001
    os.environb._data = variables  # type: ignore[attr-defined]  # noqa: SLF001


def _set_filters(filters: Sequence[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]  # noqa: SLF001 - as warnings itself


def _is_module(name: str) -> bool:
    """Say whether there is such a module, importing the packages above it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            return False
        raise


def _same(top: str, module: types.ModuleType | None) -> bool:
    spec = importlib.machinery.PathFinder.find_spec(top)
    ours = module.__spec__ if module is not None else None
    if ours is None or ours.origin in (None, "built-in", "frozen"):
        return True
    return spec is not None and spec.origin == ours.origin


def _installed(spec: importlib.machinery.ModuleSpec) -> bool:
    """Say whether a package is installed, not somebody's source folder."""
    folders = [*site.getsitepackages(), sysconfig.get_path("stdlib")]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(place.startswith(f"{folder}/") for place in places for folder in folders)


def _state() -> dict[str, object]:
    """Return what the import of a package has to leave as it is."""
    waiting = bytearray(4)
    fcntl.ioctl(1, termios.FIONREAD, waiting)
    return {
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208 - pathlib is not loaded here
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "output": struct.unpack("i", waiting)[0],
        "signals": [signal.getsignal(n) for n in range(1, 32)],
        "folder": os.getcwd(),  # noqa: PTH109
        "locale": locale.setlocale(locale.LC_ALL),
        "hooks": (sys.excepthook, sys.displayhook, sys.unraisablehook, sys.gettrace()),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "path": list(sys.path),
    }


def _fork_for_nothing() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    with contextlib.suppress(ChildProcessError):  # reaped by the kernel: SIGCHLD is ignored
        os.waitpid(child, 0)


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - as above
        return int(file.read().split()[1]) * PAGE_BYTES
