"""Settings of the executor."""

import os
from pathlib import Path
from typing import Literal

from penstock.contracts.resources import Offer, check_labels, size_of
from penstock.errors import Invalid
from penstock.ids import checked_name
from penstock.runtime.settings import Common
from penstock.units import GIB
from penstock_executor.datastores import Datastores
from penstock_executor.decide.containers import NOBODY

SLOTS_MAX = 1024
MEMORY_SHARE = 0.9
"""Of the machine's memory, what steps together may have if the settings do not say."""


class Settings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an executor needs to know."""

    targets: str = "default"
    """Names of the compute targets whose work it takes, separated by commas."""
    slots: int = 0
    """Attempts at a time; 0: as many as the machine has cores."""
    data_dir: str = ""
    """Folder of attempts and cache; empty: `.penstock/executor`. May be shared by executors."""
    cache_bytes_max: int = 20 * GIB
    environments_bytes_max: int = 30 * GIB
    """Space for environments; those used the longest time ago go first."""
    datastores: str = ""
    """Where the workspace's own datastores lie: a folder, or a URL such as `s3://bucket/datastores`;
    empty: `.penstock/datastores`. All executors of a workspace must see the same."""
    datastores_file: str = ""
    """A TOML file, readable by this executor alone, with a table per datastore of what fsspec needs to
    reach it: key, secret, endpoint_url …"""
    tracking: str = ""
    """URL of an MLflow tracking server that steps log to; empty: into their own folders."""
    drain_s: float = 30
    """Seconds that running attempts get to finish after SIGTERM; then another executor takes them."""
    namespace: Literal["auto", "off"] = "auto"
    """auto: each attempt in a PID namespace of its own where the machine allows it."""
    fork_server: Literal["auto", "off"] = "auto"
    """auto: Python steps are forked from a warm interpreter where that makes no difference to them."""
    preload: str = ""
    """Modules that a warm interpreter imports in any case, separated by commas; others it learns."""
    preload_bytes_max: int = GIB
    """Memory that a warm interpreter may take with what it has imported."""
    fork_server_idle_s: float = 600
    """Seconds without use after which a warm interpreter with imports ends."""
    kind: Literal["process", "docker"] = "process"
    """What its targets are: steps as processes of this machine, or in containers."""
    cores: float = 0
    """Cores that steps may have together; 0: those of the machine."""
    memory: str = ""
    """Memory that steps may have together: 8g; empty: nine tenths of the machine's."""
    gpus: int = -1
    """GPUs that steps may have together; -1: those of the machine."""
    labels: str = ""
    """What steps may ask for by `resources.labels`, separated by commas: ssd,zone=eu."""
    engine: str = "/var/run/docker.sock"
    """Socket of the Docker engine."""
    image: str = ""
    """Image for steps that name none."""
    network: Literal["none", "bridge"] = "none"
    """What a container reaches: nothing, or what the engine's bridge lets through."""
    read_only: bool = True
    """A container's own file system cannot be written to."""
    user: str = ""
    """Whom steps run as in containers, as numbers: 1000:1000. Empty: as the executor; if that is root, as 10001."""
    keep_containers: Literal["run", "workspace", "off"] = "run"
    """For whose next step a container is kept: the same run's, anybody's of the workspace, or nobody's."""


def target_names(settings: Settings) -> tuple[str, ...]:
    """Return the checked names of the targets.

    Raises:
        Invalid: E_ID for a name that is none, E_CONFIG when there is no name.
    """
    names = tuple(
        dict.fromkeys(checked_name(t.strip(), "targets") for t in settings.targets.split(",") if t)
    )
    if not names:
        raise Invalid("no compute target", code="E_CONFIG", where="targets", hint="say default")
    return names


def preloaded_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of the modules that are always imported beforehand.

    Raises:
        Invalid: E_CONFIG for a name that is none.
    """
    names = tuple(dict.fromkeys(n for t in settings.preload.split(",") if (n := t.strip())))
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise Invalid(
                f"{name[:80]!r} is not the name of a module",
                code="E_CONFIG",
                where="preload",
                hint="say numpy,sklearn.ensemble",
            )
    return names


def slots_of(settings: Settings) -> int:
    """Return how many attempts may run at a time.

    Raises:
        Invalid: E_CONFIG.
    """
    if not 0 <= settings.slots <= SLOTS_MAX:
        raise Invalid(
            f"{settings.slots}; allowed: 0 (one per core) to {SLOTS_MAX}",
            code="E_CONFIG",
            where="slots",
        )
    return settings.slots or len(os.sched_getaffinity(0))


def datastores_of(settings: Settings) -> Datastores:
    """Return the datastores as this executor reaches them."""
    root = settings.datastores or ".penstock/datastores"
    return Datastores(
        root=root if "://" in root else str(Path(root).absolute()),
        options_file=settings.datastores_file,
    )


def data_folder(settings: Settings) -> Path:
    """Return the absolute data folder."""
    return Path(settings.data_dir or ".penstock/executor").absolute()


def offer_of(settings: Settings) -> Offer:
    """Return what this executor offers to its attempts together.

    Raises:
        Invalid: E_RANGE or E_LIMIT.
    """
    labels = tuple(label for text in settings.labels.split(",") if (label := text.strip()))
    check_labels(labels, "labels")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Offer(
        kind=settings.kind,
        cores=settings.cores or len(os.sched_getaffinity(0)),
        memory_bytes=size_of(settings.memory, "memory") or int(machine * MEMORY_SHARE),
        gpus=len(gpu_names(settings)),
        labels=labels,
    )


def gpu_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of the GPUs that steps may have, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = tuple(name for text in visible.split(",") if (name := text.strip()))
    else:
        found = sorted(Path("/dev").glob("nvidia[0-9]*"))
        names = tuple(path.name.removeprefix("nvidia") for path in found)
    return names if settings.gpus < 0 else names[: settings.gpus]


def step_user(settings: Settings) -> str:
    """Return whom steps in containers run as: `user:group`.

    Raises:
        Invalid: E_CONFIG, it is none.
    """
    own = (os.geteuid(), os.getegid()) if os.geteuid() else (NOBODY, NOBODY)
    user, _, group = (settings.user or f"{own[0]}:{own[1]}").partition(":")
    if not (user.isdigit() and (group or "0").isdigit()):
        raise Invalid(
            f"{settings.user[:40]!r}; allowed: numbers, 1000:1000", code="E_CONFIG", where="user"
        )
    return f"{int(user)}:{int(group or user)}"
