"""What a step's container is made of, told as the Docker engine wants it. Hardened by default.

    root file system   read-only; a step writes to its own folder, /tmp, /var/tmp and /dev/shm
    user               the executor's own; where that is root, one that is nobody
    privileges         none, and none to be gained; no capability; the engine's seccomp profile
    network            none, unless the compute target says `bridge`
    memory, cores      what the step asks for, else all that the target offers; swap is no way out
    processes          a limit; core dumps none; open files a limit
    mounts             the folders of its attempt, inputs read-only. Never the engine's socket

`docker_args` may change little, and nothing of the above: the list is ALLOWED.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.contracts.resources import Resources, size_of
from penstock.errors import Invalid
from penstock.ids import did_you_mean, digest_of
from penstock.units import GIB, MIB

LABEL = "org.penstock"
NOBODY = 10001
PROCESSES_MIN, PROCESSES_PER_CORE = 256, 64
"""Threads count as processes, and numerical libraries start one per core in every process."""
FILES_MAX = 4096
TMP_BYTES_MAX = 1 * GIB
SHM_BYTES = 64 * MIB
HOME = "/opt/penstock"
"""Where what attends to the step lies inside a container."""

ALLOWED = ("--shm-size", "--ulimit", "--memory", "-m", "--cpus", "--pids-limit", "--hostname", "-h",
           "--network", "--net", "--init", "--read-only", "--ipc")  # fmt: skip
_FLAGS = frozenset({"--init", "--read-only"})
_INSTEAD = {
    "--gpus": "ask with resources.gpus",
    "--ipc": "allowed: private; a bigger /dev/shm is resources.shm_size",
    "--network": "allowed: none; more is for the compute target to say",
    "--net": "allowed: none; more is for the compute target to say",
    "--env": "write it into environment_variables",
    "-e": "write it into environment_variables",
    "--volume": "declare an input",
    "-v": "declare an input",
}
_ULIMITS = frozenset({"nofile", "nproc", "stack", "memlock", "core", "fsize", "cpu", "data", "as"})
_ULIMIT = re.compile(r"([a-z]+)=(-?\d+)(?::(-?\d+))?")
_NOWHERE = re.compile(r"dial tcp\b.*: (connection refused|no such host)")
"""Words of the engine (Go's): of its own absence we say nothing of the kind."""

Network = Literal["none", "bridge"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a compute target lets its containers have."""

    user: str
    memory_bytes: int
    cores: float
    network: Network = "none"
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Options:
    """What a step's `docker_args` change."""

    shm_bytes: int = 0
    memory_bytes: int = 0
    cores: float = 0
    processes: int = 0
    hostname: str = ""
    offline: bool = False
    ulimits: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of this machine, seen in the container."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """A container to be made. Equal boxes are interchangeable: the kept one of one may serve the other."""

    image: str
    """Id of the image, so that a moved tag is another box."""
    memory_bytes: int
    shm_bytes: int
    nano_cores: int
    processes: int
    network: Network
    read_only: bool
    user: str
    gpus: tuple[str, ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    hostname: str = ""
    owner: str = ""
    """Whom it is kept for: a run, or everybody of the workspace."""
    mounts: tuple[Mount, ...] = field(default=())


def options_of(given: str | Sequence[str], where: str) -> Options:
    """Return what `docker_args` say, a text or a list of words.

    Raises:
        Invalid: E_RESOURCES, an option that is not on the list, or a value that is none.
    """
    found: dict[str, Any] = {}
    ulimits: list[tuple[str, int, int]] = []
    for name, value in _options(given, where):
        match name:
            case "--shm-size":
                found["shm_bytes"] = size_of(value, where)
            case "--memory" | "-m":
                found["memory_bytes"] = size_of(value, where)
            case "--cpus":
                found["cores"] = _number(name, value, where)
            case "--pids-limit":
                found["processes"] = int(_number(name, value, where))
            case "--hostname" | "-h" if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", value):
                found["hostname"] = value
            case "--network" | "--net" if value == "none":
                found["offline"] = True
            case "--ipc" if value == "private":
                pass
            case "--ulimit" if (limit := _ULIMIT.fullmatch(value)) and limit[1] in _ULIMITS:
                ulimits.append((limit[1], int(limit[2]), int(limit[3] or limit[2])))
            case "--init" | "--read-only" if value == "true":
                pass  # always so
            case _:
                raise _refusal(name, value, where)
    return Options(**found, ulimits=tuple(ulimits))


def _options(given: str | Sequence[str], where: str) -> list[tuple[str, str]]:
    try:
        words = (
            shlex.split(given)
            if isinstance(given, str)
            else [w for g in given for w in shlex.split(g)]
        )
    except ValueError as error:
        raise Invalid(str(error), code="E_RESOURCES", where=where) from error
    found = []
    while words:
        name, equals, value = words.pop(0).partition("=")
        if name not in ALLOWED:
            raise _refusal(name, value, where)
        if name in _FLAGS:
            value = value or "true"
        elif not equals:
            if not words:
                raise Invalid(f"{name} has no value", code="E_RESOURCES", where=where)
            value = words.pop(0)
        found.append((name, value))
    return found


def _number(name: str, value: str, where: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", value):
        raise Invalid(f"{name} {value[:40]!r} is no number", code="E_RESOURCES", where=where)
    return float(value)


def _refusal(name: str, value: str, where: str) -> Invalid:
    shown = f"{name[:40]} {value[:40]}".strip()
    allowed = ", ".join(a for a in ALLOWED if a.startswith("--"))
    return Invalid(
        f"{shown!r} is no option that a step may give its container; allowed: {allowed}",
        code="E_RESOURCES",
        where=where,
        hint=_INSTEAD.get(name) or did_you_mean(name, ALLOWED),
    )


def box_of(
    asked: Resources,
    rules: Rules,
    *,
    image: str,
    owner: str,
    gpus: Sequence[str] = (),
    mounts: Sequence[Mount] = (),
    where: str = "",
) -> Box:
    """Return the container that a step gets. No option makes it larger than what the target offers.

    Raises:
        Invalid: E_RESOURCES.
    """
    options = options_of(asked.docker_args, f"{where}.resources.docker_args")
    memory = size_of(asked.memory, where) or options.memory_bytes or rules.memory_bytes
    cores = asked.cores or options.cores or rules.cores
    if rules.memory_bytes:
        memory = min(memory, rules.memory_bytes)
    if rules.cores:
        cores = min(cores, rules.cores)
    processes = max(PROCESSES_MIN, int(PROCESSES_PER_CORE * (cores or rules.cores)))
    return Box(
        image=image,
        memory_bytes=memory,
        shm_bytes=size_of(asked.shm_size, where) or options.shm_bytes or SHM_BYTES,
        nano_cores=int(cores * 1e9),
        processes=min(options.processes or processes, processes),
        network="none" if options.offline else rules.network,
        read_only=rules.read_only,
        user=rules.user,
        gpus=tuple(gpus),
        ulimits=options.ulimits,
        hostname=options.hostname,
        owner=owner,
        mounts=tuple(mounts),
    )


def spec_of(
    box: Box, command: Sequence[str], labels: Mapping[str, str], variables: Mapping[str, str]
) -> dict[str, Any]:
    """Return a container as the engine's interface wants it."""
    scratch = min(TMP_BYTES_MAX, box.memory_bytes // 2) if box.memory_bytes else TMP_BYTES_MAX
    tmpfs = f"rw,nosuid,nodev,mode=1777,size={scratch}"
    ulimits = {"core": (0, 0), "nofile": (FILES_MAX, FILES_MAX)}
    ulimits |= {name: (soft, hard) for name, soft, hard in box.ulimits}
    host: dict[str, Any] = {
        "ReadonlyRootfs": box.read_only,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "NetworkMode": box.network,
        "IpcMode": "private",
        "Init": True,
        "Memory": box.memory_bytes,
        "MemorySwap": box.memory_bytes,
        "NanoCpus": box.nano_cores,
        "PidsLimit": box.processes,
        "ShmSize": box.shm_bytes,
        "Tmpfs": {"/tmp": tmpfs, "/var/tmp": tmpfs},  # noqa: S108 - inside the container
        "Ulimits": [{"Name": n, "Soft": s, "Hard": h} for n, (s, h) in sorted(ulimits.items())],
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": "1m", "max-file": "1", "compress": "false"},
        },
        "Mounts": [
            {
                "Type": "bind",
                "Source": mount.source,
                "Target": mount.target,
                "ReadOnly": not mount.writable,
                "BindOptions": {"Propagation": "rprivate"},
            }
            for mount in box.mounts
        ],
    }
    if box.gpus:
        host["DeviceRequests"] = [
            {"Driver": "nvidia", "DeviceIDs": list(box.gpus), "Capabilities": [["gpu"]]}
        ]
    return {
        "Image": box.image,
        "User": box.user,
        "Hostname": box.hostname or "step",
        "Entrypoint": list(command),
        "Cmd": [],
        "WorkingDir": "/",
        "Env": [f"{name}={value}" for name, value in sorted(variables.items())],
        "Labels": dict(labels),
        "NetworkDisabled": box.network == "none",
        "StopSignal": "SIGTERM",
        "HostConfig": host,
    }


def is_nowhere(said: str) -> bool:
    """Say whether by the engine's words there is no registry at all where an image is to come from.

    Other trouble with one passes. Nobody answers at a mistyped host either, and waiting does not mend its name.
    """
    return _NOWHERE.search(said) is not None


def shared_name(digest: str) -> str:
    """Return the name of an image that executors of one engine share, by the digest of what it is made of."""
    return f"penstock-env:{digest[:40]}"


def image_digest(*parts: object) -> str:
    """Return the digest of what an image is made of."""
    return digest_of("\n".join(str(p) for p in parts).encode())
