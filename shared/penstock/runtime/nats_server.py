"""The embedded nats-server of a local stack: where its program is, and the file it reads.

It listens on 127.0.0.1 only, with a password of its own, fsyncs every write, and keeps its port for
as long as its directory lives, so that a client's URL survives a restart.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
from blake3 import blake3

from penstock.bus.topology import buckets, streams
from penstock.contracts.subjects import Subjects
from penstock.errors import Invalid, Transient
from penstock.units import MIB

VERSION_MIN = (2, 15, 0)
USER = "penstock"
FILL = 0.8
"""Streams together may fill this part of the store limit; the rest is for the server's own files."""
WORKSPACES_MORE = 4
PORT_FIRST, PORTS = 20_000, 12_000
"""Ports below the range from which systems take the ports of outgoing connections."""
PORT_TRIES_MAX = 200
READY = "Server is ready"
DISK_FULL = re.compile(
    r"will be DISABLED|no space left on device|insufficient storage", re.IGNORECASE
)
"""Log lines after which JetStream does not come back by itself."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory's server keeps for life: bus/identity.json, mode 600."""

    port: int
    password: str
    server_name: str
    workspaces: tuple[str, ...]
    """All that ever lived here; their streams share the disk limit."""

    @property
    def url(self) -> str:
        """The address with its credentials."""
        return f"nats://{USER}:{self.password}@127.0.0.1:{self.port}"


def program() -> Path:
    """Return the nats-server beside our interpreter, else the one on the PATH.

    Raises:
        Invalid: E_NATS_SERVER, there is none.
    """
    beside = Path(sys.executable).parent / "nats-server"
    if beside.is_file():
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise Invalid(
            "there is no nats-server beside this Python or on the PATH",
            code="E_NATS_SERVER",
            where=str(beside),
            hint="pip install 'penstock[local]', or give --bus URL of a running one",
        )
    return Path(found)


def version_of(server: Path) -> tuple[int, ...]:
    """Return a server's version, such as (2, 15, 1); empty if it does not say."""
    try:
        answer = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", answer)
    return tuple(int(part) for part in found.groups()) if found else ()


def store_bytes(workspaces: int, free: int) -> int:
    """Return the store limit for a disk with `free` bytes left.

    Streams reserve their limits, so it is never below what the workspaces known so far need; where
    the disk allows there is room for some more of them.
    """
    names = Subjects()
    specs = (*streams(names).values(), *buckets(names).values())
    one = int(sum(spec.max_bytes for spec in specs) / FILL) + MIB
    return max(workspaces * one, min((workspaces + WORKSPACES_MORE) * one, int(free * FILL)))


def identity(folder: Path, workspace: str) -> Identity:
    """Return who the server of this directory is, the same as last time if its port is still free."""
    known = _remembered(folder / "identity.json")
    if known is None:
        known = Identity(
            port=0,
            password=secrets.token_hex(16),
            server_name=f"penstock-{secrets.token_hex(4)}",
            workspaces=(workspace,),
        )
    first = (
        known.port
        or PORT_FIRST + int.from_bytes(blake3(str(folder).encode()).digest()[:4], "big") % PORTS
    )
    return msgspec.structs.replace(
        known,
        port=free_port(first),
        workspaces=tuple(dict.fromkeys((*known.workspaces, workspace))),
    )


def free_port(first: int) -> int:
    """Return `first` if nobody listens there, else the next port that is free.

    Raises:
        Transient: E_PORT, none of PORT_TRIES_MAX is.
    """
    for port in range(first, first + PORT_TRIES_MAX):
        with socket.socket() as probe:
            # Servers set this too: without it a port counts as taken for a minute after a stop.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise Transient(
        f"no free port on 127.0.0.1 between {first} and {first + PORT_TRIES_MAX - 1}",
        code="E_PORT",
        where="up",
        hint="stop something, or give --bus URL of a NATS that runs already",
    )


def environment() -> dict[str, str]:
    """Return the variables of the server beside which steps run: it takes half the cores.

    With all of them its idle threads look for work so busily that a message costs a sixth more.
    """
    return {"GOMAXPROCS": str(max(1, (os.cpu_count() or 1) // 2))}


def configuration(who: Identity, store: Path) -> str:
    """Return the text of nats.conf."""
    return f"""\
# Written by `penstock up` at every start; changes here are lost.
server_name: {json.dumps(who.server_name)}
listen: "127.0.0.1:{who.port}"
max_payload: 1MB
authorization {{ user: {json.dumps(USER)}, password: {json.dumps(who.password)} }}
jetstream {{
  store_dir: {json.dumps(str(store), ensure_ascii=False)}
  # An acknowledged write is on the disk: without this an acknowledgement may be lost with the power.
  sync_interval: always
  max_memory_store: {64 * MIB}
  max_file_store: {store_bytes(len(who.workspaces), shutil.disk_usage(store).free)}
}}
"""


def prepare(folder: Path, workspace: str) -> tuple[Identity, Path]:
    """Write identity and configuration into `folder`; return both (the configuration as its path)."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    who = identity(folder, workspace)
    _write_private(folder / "identity.json", msgspec.json.encode(who))
    file = folder / "nats.conf"
    _write_private(file, configuration(who, folder).encode())
    return who, file


def _remembered(file: Path) -> Identity | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        return None  # half a file from a full disk: a new password and port do no harm


def _write_private(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(data)
    temporary.replace(file)
