"""What a step asks of the machine it runs on, and what an executor offers.

Asked for once, in two ways: an ask is matched against what executors offer (a step never begins where it
does not fit), and on a `docker` target it is also the container's limit. What is asked for cannot
change the result, so it is no part of a fingerprint.
"""

import math
import re
from typing import Any

from penstock.contracts.base import Message, Strict
from penstock.errors import Invalid

CORES_MAX = 4096
GPUS_MAX = 64
LABELS_MAX = 64
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,62}(=[A-Za-z0-9_./:-]{0,63})?")


class Resources(Strict):
    """What a step asks for. Sizes as Docker writes them: `512m`, `2g`, or a number of bytes.

    `instance_type`, `locations`, `properties` and `max_instance_count` are Azure's and mean nothing here.
    """

    instance_count: int = 1
    cores: float = 0
    """0: nothing is asked for, and nothing limited."""
    memory: str = ""
    gpus: int = 0
    shm_size: str = ""
    """Size of /dev/shm in a container."""
    docker_args: str | tuple[str, ...] = ()
    """Options of `docker run`, those of a short list."""
    labels: tuple[str, ...] = ()
    """What its executor must be labelled with: `ssd`, `zone=eu`."""
    instance_type: str = ""
    locations: tuple[str, ...] = ()
    properties: dict[str, Any] = {}
    max_instance_count: int = 0


class Offer(Message):
    """What an executor offers to all its attempts together. 0 cores or bytes: it does not say."""

    kind: str = "process"
    cores: float = 0
    memory_bytes: int = 0
    gpus: int = 0
    labels: tuple[str, ...] = ()


def size_of(text: str, where: str) -> int:
    """Return the bytes that a size means: `2g` is 2 * 1024**3; empty is 0.

    Raises:
        Invalid: E_RANGE, it is no size.
    """
    if not text:
        return 0
    match = _SIZE.fullmatch(text.strip())
    size = float(match[1]) * 1024.0 ** " kmgt".index(match[2].lower() or " ") if match else 0.0
    if not 0 < size < 2.0**60:
        raise Invalid(
            f"{text[:40]!r} is no size", code="E_RANGE", where=where, hint="write 512m or 2g"
        )
    return int(size)


def check_resources(resources: Resources, where: str) -> None:
    """Say what is wrong with what is asked for, if anything is.

    Raises:
        Invalid: E_RANGE or E_LIMIT.
    """
    size_of(resources.memory, f"{where}.memory")
    size_of(resources.shm_size, f"{where}.shm_size")
    for name, value, most in (
        ("instance_count", resources.instance_count, CORES_MAX),
        ("cores", resources.cores, CORES_MAX),
        ("gpus", resources.gpus, GPUS_MAX),
    ):
        least = 1 if name == "instance_count" else 0
        if not (math.isfinite(value) and least <= value <= most):
            raise Invalid(
                f"{value}; allowed: {least} to {most}", code="E_RANGE", where=f"{where}.{name}"
            )
    check_labels(resources.labels, f"{where}.labels")


def check_labels(labels: tuple[str, ...], where: str) -> None:
    """Say what is wrong with labels, if anything is.

    Raises:
        Invalid: E_RANGE or E_LIMIT.
    """
    if len(labels) > LABELS_MAX:
        raise Invalid(f"{len(labels)}; allowed: {LABELS_MAX}", code="E_LIMIT", where=where)
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise Invalid(
                f"{label[:80]!r} is no label", code="E_RANGE", where=where, hint="ssd, or zone=eu"
            )


def missing(asked: Resources, offer: Offer, *, all_of: bool = True) -> list[str]:
    """Return in words what an executor lacks for a step; empty: the step fits.

    `all_of`: compared with everything it offers; else `offer` is what is free at the moment.
    """
    lacks: list[str] = []
    have = "offered" if all_of else "free"
    memory = size_of(asked.memory, "memory")
    if asked.cores and (offer.cores or not all_of) and asked.cores > offer.cores:
        lacks.append(f"{asked.cores:g} cores ({offer.cores:g} {have})")
    if memory and (offer.memory_bytes or not all_of) and memory > offer.memory_bytes:
        lacks.append(f"{in_words(memory)} of memory ({in_words(offer.memory_bytes)} {have})")
    if asked.gpus > offer.gpus:
        lacks.append(f"{asked.gpus} GPUs ({offer.gpus} {have})")
    lacks += [f"label {label}" for label in asked.labels if label not in offer.labels]
    return lacks


def in_words(size_bytes: int) -> str:
    """Return "1.5 GiB", "512 MiB", "0 B"."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes >= 1024**power:
            return f"{size_bytes / 1024**power:.4g} {unit}"
    return f"{size_bytes} B"
