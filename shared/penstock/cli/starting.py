"""Starting the stack: in the foreground, or detached and waited for. What `up` and `demo` stand on."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from urllib.parse import quote

import click
import msgspec

from penstock import errors
from penstock.cli.listeners import tell
from penstock.errors import Invalid, PenstockError, Transient
from penstock.runtime import stack
from penstock.runtime.settings import Common, load
from penstock.runtime.stack import Stack, without_password
from penstock.sdk.target import settings_file

if TYPE_CHECKING:
    from penstock.runtime.supervisor import Wanted

SUPERVISOR_LOG = "supervisor.log"
READY_MAX_S = 75.0
TARGETS = "targets"
"""The option that is a setting of the executor, not of everybody."""


def started(
    folder: Path,
    flags: Mapping[str, str],
    slots: int | None,
    *,
    detach: bool,
    report_fd: int | None,
) -> int:
    """Start what is not running yet, or be the supervisor that was started; return the exit code.

    Raises:
        PenstockError: what the supervisor refused, or E_RUNNING.
    """
    # A detached supervisor does not look: the lock tells it, and it tells whoever waits for it.
    running = stack.at(folder) if report_fd is None else None
    if running is not None and running.alive():
        return _already_running(folder, running, flags, slots)
    if detach:
        return start_detached(folder, flags, slots)
    return _run(folder, flags, slots, report_fd)


def directory_of(given: str | None) -> Path:
    """Return the directory that `--dir` means, or the nearest one upwards, or the one to make here."""
    if given:
        wanted = Path(given).absolute()
        known = stack.named(wanted)
        return Path(known.dir) if known is not None else wanted
    found = stack.find(Path.cwd())
    return Path(found.dir) if found is not None else Path.cwd() / stack.FOLDER


def start_detached(folder: Path, flags: Mapping[str, str], slots: int | None = None) -> int:
    """Start a stack in the background and return 0 when it is ready, telling the user meanwhile.

    Raises:
        PenstockError: what the supervisor refused; it has ended.
    """
    began = time.monotonic()
    click.echo(f"Starting penstock in {folder} …", err=True)
    supervisor, reports = _spawned(folder, flags, slots)
    with reports:
        for report in map(json.loads, reports):
            if "said" in report:
                tell(*report["said"])
            elif "ready" in report:
                running = msgspec.convert(report["ready"], type=Stack)
                _show(running, f"penstock is ready ({time.monotonic() - began:.1f} s)")
                return 0
            elif report["code"] == "E_RUNNING":
                return _joined(folder)
            else:
                kind = getattr(errors, report.pop("error"))
                raise kind(report.pop("message"), **report)
    code = supervisor.wait()
    click.echo(f"penstock did not start; its logs are in {folder / 'logs'}", err=True)
    return code or 1


def _spawned(
    folder: Path, flags: Mapping[str, str], slots: int | None
) -> tuple["subprocess.Popen[bytes]", TextIO]:
    """Start the supervisor in a session of its own; return it and the pipe it reports on."""
    reading, writing = os.pipe()
    words = [sys.executable, "-P", "-m", "penstock.cli.main", "up", "--dir", str(folder)]
    words += ["--report-fd", str(writing)]
    words += ["--slots", str(slots)] if slots else []
    # Not on the command line: URLs carry passwords, and everybody may read a command line.
    given = {_variable(name): value for name, value in flags.items()}
    # What it says after a crash has to go somewhere; without a directory the report tells why.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
    log = folder / "logs" / SUPERVISOR_LOG
    output = log.open("ab") if os.access(log.parent, os.W_OK) else None
    try:
        supervisor = subprocess.Popen(
            words,
            env={**os.environ, **given},
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.DEVNULL,
            stderr=output or subprocess.DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,
        )
    finally:
        os.close(writing)
        if output is not None:
            output.close()
    return supervisor, os.fdopen(reading, encoding="utf-8")


def _variable(option: str) -> str:
    return (
        f"PENSTOCK_EXECUTOR_{option.upper()}" if option == TARGETS else f"PENSTOCK_{option.upper()}"
    )


def _run(folder: Path, flags: Mapping[str, str], slots: int | None, report_fd: int | None) -> int:
    """Be the supervisor: of a terminal, or of the process that reads `report_fd`."""
    from penstock.cli.listeners import Foreground, Reporter
    from penstock.runtime.supervisor import Supervisor

    if report_fd is not None:
        reporter = Reporter(folder / "logs" / SUPERVISOR_LOG, report_fd)
        try:
            return asyncio.run(Supervisor(_wanted(folder, flags, slots), reporter).run())
        except PenstockError as error:
            reporter.refused(error)
            return 1
    click.echo(f"Starting penstock in {folder} …", err=True)
    began = time.monotonic()

    def show(running: Stack) -> None:
        _show(running, f"penstock is ready ({time.monotonic() - began:.1f} s)", stop="Ctrl-C")

    code = asyncio.run(Supervisor(_wanted(folder, flags, slots), Foreground(show)).run())
    click.echo(f"stopped; data stays in {folder}", err=True)
    return code


def _wanted(folder: Path, flags: Mapping[str, str], slots: int | None) -> "Wanted":
    from penstock.blob.open import open_store
    from penstock.runtime.supervisor import Wanted

    file = settings_file(os.environ, Path.cwd())
    common = {name: value for name, value in flags.items() if name != TARGETS}
    settings, sources = load("up", Common, common, os.environ, file)
    store = settings.store or f"file:{quote(str(folder / 'store'))}"
    open_store(store)  # contacts nothing, refuses what is no store before anything runs
    return Wanted(
        folder=folder,
        workspace=settings.workspace,
        bus="" if sources["bus"] == "default" else settings.bus,
        store=store,
        slots=slots or 0,
        mlflow=settings.mlflow,
        targets=flags.get(TARGETS) or os.environ.get(_variable(TARGETS), ""),
        settings_file=file,
        environ=dict(os.environ),
    )


def _joined(folder: Path) -> int:
    """Somebody else's `up` was quicker: wait until its stack is ready."""
    deadline = time.monotonic() + READY_MAX_S
    while time.monotonic() < deadline:
        running = stack.at(folder)
        if running is not None and running.alive() and running.state != "starting":
            _show(running, "penstock is already running")
            return 0
        time.sleep(0.05)
    raise Transient(
        f"another `penstock up` is not ready after {READY_MAX_S:.0f} s",
        code="E_RUNNING",
        where=str(folder),
        hint="penstock down, then penstock up",
    )


def _already_running(
    folder: Path, running: Stack, flags: Mapping[str, str], slots: int | None
) -> int:
    """Say so and change nothing, unless something else was asked for.

    Raises:
        Invalid: E_RUNNING, what runs differs from what the options ask.
    """
    found = {
        "bus": running.bus,
        "store": running.store,
        "workspace": running.workspace,
        TARGETS: running.targets or "default",
        "mlflow": str(any(one.name == "mlflow" for one in running.services)).lower(),
    }
    others = [f"--{name}" for name, value in flags.items() if found[name] != value]
    if slots is not None and slots != running.slots:
        others.append("--slots")
    if others:
        raise Invalid(
            f"already running with another {', '.join(others)}",
            code="E_RUNNING",
            where=str(folder),
            hint="penstock down first, or another --dir",
        )
    if running.state == "starting":
        return _joined(folder)
    _show(running, "penstock is already running")
    return 0


def _show(running: Stack, headline: str, stop: str = "penstock down") -> None:
    click.echo(headline)
    rows = {
        "bus": f"{without_password(running.bus)}   workspace {running.workspace}",
        "store": without_password(running.store),
        "directory": running.dir,
        "stop": stop,
    }
    if any(service.name == "mlflow" for service in running.services):
        from penstock.runtime.mlflow_server import known_url

        rows["mlflow"] = known_url(Path(running.dir) / "mlflow")
    for name, value in rows.items():
        click.echo(f"  {name:<10}{value}")
    sys.stdout.flush()
