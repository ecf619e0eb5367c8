"""Trees in and out, beside plain copies of the same files: `python tests/bench/bench_artifact.py`.

Each line is a ratio to a floor measured in the same run (`cp`, `cp -r`, `cp` + fsync), the median of
ROUNDS interleaved rounds, because a disk shared with others gives any absolute figure twice. Names of
stores (file, minio, weed) may be given; file is the default. A ratio above its limit is exit code 1.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from penstock.bus.nats import connect
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.testing.stores import MinioServer, WeedServer
from penstock.trees.client import TreeClient
from penstock.units import KIB, MIB

ROUNDS = 3
BIG_BYTES = 512 * MIB
SMALL_FILES = 5000
SMALL_BYTES = 4 * KIB
LIMITS = {
    "put 512 MiB / cp and fsync": 3.0,
    "fetch 512 MiB into no cache / cp": 3.0,
    "fetch 512 MiB from the cache, read-only / cp": 0.1,
    "put 5,000 x 4 KiB / cp -r": 2.0,
    "put them again / cp -r": 1.0,
    "fetch 5,000 x 4 KiB / cp -r": 2.0,
}
FILE_ONLY = "file"


async def timed(work: Awaitable[object]) -> float:
    """Return how long something takes, in seconds."""
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


def copied(source: Path, target: Path, *, sync: bool = False) -> float:
    """Return how long `cp -r` takes, with an fsync of every byte if asked."""
    started = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    if sync:
        for path in target.rglob("*"):
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
    return time.perf_counter() - started


def made(root: Path, files: int, size: int) -> Path:
    """Return a folder of new random files."""
    for number in range(files):
        path = root / f"{number % 50}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for _ in range(max(1, size // (8 * MIB))):
                file.write(os.urandom(min(size, 8 * MIB)))
    return root


async def measured(cached: TreeClient, plain: TreeClient, base: Path) -> dict[str, float]:
    """Return the ratios of one round; each floor is measured next to what is compared with it."""
    big = await asyncio.to_thread(made, base / "big", 1, BIG_BYTES)
    small = await asyncio.to_thread(made, base / "small", SMALL_FILES, SMALL_BYTES)

    async def copy(source: Path, name: str, *, sync: bool = False) -> float:
        await asyncio.to_thread(os.sync)  # pages that others left dirty slow down who comes next
        return await asyncio.to_thread(copied, source, base / name, sync=sync)

    async def ours(work: Awaitable[object]) -> float:
        await asyncio.to_thread(os.sync)
        return await timed(work)

    durable = await copy(big, "big-durable", sync=True)
    put = await ours(cached.put_folder(big, "bench", give=True))
    digest = (await plain.put_folder(big, "bench")).digest
    copy_big = await copy(big, "big-copy")
    out = await ours(plain.fetch(digest, base / "big-out"))
    linked = await ours(cached.fetch(digest, base / "big-linked", read_only=True))
    copy_small = await copy(small, "small-copy")
    put_many = await ours(plain.put_folder(small, "bench"))
    again = await ours(plain.put_folder(small, "bench"))
    digest = (await plain.put_folder(small, "bench")).digest
    out_many = await ours(plain.fetch(digest, base / "small-out"))
    values = (
        put / durable,
        out / copy_big,
        linked / copy_big,
        put_many / copy_small,
        again / copy_small,
        out_many / copy_small,
    )
    return dict(zip(LIMITS, values, strict=True))


async def bench(kind: str, base: Path) -> bool:
    """Print the ratios on one kind of store; return whether all are within their limits."""
    nats = NatsServer(base / "nats")
    nats.start()
    server: MinioServer | WeedServer | None = None
    url = f"file:{base / 'store'}"
    if kind != FILE_ONLY:
        server = MinioServer(base / "s3") if kind == "minio" else WeedServer(base / "s3")
        server.start()
        url = server.url("bench")
    try:
        with Fleet(base / "fleet", bus=nats.url, store=url) as fleet:
            fleet.start("artifact")
            bus = await connect(nats.url, name="bench")
            plain = TreeClient(bus, Subjects())
            cached = TreeClient(bus, Subjects(), cache=base / "cache")
            rounds = []
            for number in range(ROUNDS):
                folder = base / f"round{number}"
                folder.mkdir()
                rounds.append(await measured(cached, plain, folder))
                await asyncio.to_thread(shutil.rmtree, folder)
            await cached.close()
            await plain.close()
            await bus.close()
    finally:
        nats.stop()
        if server is not None:
            server.kill()
    fine = True
    for name, limit in LIMITS.items():
        ratio = statistics.median(each[name] for each in rounds)
        slow = kind == FILE_ONLY and ratio > limit
        fine = fine and not slow
        print(
            f"{kind:<6} {name:<46} {ratio:>7.2f}  {'TOO SLOW, limit ' if slow else 'limit '}{limit:g}"
        )
    return fine


def main() -> int:
    """Measure the stores that are named."""
    fine = True
    for kind in sys.argv[1:] or [FILE_ONLY]:
        base = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
        try:
            fine = asyncio.run(bench(kind, base)) and fine
        finally:
            shutil.rmtree(base, ignore_errors=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
