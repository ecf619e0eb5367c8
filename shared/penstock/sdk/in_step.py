"""`penstock.current_run()`: what a step's own code may say about its run, and learn of it.

    run = penstock.current_run()
    run.log("accuracy", 0.97)                    the last value counts in the run's summary
    run.log_list("losses", [0.9, 0.5, 0.4])      a list
    run.log_row("epochs", epoch=1, loss=0.5)     one more row of a table
    run.log_table("confusion", {"a": [1, 0], "b": [0, 1]})
    run.log_image("roc", plot=figure)            or path="roc.png"
    run.tag("dataset", "2026-11")

Points go to the executor over a Unix socket, one JSON object per line. What `log` has handed to the
socket outlives this process, however it ends; `flush` waits until the executor has taken it in.
Threads may log, and so may forked and spawned children. Outside a run the same calls print and go on.
Importing this module is cheap on purpose: the standard library, and of that only what is needed.
"""

from __future__ import annotations  # steps of older pythons import this too

import atexit
import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

POINT_BYTES_MAX = 8 * 1024 * 1024
NAME_CHARACTERS_MAX = 250
ANSWER_S = 60.0
OFFLINE = "offline"


class CurrentRun:
    """The run that this code is a step of, or a stand-in that prints when there is none."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._socket_path = environ.get("PENSTOCK_STEP_SOCKET", "")
        self.id = environ.get("PENSTOCK_RUN_ID", "") or OFFLINE
        """The run's id, or "offline"."""
        self.step = environ.get("PENSTOCK_STEP", "") or OFFLINE
        self.attempt = int(environ.get("PENSTOCK_ATTEMPT", "") or 0)
        self.pipeline = environ.get("PENSTOCK_PIPELINE", "")
        self.experiment = environ.get("PENSTOCK_EXPERIMENT", "")
        self.parameters: dict[str, Any] = _json(environ, "PENSTOCK_PARAMETERS")
        """Parameters of the run and literal inputs of the step."""
        self.inputs: dict[str, str] = _json(environ, "PENSTOCK_INPUTS")
        """Path of each input's data."""
        self.outputs: dict[str, str] = _json(environ, "PENSTOCK_OUTPUTS")
        """Path that each output is to be written to."""
        self.tags: dict[str, str] = _json(environ, "PENSTOCK_TAGS")
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._process = os.getpid()
        self._unanswered = b""
        self._lost = False
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._at_exit)

    @property
    def offline(self) -> bool:
        """Say whether there is no run around this code."""
        return not self._socket_path

    def input(self, name: str) -> Path:
        """Return the path of an input's data.

        Raises:
            KeyError: the step has no input of that name; the message lists those it has.
        """
        return _path(self.inputs, name, "input")

    def output(self, name: str) -> Path:
        """Return the path to write an output to.

        Raises:
            KeyError: the step has no output of that name; the message lists those it has.
        """
        return _path(self.outputs, name, "output")

    def log(self, name: str, value: float | str | bool) -> None:
        """Log one value; of several under one name the last counts in the summary."""
        self._send("scalar", name, _plain(value))

    def log_list(self, name: str, values: Sequence[float | str]) -> None:
        """Log a list of values."""
        self._send("list", name, _plain_list(values))

    def log_row(self, name: str, **columns: float | str) -> None:
        """Log one more row of the table `name`."""
        self._send("row", name, {key: _plain(value) for key, value in columns.items()})

    def log_table(self, name: str, columns: Mapping[str, Sequence[float | str]]) -> None:
        """Log a whole table: equally long columns by name."""
        self._send(
            "table", name, {str(key): _plain_list(values) for key, values in columns.items()}
        )

    def log_image(
        self, name: str, path: str | os.PathLike[str] | None = None, plot: Any = None
    ) -> None:
        """Log an image: a file, or anything with `savefig` such as a matplotlib figure or module.

        Raises:
            ValueError: neither or both are given.
        """
        if (path is None) == (plot is None):
            raise ValueError("log_image takes either path or plot")
        suffix = os.path.splitext(os.fspath(path))[1] if path is not None else ".png"  # noqa: PTH122
        if self.offline:
            _print(f"penstock: image {name} ({path or 'plot'})")
            return
        with self._lock:
            self._write({"kind": "image", "name": _name(name), "suffix": suffix})
            target = json.loads(self._answer())
        if "path" not in target:
            raise ValueError(f"image {name!r} was refused: {target.get('error', '')}")
        if path is not None:
            import shutil

            shutil.copyfile(path, target["path"])
        else:
            plot.savefig(target["path"])

    def tag(self, key: str, value: str = "") -> None:
        """Tag the run."""
        self.tags[key] = str(value)
        self._send("tag", key, str(value))

    def flush(self) -> None:
        """Return when the executor has taken in everything logged so far by this process."""
        if self.offline:
            sys.stdout.flush()
            return
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._write({"kind": "flush"})
                self._answer()

    # -- the socket ------------------------------------------------------------------------------
    def _send(self, kind: str, name: str, value: Any) -> None:
        if self.offline:
            _print(f"penstock: {kind} {_name(name)} = {value}")
            return
        try:
            with self._lock:
                self._write(
                    {"kind": kind, "name": _name(name), "value": value, "time": time.time()}
                )
        except OSError as error:  # a lost metric is no reason to lose the step's work
            if not self._lost:
                _print(f"penstock: {name!r} and what follows is not logged: {error}", sys.stderr)
            self._lost = True

    def _write(self, point: Mapping[str, Any]) -> None:
        data = json.dumps(point, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if len(data) > POINT_BYTES_MAX:
            raise ValueError(
                f"{point.get('name')!r} has {len(data):,} bytes; allowed: {POINT_BYTES_MAX:,}. "
                "Write it to an output, or to ./outputs"
            )
        self._connected().sendall(data)

    def _answer(self) -> bytes:
        connection = self._connected()
        while b"\n" not in self._unanswered:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError("the executor has closed the step's socket")
            self._unanswered += data
        line, _, self._unanswered = self._unanswered.partition(b"\n")
        return line

    def _connected(self) -> socket.socket:
        """Return this process's own connection: lines of two processes must not mix in one stream."""
        if self._connection is None or self._process != os.getpid():
            import socket  # 3 ms that a step which logs nothing need not spend

            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._connection.settimeout(ANSWER_S)
            self._connection.connect(self._socket_path)
            self._process = os.getpid()
            self._unanswered = b""
        return self._connection

    def _forget(self) -> None:
        """After a fork, in the child: another thread may have held the lock; the socket is the parent's."""
        self._lock = threading.Lock()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _at_exit(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.flush()


_current: CurrentRun | None = None
_making = threading.Lock()


def current_run() -> CurrentRun:
    """Return the run that this code is a step of; the same object each time."""
    global _current  # noqa: PLW0603 - one process is at most one step of one run
    with _making:
        if _current is None:
            _current = CurrentRun()
        return _current


def _print(text: str, to: Any = None) -> None:
    (to or sys.stdout).write(text + "\n")


def _plain(value: Any) -> Any:
    """Return a value as JSON can carry it: numpy's scalars and arrays unwrapped, NaN as text."""
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    for method in ("tolist", "item"):  # numpy, pandas, torch
        if hasattr(value, method):
            return _plain(getattr(value, method)())
    if hasattr(value, "__float__"):
        return _plain(float(value))
    return str(value)


def _plain_list(values: Any) -> list[Any]:
    """Return a column: a list, a range, a generator, an array or a series."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    return [_plain(value) for value in values]


def _name(name: str) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX:
        raise ValueError(f"a name has 1 to {NAME_CHARACTERS_MAX} characters; found {name!r:.80}")
    return name


def _path(known: Mapping[str, str], name: str, what: str) -> Path:
    if name not in known:
        raise KeyError(f"no {what} {name!r}; this step has: {', '.join(sorted(known)) or 'none'}")
    return Path(known[name])


def _json(environ: Mapping[str, str], variable: str) -> dict[str, Any]:
    text = environ.get(variable, "")
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}
