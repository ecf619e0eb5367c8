"""What `penstock doctor` looks at: the machine, the bus and its streams, the services, the store."""

import asyncio
import http.client
import importlib.util
import json
import secrets
import shutil
import socket
import stat
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from penstock.blob.open import open_store
from penstock.errors import Invalid, NotFound, PenstockError
from penstock.ids import digest_of
from penstock.runtime import nats_server
from penstock.runtime.launch import services
from penstock.runtime.stack import STATE_FILE, without_password
from penstock.runtime.supervisor import FREE_BYTES_MIN
from penstock.units import GIB, MIB

if TYPE_CHECKING:
    from penstock.bus import Bus
    from penstock.contracts.subjects import Subjects

PYTHON_MIN = (3, 11)
FREE_BYTES_WARN = 2 * GIB
CLOCK_S_MAX = 30.0
"""Signed URLs and timers stand this much; stores refuse requests that are 15 minutes off."""
ANSWER_S_MAX = 5.0
EXTRAS = {"artifact": "minio", "trigger": "apscheduler", "demo": "sklearn"}


@dataclass(frozen=True)
class Check:
    """One line of the report. `fix` says what to do when it is not ok."""

    name: str
    state: Literal["ok", "warning", "failed", "unknown"]
    found: str
    fix: str = ""


# -- the machine ------------------------------------------------------------------------------------


def about_machine(folder: Path | None) -> list[Check]:
    """Return what this machine is fit for; `folder` is the directory of a local stack, if any."""
    checks = [_python(), _services_installed(), _extras()]
    if folder is not None:
        checks += [_server(), _disk(folder), *_permissions(folder)]
    return checks


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= PYTHON_MIN
    return Check("Python", "ok" if good else "failed", found, "install Python 3.11 or newer")


def _services_installed() -> Check:
    found = ", ".join(sorted(services()))
    fix = "install penstock again: its entry points are missing"
    return Check("services", "ok" if found else "failed", found or "none installed", fix)


def _extras() -> Check:
    missing = [extra for extra, module in EXTRAS.items() if not importlib.util.find_spec(module)]
    if not missing:
        return Check("extras", "ok", ", ".join(EXTRAS))
    fix = f"where they are needed: pip install 'penstock[{','.join(missing)}]'"
    return Check("extras", "warning", f"not installed: {', '.join(missing)}", fix)


def _server() -> Check:
    try:
        program = nats_server.program()
    except Invalid as error:
        return Check("nats-server", "failed", error.message, error.hint)
    version = nats_server.version_of(program)
    found = f"{'.'.join(map(str, version)) or 'of unknown version'} at {program}"
    wanted = ".".join(map(str, nats_server.VERSION_MIN))
    good = version >= nats_server.VERSION_MIN
    return Check("nats-server", "ok" if good else "failed", found, f"{wanted} or newer is needed")


def _disk(folder: Path) -> Check:
    place = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GiB free at {place}"
    if free < FREE_BYTES_MIN:
        return Check(
            "disk space", "failed", found, f"at least {FREE_BYTES_MIN // MIB} MiB: make room"
        )
    enough = free >= FREE_BYTES_WARN
    return Check(
        "disk space", "ok" if enough else "warning", found, "streams and outputs may fill it"
    )


def _permissions(folder: Path) -> list[Check]:
    """Say whether others may read what holds passwords. Nothing to say before the first `up`."""
    private = (folder / STATE_FILE, folder / "bus" / "nats.conf", folder / "bus" / "identity.json")
    there = [file for file in private if file.exists()]
    if not there:
        return []
    open_ones = [str(file) for file in there if stat.S_IMODE(file.stat().st_mode) & 0o077]
    if open_ones:
        fix = f"chmod 600 {' '.join(open_ones)}; then penstock down and up"
        return [Check("permissions", "failed", "others may read passwords", fix)]
    return [Check("permissions", "ok", "only you may read the passwords")]


# -- the bus ----------------------------------------------------------------------------------------


async def about_bus(url: str, workspace: str, local: Path | None) -> list[Check]:
    """Return how the bus is, its streams, and who answers on it."""
    from penstock.bus.nats import connect
    from penstock.contracts.subjects import Subjects

    names = Subjects(workspace)
    began = time.monotonic()
    try:
        bus = await connect(url, name="penstock-doctor")
    except PenstockError as error:
        fix = error.hint or "is it running, and is the URL right?"
        return [Check("bus", "failed", f"{without_password(url)}: {error.message}", fix)]
    try:
        await bus.flush()
        took_ms = (time.monotonic() - began) * 1000
        return [
            Check("bus", "ok", f"{bus.address}, connected in {took_ms:.0f} ms"),
            *await _streams(bus, names),
            _fsync(local),
            *(_loopback_only(url) if local is not None else []),
            *await _answering(bus, names),
        ]
    finally:
        await bus.close()


async def _streams(bus: "Bus", names: "Subjects") -> list[Check]:
    from penstock.bus.topology import buckets, streams

    wanted = [spec.name for spec in (*streams(names).values(), *buckets(names).values())]
    missing, clock = [], None
    for stream in wanted:
        try:
            answer = await bus.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout_s=ANSWER_S_MAX)
        except NotFound:
            return [
                Check(
                    "streams", "failed", "JetStream is off", "start nats-server with jetstream {}"
                )
            ]
        except PenstockError as error:
            return [Check("streams", "unknown", error.message, error.hint)]
        told = json.loads(answer.data)
        if "error" in told:
            missing.append(stream)
        elif "ts" in told:
            clock = datetime.fromisoformat(told["ts"]).timestamp() - time.time()
    found = f"{len(wanted) - len(missing)} of {len(wanted)}"
    if missing:
        found += f"; missing: {', '.join(missing)}"
    fix = "every service makes its own when it starts: start those that are missing below"
    checks = [Check("streams", "failed" if missing else "ok", found, fix)]
    if clock is not None:
        checks.append(_clock("clock of the bus", clock))
    return checks


def _fsync(local: Path | None) -> Check:
    if local is None:
        fix = "set `sync_interval: always` in its jetstream {}, or acknowledged writes may be lost"
        return Check("fsync of the bus", "unknown", "cannot be seen from here", fix)
    text = (local / "bus" / "nats.conf").read_text(encoding="utf-8")
    good = "sync_interval: always" in text
    return Check(
        "fsync of the bus",
        "ok" if good else "failed",
        "every write" if good else "not every write",
        "penstock down and up writes the file anew",
    )


def _loopback_only(url: str) -> list[Check]:
    """Say whether other machines can reach a bus that is meant for this one."""
    port = urlsplit(url).port or 4222
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells our address on the way out
            own: str = probe.getsockname()[0]
        except OSError:
            return []
    if own.startswith("127."):
        return []
    try:
        socket.create_connection((own, port), timeout=1).close()
    except OSError:
        return [Check("port of the bus", "ok", f"{port}, only from this machine")]
    fix = "another program listens there, or nats.conf was changed; penstock down and up"
    return [Check("port of the bus", "failed", f"{port} answers on {own} too", fix)]


async def _answering(bus: "Bus", names: "Subjects") -> list[Check]:
    from penstock.cli.answering import ALL, NEEDED, answering

    answers = await answering(bus, names)
    checks = []
    for name in ALL:
        count = sum(1 for kind, _ in answers.found if kind == name)
        if count:
            checks.append(Check(name, "ok", f"{count} answering" if count > 1 else "answering"))
        else:
            state: Literal["failed", "warning"] = "failed" if name in NEEDED else "warning"
            checks.append(Check(name, state, "nobody answers", f"penstock serve {name} --bus URL"))
    return checks


# -- the store --------------------------------------------------------------------------------------


async def about_store(url: str) -> list[Check]:
    """Return whether the object store takes, gives and forgets an object, and its clock."""
    key = f"doctor/{secrets.token_hex(8)}"
    data = secrets.token_bytes(4096)
    shown = without_password(url)
    began = time.monotonic()
    try:
        store = open_store(url)
        try:
            await store.put(key, data)
            read = await store.digest(key)
            await store.delete(key)
        finally:
            await store.close()
    except PenstockError as error:
        return [Check("store", "failed", f"{shown}: {error.message}", error.hint or "see its log")]
    took_ms = (time.monotonic() - began) * 1000
    if read != digest_of(data):
        return [Check("store", "failed", f"{shown} gave back other bytes", "do not use it")]
    checks = [Check("store", "ok", f"{shown}: wrote, read and deleted in {took_ms:.0f} ms")]
    if url.startswith("s3+http"):
        checks += await asyncio.to_thread(_store_clock, url)
    return checks


def _store_clock(url: str) -> list[Check]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "s3+https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=ANSWER_S_MAX)
    try:
        connection.request("HEAD", "/")
        told = connection.getresponse().headers.get("Date")  # a refusal tells the time as well
    except (OSError, http.client.HTTPException):
        return []
    finally:
        connection.close()
    if not told:
        return []
    return [_clock("clock of the store", parsedate_to_datetime(told).timestamp() - time.time())]


def _clock(name: str, ahead_s: float) -> Check:
    good = abs(ahead_s) <= CLOCK_S_MAX
    found = f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} ours"
    return Check(name, "ok" if good else "failed", found, "set both clocks (NTP)")
