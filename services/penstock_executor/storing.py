"""After user code ran: outputs stored and committed, what it wrote and logged archived."""

import asyncio
import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.work import Failure, WorkItem
from penstock.errors import PenstockError
from penstock.trees.hashing import Scan
from penstock_executor.archive import copied_artifacts, gathered, scattered
from penstock_executor.decide import layout, outcome
from penstock_executor.place import output_problem, remove, value_problem
from penstock_executor.reach import Reach
from penstock_executor.workshop import Failed, Patience, Workshop, together

FULL = (errno.ENOSPC, errno.EDQUOT)
SHOWN_MAX = 5
ARTIFACTS = "artifacts"
"""Azure ML's reserved output: whatever the step left in `./outputs` and `./logs`, and what it wrote."""
_ARTIFACTS = re.compile(r"\$\{\{\s*outputs\.artifacts\b")


async def stored_outputs(
    shop: Workshop, item: WorkItem, place: layout.Place, patience: Patience
) -> dict[str, TreeRef]:
    """Store every declared output, all at the same time, and return the committed trees.

    Raises:
        Failed: E_OUTPUT_MISSING, E_OUTPUT_TYPE, E_OUTPUT_CHANGED, E_STORE, E_DISK, …
    """

    async def store(name: str) -> TreeRef:
        output = item.outputs[name]
        path = Path(place.output(name, output))

        scans: list[Scan] = []

        async def once() -> TreeRef:
            if not scans:  # what is given away is no longer there to be scanned again
                if layout.is_file(output):
                    scan = shop.trees.scan_file(path, path.name, purpose="output", give=True)
                else:
                    scan = shop.trees.scan_folder(path, give=True)
                scans.append(await scan)
            return await shop.trees.put(scans[0], owner_of(item), give=True)

        try:
            return await patience.wait(once, f"output {name}")
        except PenstockError as error:
            code = outcome.input_code(error, error.code)
            where = f"{item.step}.outputs.{name}"
            raise Failed(outcome.error_failure(error, where, code)) from error

    if ARTIFACTS in item.outputs and not _mentioned(item):
        into = Path(place.output(ARTIFACTS, item.outputs[ARTIFACTS]))
        await asyncio.to_thread(copied_artifacts, place, into)
    for name, output in item.outputs.items():
        problem = output_problem(place, name, output) or value_problem(place, name, output)
        if problem is not None:
            code, message = problem
            raise Failed(Failure(code=code, message=message, where=f"{item.step}.outputs.{name}"))
    wanted = sorted(item.outputs)
    trees = await together([store(name) for name in wanted])
    return dict(zip(wanted, trees, strict=True))


def _mentioned(item: WorkItem) -> bool:
    """Say whether a step writes its output `artifacts` itself."""
    texts = (item.command, *item.environment_variables.values())
    return any(_ARTIFACTS.search(text) for text in texts)


async def archived(
    shop: Workshop,
    item: WorkItem,
    place: layout.Place,
    patience: Patience,
    note: Callable[[str], None],
) -> TreeRef | None:
    """Store what the step wrote and logged; None when there is nothing.

    Raises:
        OSError, PenstockError: it could not be stored.
    """
    if not Reach(place.root).is_folder(place.log):  # the step's doing; never where a link leads
        raise NotADirectoryError(errno.ENOTDIR, "no folder of logs any more", place.log)
    left_out = await asyncio.to_thread(gathered, place) if scattered(place) else []
    if left_out:
        note(f"left out of the archive, no files: {', '.join(left_out[:SHOWN_MAX])}")
    if not os.listdir(place.log):  # noqa: PTH208 - quick enough for the loop
        return None

    async def once() -> TreeRef:
        return await shop.trees.put_folder(Path(place.log), owner_of(item))

    try:
        return await patience.wait(once, "archive of logs")
    except (OSError, PenstockError) as error:
        if not disk_full(error):
            raise
    for folder in (place.code, place.temporary, place.site, place.inputs):
        await asyncio.to_thread(remove, Path(folder))  # only the step needed these
    return await patience.wait(once, "archive of logs")


def owner_of(item: WorkItem) -> str:
    """Return whose an attempt's trees are, for the record."""
    return f"run/{item.run}/{item.step}/{item.attempt}"


def disk_full(error: OSError | PenstockError) -> bool:
    """Say whether an error means that this machine's disk is full."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return error.code == "E_DISK"
