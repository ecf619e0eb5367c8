"""What is archived of an attempt: what it wrote and logged, as one folder.

stdout.txt  stderr.txt  metrics.jsonl    as they were published live
mlflow/                                  what MLflow wrote without a server
images/  tables/<name>.csv               what was logged as such
outputs/  logs/                          the step's own folders of these names (Azure ML)
"""

import csv
import io
import os
import re
import shutil
from pathlib import Path

import msgspec

from penstock_executor.decide.layout import Place
from penstock_executor.decide.metrics import Line, columns
from penstock_executor.place import only_files

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
TABLES_MAX = 1000


def scattered(place: Place) -> bool:
    """Say whether there may be anything to gather. Most short steps leave nothing."""
    for folder in (place.images, f"{place.code}/outputs", f"{place.code}/logs"):
        try:
            if os.listdir(folder):  # noqa: PTH208 - quick enough for the loop
                return True
        except FileNotFoundError:
            pass
        except OSError:  # a file of that name, say
            return True
    return os.path.exists(f"{place.log}/metrics.jsonl")  # noqa: PTH110 - as above


def gathered(place: Place) -> list[str]:
    """Gather everything in the log folder; return what was left out: links, devices and the like."""
    left_out: list[str] = []
    log = Path(place.log)
    for source, name in (
        (Path(place.images), "images"),
        (Path(place.mlflow), "mlflow"),
        (Path(place.code, "outputs"), "outputs"),
        (Path(place.code, "logs"), "logs"),
    ):
        if source.is_symlink() or not source.is_dir():
            continue
        files, gone = only_files(source)
        left_out += gone
        if files:
            source.rename(log / name)
    points = log / "metrics.jsonl"
    if points.exists():
        _write_tables(points, log / "tables")
    return left_out


def copied_artifacts(place: Place, into: Path) -> None:
    """Fill the reserved output `artifacts` as Azure ML does; what the step put there itself stays."""
    for source, name in (
        (Path(place.code, "outputs"), "outputs"),
        (Path(place.code, "logs"), "logs"),
    ):
        if source.is_symlink() or not source.is_dir():
            continue
        for folder, _, files in os.walk(source):
            for file in files:
                path = Path(folder, file)
                target = into / name / path.relative_to(source)
                if path.is_symlink() or not path.is_file() or target.exists():
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    log = into / "user_logs" / "std_log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as merged:
        for stream in ("stdout.txt", "stderr.txt"):
            written = Path(place.log, stream)
            if written.is_file():
                with written.open("rb") as part:
                    shutil.copyfileobj(part, merged)


def _write_tables(points: Path, folder: Path) -> None:
    with points.open("rb") as file:
        lines = [
            msgspec.json.decode(text, type=Line)
            for text in file
            if b'"kind":"row"' in text or b'"kind":"table"' in text
        ]
    for number, (name, table) in enumerate(sorted(columns(lines).items())[:TABLES_MAX]):
        folder.mkdir(exist_ok=True)
        stem = _UNSAFE.sub("_", name)[:100].lstrip(".") or "table"
        path = folder / f"{stem}.csv"
        if path.exists():
            path = folder / f"{stem}-{number}.csv"
        path.write_text(_csv(table), encoding="utf-8")


def _csv(table: dict[str, list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    rows = max((len(values) for values in table.values()), default=0)
    for row in range(rows):
        writer.writerow(values[row] if row < len(values) else None for values in table.values())
    return text.getvalue()
