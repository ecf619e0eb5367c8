import argparse
import os
from pathlib import Path


def init():
    global factor
    parser = argparse.ArgumentParser()
    parser.add_argument("--factor", type=int)
    args, _ = parser.parse_known_args()
    factor = args.factor


def run(mini_batch):
    results = []
    for path in mini_batch:
        number = int(Path(path).read_text())
        marker = Path("died-once")
        if number == 3 and not marker.exists():
            marker.touch()
            os._exit(9)  # a crash: the batch is tried again by another process
        if number == 7:
            continue  # an item that fails: one result less than files
        results.append(f"{Path(path).name}: {factor * number * number}")
    return results
