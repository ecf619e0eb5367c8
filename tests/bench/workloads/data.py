"""Data from one step to the next: one big file, many small ones, on a disk and on MinIO."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

from tests.bench.bench import Bench
from tests.bench.pipelines import ended, two
from tests.bench.registry import Missing, Row, Samples, at_most, workload
from tests.bench.stacks import Stack

from penstock.sdk.client import Client
from penstock.testing.fleet import Fleet
from penstock.testing.stores import MinioServer, minio_binary

ROUNDS = 3
MIB = 512
FILES = 5000
PUT = "write + parallel PUT + read by a plain script"
GET = "write + parallel PUT + parallel GET + read by a plain script"


@dataclass(frozen=True)
class Case:
    """What is handed over: the script that both sides run, and how much."""

    script: str
    count: int


BIG = Case("hand_over.py", MIB)
SMALL = Case("small_files.py", FILES)


@workload(
    "hand-over-512",
    "s",
    floor="write + one fsync + one BLAKE3 pass + read by a plain script",
    bound=at_most(1.3),
)
def hand_over(bench: Bench) -> Samples:
    """512 MiB from a step to the next on the same machine, on a directory store."""
    return on_disk(bench, BIG)


@workload(
    "small-files-5000",
    "s",
    floor="write + one syncfs + read by a plain script",
    bound=at_most(2),
)
def small_files(bench: Bench) -> Samples:
    """5,000 files of 4 KiB from a step to the next on the same machine, on a directory store."""
    return on_disk(bench, SMALL)


@workload(
    "minio-hand-over",
    "",
    Row("hand-over-512-minio", "s", PUT, at_most(1.3)),
    Row("hand-over-512-minio-elsewhere", "s", GET, at_most(1.3)),
)
def minio_hand_over(bench: Bench) -> dict[str, Samples]:
    """512 MiB by way of MinIO, to the same executor and to one with a cache of its own."""
    return on_minio(bench, BIG, "hand-over-512-minio")


@workload(
    "minio-small-files",
    "",
    Row("small-files-5000-minio", "s", f"{PUT}, as one tar", at_most(1.3)),
    Row("small-files-5000-minio-elsewhere", "s", f"{GET}, as one tar", at_most(1.3)),
)
def minio_small_files(bench: Bench) -> dict[str, Samples]:
    """5,000 files of 4 KiB by way of MinIO, to the same executor and to one with a cache of its own."""
    return on_minio(bench, SMALL, "small-files-5000-minio")


def on_disk(bench: Bench, case: Case) -> Samples:
    """Measure beside a script that writes to the same disk."""
    floor, parts = floor_of(bench, case, "disk")
    ours = partial(handed_over, bench, bench.client, case)
    samples = bench.paired(ours, floor, rounds=ROUNDS, sync=True)
    return Samples(samples.ours, samples.floor, {"floor_parts_s": medians(parts)})


def on_minio(bench: Bench, case: Case, name: str) -> dict[str, Samples]:
    """Measure beside a script that PUTs into the same MinIO, and GETs for a consumer elsewhere."""
    found = {}
    with minio_stack(bench) as (client, url):
        for suffix, kind, targets in (
            ("", "store", ("here", "here")),
            ("-elsewhere", "elsewhere", ("here", "there")),
        ):
            floor, parts = floor_of(bench, case, kind, url)
            ours = partial(handed_over, bench, client, case, targets)
            samples = bench.paired(ours, floor, rounds=ROUNDS, sync=True)
            more = {"floor_parts_s": medians(parts)}
            found[name + suffix] = Samples(samples.ours, samples.floor, more)
    return found


def handed_over(
    bench: Bench, client: Client, case: Case, targets: tuple[str, str] = ("", "")
) -> float:
    """Run writer and reader and return the seconds from submission to the end."""
    words = (case.count, bench.salt())
    return ended(client, two(bench.sources, case.script, words, targets))[0]


def floor_of(
    bench: Bench, case: Case, kind: str, *url: str
) -> tuple[Callable[[], float], list[dict[str, float]]]:
    """Return the floor, and the list that it puts the seconds of its parts into."""
    parts: list[dict[str, float]] = []

    def floor() -> float:
        folder = bench.folder()
        script = bench.sources / "data" / case.script
        words = (kind, script, folder / "data", case.count, bench.salt(), *url)
        parts.append(json.loads(bench.floor("data.py", *words)))
        shutil.rmtree(folder)
        return sum(parts[-1].values())

    return floor, parts


def medians(parts: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each part of the floor, without the round that warmed it up."""
    return {what: round(median(one[what] for one in parts[1:] or parts), 4) for what in parts[0]}


@contextmanager
def minio_stack(bench: Bench) -> Iterator[tuple[Client, str]]:
    """Lend a stack on MinIO with executors here and there, each with a cache of its own."""
    if minio_binary() is None:
        raise Missing("no minio beside this Python, on PATH or in ~/go/bin")
    folder = bench.folder()
    server = MinioServer(folder / "minio")
    server.start()
    try:
        url = server.url("bench")
        with (
            Stack(folder / "stack", store=url, targets="here") as stack,
            Fleet(folder / "fleet", bus=stack.bus, store="") as fleet,
            Client(dir=stack.folder) as client,
        ):
            fleet.start("executor", targets="there", slots="2")
            yield client, url
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
