"""A tree on its way to a datastore while the disk fills up in the middle of it, and has room again."""

import resource
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import fsspec
import pytest
import structlog

from penstock.bus.nats import connect
from penstock.clock import SystemClock
from penstock.contracts.data import Location
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import WorkInput, WorkItem
from penstock.errors import Transient
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock.trees.scan import scanned
from penstock.units import MIB
from penstock_executor.datastores import Datastores
from penstock_executor.moving import moved
from penstock_executor.place import Attempts
from penstock_executor.process import Launcher
from penstock_executor.workshop import Patience, Workshop

pytestmark = pytest.mark.server

FILES = {"a": b"1", "big": bytes(2 * MIB), "z": b"2"}


@pytest.fixture
async def shop(nats: NatsServer, tmp_path: Path) -> AsyncIterator[Workshop]:
    """What attempts of an executor share, in this process, whose limits are ours to set."""
    workspace = f"t{secrets.token_hex(5)}"
    names = Subjects(workspace)
    store = f"file:{tmp_path / 'store'}"
    with Fleet(tmp_path / "fleet", bus=nats.url, store=store, workspace=workspace) as fleet:
        fleet.start("artifact")
        bus = await connect(nats.url, name="executor")
        trees = TreeClient(bus, names, cache=tmp_path / "cache", patience_s=20)
        launcher = Launcher(lambda: None)
        yield Workshop(  # noqa: S604 - a path
            executor="executor",
            bus=bus,
            names=names,
            trees=trees,
            launcher=launcher,
            attempts=Attempts(tmp_path / "data"),
            clock=SystemClock(),
            log=structlog.get_logger(),
            shell="/bin/sh",
            python_folder="",
        )
        launcher.close()
        await trees.close()
        await bus.close()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have the kernel refuse to write longer files, as it refuses on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("where", ["a folder", "behind a URL"])
async def test_a_copy_goes_on_from_half_a_tree_when_the_disk_has_room_again(
    shop: Workshop, tmp_path: Path, where: str
) -> None:
    url = str(tmp_path / "stores") if where == "a folder" else f"memory://{secrets.token_hex(4)}"
    shop = Workshop(**{**vars(shop), "datastores": Datastores(root=url)})
    given = tmp_path / "given"
    given.mkdir()
    for name, data in FILES.items():
        (given / name).write_bytes(data)
    (given / "big").chmod(0o755)  # so it is a copy of what is in the cache, not a link
    tree = await shop.trees.put(scanned(given, ignore=False), "t")
    await shop.trees.fetch(tree.digest, tmp_path / "elsewhere")  # nothing is to be cached any more
    item = WorkItem(
        run="run",
        step="copy",
        attempt=1,
        pipeline="p",
        kind="copy",
        inputs={"tree": WorkInput(type="uri_folder", artifact=tree.digest)},
        outputs={"tree": PlannedOutput()},
        destination=Location(datastore="lake", path="there"),
    )
    place = shop.attempts.make("run-copy-1-1", item.outputs)
    waited: list[Transient] = []
    with ExitStack() as full:
        full.enter_context(files_of_at_most(MIB))

        def tell(_: str, error: Transient) -> None:
            waited.append(error)
            full.close()

        outputs = await moved(shop, item, place, Patience(shop.clock, tell), print)
    assert [error.code for error in waited] == ["E_DISK"]
    assert outputs["tree"].digest == tree.digest
    found = fsspec.get_mapper(f"{url}/lake/there")
    assert dict(found) == FILES
