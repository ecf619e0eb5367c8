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
import stat
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from penstock_executor.decide.layout import Place
from penstock_executor.decide.metrics import Line, columns
from penstock_executor.reach import Reach

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
TABLES_MAX = 1000


def scattered(place: Place) -> bool:
    """Say whether there may be anything to gather. Most short steps leave nothing."""
    for folder in (place.images, place.mlflow, f"{place.code}/outputs", f"{place.code}/logs"):
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
    reach = Reach(place.root)
    log = Path(place.log)
    for source, name in (
        (place.images, "images"),
        (place.mlflow, "mlflow"),
        (f"{place.code}/outputs", "outputs"),
        (f"{place.code}/logs", "logs"),
    ):
        if not reach.is_folder(source):
            with suppress(OSError):
                if stat.S_ISLNK(reach.status(source).st_mode):
                    left_out.append(name)
            continue
        files, gone = reach.only_files(source)
        left_out += gone
        if files:
            reach.move(source, log / name)
    try:
        file = reach.reader(log / "metrics.jsonl")
    except FileNotFoundError:
        return left_out
    with file:
        _write_tables(reach, file, log / "tables")
    return left_out


def copied_artifacts(place: Place, into: Path) -> None:
    """Fill the reserved output `artifacts` as Azure ML does; what the step put there itself stays."""
    reach = Reach(place.root)
    for source, name in ((f"{place.code}/outputs", "outputs"), (f"{place.code}/logs", "logs")):
        for path in reach.files(source):
            with reach.reader(f"{source}/{path}") as file:
                _copy(reach, [file], into / name / path)
    with ExitStack() as stack:
        streams = []
        for stream in ("stdout.txt", "stderr.txt"):
            with suppress(OSError):  # not there: nothing was written, or the step took it away
                streams.append(stack.enter_context(reach.reader(f"{place.log}/{stream}")))
        _copy(reach, streams, into / "user_logs" / "std_log.txt")


def _copy(reach: Reach, sources: Iterable[BinaryIO], target: Path) -> None:
    """Copy files, one after the other, into a new one of the same mode, unless something is in its place."""
    try:
        new = reach.create(target)
    except (FileExistsError, NotADirectoryError):  # the step's own
        return
    with new:
        for source in sources:
            os.fchmod(new.fileno(), stat.S_IMODE(os.fstat(source.fileno()).st_mode) & 0o777)
            shutil.copyfileobj(source, new)


def _write_tables(reach: Reach, points: Iterable[bytes], folder: Path) -> None:
    lines = []
    for text in points:
        if b'"kind":"row"' in text or b'"kind":"table"' in text:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # cut off: the disk was full
                lines.append(msgspec.json.decode(text, type=Line))
    for number, (name, table) in enumerate(sorted(columns(lines).items())[:TABLES_MAX]):
        stem = _UNSAFE.sub("_", name)[:100].lstrip(".") or "table"
        try:
            made = reach.create(folder / f"{stem}.csv")
        except FileExistsError:
            made = reach.create(folder / f"{stem}-{number}.csv")
        with made:
            made.write(_csv(table).encode(errors="replace"))


def _csv(table: dict[str, list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    rows = max((len(values) for values in table.values()), default=0)
    for row in range(rows):
        writer.writerow(values[row] if row < len(values) else None for values in table.values())
    return text.getvalue()
