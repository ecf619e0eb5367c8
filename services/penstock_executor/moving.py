"""Steps that run no command: an import brings data into the store, a copy writes a tree to a datastore.

    import   bring ──▶ store ──▶ its one output
    copy     fetch its one input ──▶ write to its place ──▶ its one output, the same tree

Both may be done twice: what is stored is named by its content, what is written is written again.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from penstock.contracts.artifacts import PREFIX, TreeRef, tree_ref
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.data import Asset, Location
from penstock.contracts.queries import Refusal
from penstock.contracts.registry import AssetCommand, AssetView, DataContent
from penstock.contracts.spec import FILES, PRIMITIVES
from penstock.contracts.work import WorkItem
from penstock.errors import BusUnavailable, Invalid, NotFound, Transient
from penstock_executor.bringing import brought
from penstock_executor.decide import layout
from penstock_executor.placing import leave, put_in_place, upload, waiting_folder
from penstock_executor.storing import owner_of
from penstock_executor.workshop import Patience, Workshop

LEAVE_S = 5.0
REGISTRY_WAIT_S = 10.0
BROUGHT = "data"
"""Name of the folder below the attempt's inputs that trees go through."""
T = TypeVar("T")
Note = Callable[[str], None]
GoOn = Callable[[], None]


async def moved(
    shop: Workshop, item: WorkItem, place: layout.Place, patience: Patience, note: Note
) -> dict[str, TreeRef]:
    """Carry an import or a copy out and return its output.

    Raises:
        PenstockError: what `brought`, `put_in_place` and the store say.
    """
    (output,) = item.outputs
    if item.kind == "import":
        return {output: await _imported(shop, item, place, patience, note)}
    return {output: await _copied(shop, item, place, patience, note)}


async def _imported(
    shop: Workshop, item: WorkItem, place: layout.Place, patience: Patience, note: Note
) -> TreeRef:
    location = item.source
    assert location is not None  # noqa: S101 - layout.checked_item
    into = Path(place.input(BROUGHT))
    note(f"reading {location.text()}")
    look, before = shop.datastores.seen.get(location, ("", None))
    if before is not None and not await shop.trees.exist({before.digest}):
        look, before = "", None
    found = await _in_thread(lambda go_on: brought(location, shop.datastores, into, go_on, look))
    if found is None:
        assert before is not None  # noqa: S101 - only a look can be what it was
        note(f"unchanged since it was read last: artifact:{before.digest}")
        return before
    scan = found.scan
    for line in scan.notes:
        note(line)
    # What lies in a folder here are somebody's files, and what a pattern chose are links to them.
    give = bool(location.url) or shop.datastores.folder(location) is None
    shop.crash("executor.after-bring")
    tree = await patience.wait(
        lambda: shop.trees.put(scan, owner_of(item), give=give), f"storing {location.text()}"
    )
    shop.datastores.remember(location, found.look, tree)
    note(f"{_counted(tree.files)}, {tree.size_bytes:,} bytes: artifact:{tree.digest}")
    return tree


async def _copied(
    shop: Workshop, item: WorkItem, place: layout.Place, patience: Patience, note: Note
) -> TreeRef:
    (given,) = item.inputs.values()
    digest, kind = given.artifact, given.type
    manifest = await patience.wait(lambda: shop.trees.manifest(digest), "the tree's manifest")
    files = [entry.path for entry in manifest.entries if entry.digest]
    if item.destination is not None:
        only = files[0] if kind in (*FILES, *PRIMITIVES) and len(files) == 1 else ""
        await _written(shop, place, patience, Written(digest, item.destination, only))
        note(f"{_counted(len(files))} written to {item.destination.text()}")
        shop.crash("executor.after-write")
    if item.asset is not None:
        view = await _registered(shop, item, item.asset, digest)
        note(f"registered as azureml:{view.name}:{view.version}, a {view.kind} asset")
    return tree_ref(manifest)


async def _registered(shop: Workshop, item: WorkItem, asset: Asset, digest: str) -> AssetView:
    """Register a tree and return its version; done again it is the same version, since the content is.

    Raises:
        Invalid: the registry refuses it: E_EXISTS, the version is there with another content.
        Transient: E_BUS and the like, nobody answers.
    """
    content = msgspec.convert({"type": asset.type, "path": PREFIX + digest}, DataContent)
    command = AssetCommand(
        kind=asset.kind,
        name=asset.name,
        version=asset.version,
        data=content,
        who=f"run/{item.run}",
    )
    subject = shop.names.query("asset.create")
    try:
        answer = await shop.bus.request(subject, encoded(command), timeout_s=REGISTRY_WAIT_S)
    except NotFound as error:
        raise BusUnavailable("no registry answers", where=subject) from error
    if b'"error"' in answer.data[:16]:
        said = decoded(answer.data, Refusal).error
        raise Invalid(said.message, code=said.code, where=item.step, hint=said.hint)
    return decoded(answer.data, AssetView)


@dataclass(frozen=True, slots=True)
class Written:
    """What is written: a tree, or its one file `only`; and where to."""

    digest: str
    location: Location
    only: str = ""


async def _written(shop: Workshop, place: layout.Place, patience: Patience, what: Written) -> None:
    """Write a tree to a place on a datastore."""
    digest, location, only = what.digest, what.location, what.only
    if only and not location.path:
        raise Invalid(
            "a file cannot be written to the root of a datastore",
            code="E_PATH",
            where=location.text(),
            hint="end the path with the file's name",
        )
    root = shop.datastores.folder(location)
    if root is None:
        tree = Path(place.input(BROUGHT))
        await patience.wait(lambda: shop.fetch(digest, tree, read_only=True), "the tree", disk=True)
        filesystem, base = await _in_thread(lambda _: shop.datastores.filesystem(location))
        path = f"{base}/{location.path}" if location.path else base
        await _in_thread(lambda go_on: upload(tree / only, filesystem, path, location, go_on))
        return
    name = Path(place.root).name
    waiting = await _in_thread(lambda _: waiting_folder(root, name))
    try:
        tree = waiting / "tree"
        await patience.wait(lambda: shop.fetch(digest, tree), "the tree", disk=True)
        await _in_thread(
            lambda go_on: put_in_place(
                tree / only,
                root,
                location,
                go_on,
                lambda: shop.crash("executor.mid-write"),
            )
        )
    finally:
        await _in_thread(lambda _: leave(waiting))


def _counted(files: int) -> str:
    return f"{files:,} file{'s' if files != 1 else ''}"


async def _in_thread(work: Callable[[GoOn], T]) -> T:
    """Return what `work` returns in a thread. Cancelled, it waits a while for the thread to notice.

    Work on this machine's disks has ended then. A thread that hangs on a server may notice later; it
    only has the attempt's own folder to write to, or an object store, where a file is there or not.
    """
    ended = threading.Event()

    def go_on() -> None:
        if ended.is_set():
            raise Transient("the attempt ends", code="E_CANCELLED")

    future = asyncio.ensure_future(asyncio.to_thread(work, go_on))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        ended.set()
        await asyncio.wait({future}, timeout=LEAVE_S)
        # It was told to end, and says so, now or later.
        future.add_done_callback(lambda each: each.cancelled() or each.exception())
        raise
