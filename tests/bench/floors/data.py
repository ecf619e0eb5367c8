"""What any program has to do to hand data from one step to the next, without an engine.

    data.py disk SCRIPT FOLDER COUNT SALT     write · make it durable · hash once (one big file only) · read
    data.py store SCRIPT FOLDER COUNT SALT URL     write · PUT in parallel parts · read
    data.py elsewhere SCRIPT FOLDER COUNT SALT URL     write · PUT · GET in parallel parts · read

SCRIPT is the very script that the steps run. Many files travel as one tar, because 5,000 PUTs would be
no floor. The seconds of each part are printed as JSON.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

PART = 16 * 1024 * 1024
THREADS = 4
T = TypeVar("T")


def script_of(path: str) -> Any:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def synced(folder: Path) -> None:
    """Make everything in the folder durable: one fsync of a big file, one syncfs for many small ones."""
    big = folder / "big.bin"
    if big.exists():
        handle = os.open(big, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    else:
        subprocess.run(["sync", "-f", str(folder)], check=True)


def hashed(folder: Path) -> None:
    """Hash a big file once, as the engine does: BLAKE3, as quick as this machine's cores can."""
    from blake3 import blake3

    big = folder / "big.bin"
    if big.exists():
        hasher = blake3(max_threads=blake3.AUTO)
        hasher.update_mmap(big)
        hasher.digest()


def packed(folder: Path) -> Path:
    """Return the bytes that travel."""
    big = folder / "big.bin"
    if big.exists():
        return big
    tar = folder.with_suffix(".tar")
    subprocess.run(["tar", "-cf", str(tar), "-C", str(folder), "."], check=True)
    return tar


def unpacked(tar: Path, folder: Path) -> None:
    """Unpack what travelled."""
    subprocess.run(["tar", "-xf", str(tar), "-C", str(folder)], check=True)


def store_of(url: str) -> tuple[Any, str]:
    """Return a client of the store, and the bucket."""
    from minio import Minio
    from urllib3 import PoolManager

    parts = urlsplit(url)
    client = Minio(
        f"{parts.hostname}:{parts.port}",
        access_key=parts.username,
        secret_key=parts.password,
        secure=False,
        region="us-east-1",
        http_client=PoolManager(maxsize=THREADS),
    )
    return client, parts.path.strip("/")


def put(url: str, source: Path, name: str) -> None:
    """PUT in parallel parts, as any S3 tool does."""
    client, bucket = store_of(url)
    with source.open("rb") as file:
        client.put_object(
            bucket, name, file, source.stat().st_size, part_size=PART, num_parallel_uploads=THREADS
        )


def get(url: str, name: str, target: Path) -> None:
    """GET ranges in parallel into one file."""
    client, bucket = store_of(url)
    size = client.stat_object(bucket, name).size
    with target.open("wb") as file:
        file.truncate(size)

    def part(offset: int) -> None:
        length = min(PART, size - offset)
        answer = client.get_object(bucket, name, offset=offset, length=length)
        try:
            with target.open("r+b", buffering=0) as file:
                file.seek(offset)
                while data := answer.read(1024 * 1024):
                    file.write(data)
        finally:
            answer.close()
            answer.release_conn()

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(part, range(0, size, PART)))


def main() -> None:
    kind, path, place, number, salt, *url = sys.argv[1:]
    script, folder, count = script_of(path), Path(place), int(number)
    times: dict[str, float] = {}

    def timed(what: str, work: Callable[..., T], *words: Any) -> T:
        began = time.perf_counter()
        result = work(*words)
        times[what] = time.perf_counter() - began
        return result

    timed("write", script.write, str(folder), count, salt)
    if kind == "disk":
        timed("sync", synced, folder)
        timed("hash", hashed, folder)
    else:
        source = timed("pack", packed, folder)
        timed("put", put, *url, source, salt)
    reading = folder
    if kind == "elsewhere":
        reading = folder.with_name(folder.name + "-elsewhere")
        reading.mkdir()
        target = reading / source.name
        timed("get", get, *url, salt, target)
        if target.suffix == ".tar":
            timed("unpack", unpacked, target, reading)
    timed("read", script.read, str(reading), count, salt)
    print(json.dumps(times))


main()
