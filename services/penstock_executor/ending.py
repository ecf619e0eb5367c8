"""The end of a step's interpreter, cut short behind everything that anybody can notice.

An interpreter that ends (Py_FinalizeEx) waits for threads, calls what is registered with `atexit`, empties
all modules, collects garbage and flushes its streams. Then it takes itself apart: types, interned
strings, code that is part of the executable. In a fork, whose memory is the server's until it is written
to, that costs 390 page faults, 1.6 ms, a third of a short step. An object that is destroyed between the two
(in PyInterpreterState_Clear, as the last of the callbacks of `os.register_at_fork`) calls `exit(0)` of the
C library instead, which is what would come next.

That is done only where the status is known to be 0: for a script whose `__main__` was given a loader and
`__file__`, and has lost the latter again, as it does when the script has come to its end
(_PyRun_SimpleFileObject; not by SystemExit), whose source does not speak of `__cached__`, so that it cannot
well have taken it away itself, and of which no exception was printed. Whatever else has happened, the
interpreter ends as usual.
"""

import atexit
import ctypes
import io
import os
import sys
from typing import Any

VERSIONS = ((3, 11),)
"""Of CPython, whose source was read."""
CACHED = b"__cached__"
SOURCE_BYTES_MAX = 256 * 1024


class Ending:
    """What is known of the end of this interpreter."""

    def __init__(self) -> None:
        self._main: dict[str, Any] = {"__file__": ""}
        self._cut = [False]
        self._plain = False
        self._hook = sys.excepthook
        self._callbacks = 0
        if sys.implementation.name == "cpython" and sys.version_info[:2] in VERSIONS:
            os.register_at_fork(after_in_child=_Last(self._cut))

    def of(self, main: dict[str, Any], script: str) -> None:
        """Take note of the names of `__main__` of a script that begins, and of its path."""
        self._main = main
        self._plain = _plain(script)
        self._callbacks = atexit._ncallbacks()  # noqa: SLF001

    def come(self) -> None:
        """Decide, when all callbacks of `atexit` have been called."""
        main, self._main = self._main, {}  # its end may be that of what it holds
        self._cut[0] = (
            type(main.get("__loader__")).__name__ == "SourceFileLoader"  # it has begun
            and "__file__" not in main
            and "__cached__" not in main
            and not hasattr(sys, "last_type")
            and self._plain
            and sys.excepthook is self._hook  # which, as any callback, could take that away
            and atexit._ncallbacks() == self._callbacks  # noqa: SLF001
            and all(_flushed(stream) for stream in (sys.stdout, sys.stderr))
        )


class _Last:
    """Held by nothing but the list of callbacks."""

    def __init__(self, cut: list[bool]) -> None:
        self._cut = cut
        self._exit = ctypes.PyDLL(None).exit  # nobody else runs meanwhile

    def __call__(self) -> None:
        """Do nothing after a fork."""

    def __del__(self) -> None:
        if self._cut[0]:
            self._exit(0)


def _plain(script: str) -> bool:
    """Say that a script does not speak of `__cached__`: could it delete that, and then leave by SystemExit?"""
    try:
        fd = os.open(script, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return False
    try:
        source = os.read(fd, SOURCE_BYTES_MAX + 1)
    except OSError:
        return False
    finally:
        os.close(fd)
    return len(source) <= SOURCE_BYTES_MAX and CACHED not in source


def _flushed(stream: object) -> bool:
    """Flush a stream; say whether it is as it was made and that went well: else the status is 120."""
    if type(stream) is not io.TextIOWrapper:
        return False
    try:
        if not stream.closed:
            stream.flush()
    except (OSError, ValueError):
        return False
    return True
