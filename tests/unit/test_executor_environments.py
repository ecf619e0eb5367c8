"""Environments that executors share: removed by several at once, and nobody who waits for a new one notices."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from penstock.contracts.spec import EnvironmentSpec
from penstock.environments.tables import tables
from penstock_executor.environments import DONE, FOLDER, Done, Environments

OLD = ("a", "b", "c")


def whole(data: Path, name: str, *, lock: bool = True) -> Path:
    """Make what an environment looks like that was built before."""
    folder = data / FOLDER / name
    (folder / "venv").mkdir(parents=True)
    (folder / DONE).write_bytes(msgspec.json.encode(Done(size_bytes=1000)))
    if lock:
        (data / FOLDER / f"{name}.lock").touch()
    return folder


async def test_an_environment_is_there_though_others_remove_old_ones_at_the_same_time(
    tmp_path: Path,
) -> None:
    """Another executor is quicker with one of them, and of one the lock is gone."""
    data = tmp_path / "data"
    folders = {name: whole(data, name, lock=name != "c") for name in OLD}
    said: list[tuple[str, str]] = []

    def listen(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        said.append((event["event"], event.get("key", "")))
        for name in "ab":  # the one that is still there: another executor removes it
            if event["event"] == "removed an environment" and len(said) == 2:
                (folders[name] / DONE).unlink(missing_ok=True)
        raise structlog.DropEvent

    log = structlog.wrap_logger(
        structlog.PrintLogger(),
        processors=[listen],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    environments = Environments(data, tables(""), log, bytes_max=0, linked=False)
    held, _ = await environments.held(
        EnvironmentSpec(python="3"), "step", print, tmp_path / "log.txt"
    )
    assert held is not None
    assert (held.prefix / "bin" / "python").exists()
    held.close()
    environments.close()
    assert {folder.exists() for folder in (folders["a"], folders["b"])} == {False}
    assert folders["c"].exists()
    assert ("an environment cannot be removed", "c") in said
