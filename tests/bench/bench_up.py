"""How long `penstock up --detach` takes from nothing to ready, and `down` to nothing again.

The floor, measured beside it: nats-server alone until it says ready, and one Python that imports
what a service imports. Run: python tests/bench/bench_up.py [rounds]
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from penstock.testing.servers import NatsServer

ROUNDS = 5
PENSTOCK = [sys.executable, "-m", "penstock.cli.main"]
IMPORTS = "import asyncio, msgspec, structlog, penstock.bus.nats"


def timed(*words: str, cwd: Path) -> float:
    began = time.perf_counter()
    subprocess.run(words, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    cold, warm, again, down, server, imports = [], [], [], [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            cold.append(timed(*PENSTOCK, "up", "--detach", cwd=folder))
            again.append(timed(*PENSTOCK, "up", "--detach", cwd=folder))
            down.append(timed(*PENSTOCK, "down", cwd=folder))
            warm.append(timed(*PENSTOCK, "up", "--detach", cwd=folder))
            timed(*PENSTOCK, "down", cwd=folder)
            bare = NatsServer(folder / "bare")
            began = time.perf_counter()
            bare.start()
            server.append(time.perf_counter() - began)
            bare.stop()
            imports.append(timed(sys.executable, "-c", IMPORTS, cwd=folder))
    rows = {
        "up --detach, empty directory": cold,
        "up --detach, streams are there": warm,
        "up --detach, already running": again,
        "down": down,
        "floor: nats-server alone": server,
        "floor: imports of one service": imports,
    }
    print(f"{'seconds, median of ' + str(rounds):<34}{'median':>8}{'worst':>8}")
    for name, values in rows.items():
        print(f"{name:<34}{statistics.median(values):>8.2f}{max(values):>8.2f}")


if __name__ == "__main__":
    main()
