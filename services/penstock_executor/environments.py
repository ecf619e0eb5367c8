"""The environments of an executor: which there are, who builds one, how long one is kept.

    <data>/environments/<key>.lock       shared while steps run in it, exclusive while it is built or removed
    <data>/environments/<key>/venv/      the environment
    <data>/environments/<key>/build.txt  what the build wrote
    <data>/environments/<key>/done.json  written last: without it the folder is rubbish
    <data>/environments/<key>.failed.txt what the last build that failed wrote

The key is the digest of the recipe, so equal recipes are built once on a machine, by whichever executor
gets the lock; the others wait for it. The kernel lets go of a lock when its holders end, however they end:
a build that was killed has no done.json and is made again from nothing.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from penstock.contracts.base import Message
from penstock.contracts.spec import EnvironmentSpec
from penstock.environments.lookups import Tables
from penstock.errors import PenstockError, Transient
from penstock.ids import digest_of
from penstock.runtime.crash import Crash, never
from penstock_executor.building import LOG, Build, Stopped, Tools, interpreters, tools
from penstock_executor.decide.recipes import Recipe, own_notes, recipe_of

FOLDER = "environments"
DONE = "done.json"
KEY_CHARACTERS = 20
"""Of the digest: paths in shebang lines have to stay short."""
FAILED_S = 30.0
"""How long a failed build is not tried again: the other steps of a fan-out fail at once."""

Tell = Callable[[str], None]


class Done(Message):
    """What is known of a built environment."""

    size_bytes: int = 0
    seconds: float = 0
    notes: tuple[str, ...] = ()


@dataclass
class Held:
    """An environment that an attempt uses; it stays while it is held."""

    folder: Path
    notes: tuple[str, ...]
    handle: int

    @property
    def prefix(self) -> Path:
        """The virtual environment itself."""
        return self.folder / "venv"

    @property
    def python_folder(self) -> str:
        """The folder that makes `python` mean its interpreter."""
        return str(self.prefix / "bin")

    def close(self) -> None:
        """Let go of it."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


class Environments:
    """All environments below a data folder, which executors may share."""

    def __init__(
        self,
        data: Path,
        tables: Tables,
        log: FilteringBoundLogger,
        *,
        bytes_max: int,
        linked: bool,
        crash: Crash = never,
    ) -> None:
        self._root = data / FOLDER
        self._tables = tables
        self._log = log
        self._bytes_max = bytes_max
        self._linked = linked
        self._crash = crash
        self._tools: Tools | None = None
        self._pythons: dict[tuple[int, int], str] = {}
        self._builds: dict[str, asyncio.Future[None]] = {}
        self._running: dict[str, Build] = {}
        self._failed: dict[str, tuple[float, PenstockError]] = {}
        self._closed = False
        self._looking = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    async def held(
        self, spec: EnvironmentSpec, where: str, tell: Tell, keep: Path
    ) -> tuple[Held | None, tuple[str, ...]]:
        """Return an environment, built if it has to be, and notes; None: the executor's own interpreter.

        `tell` is called with what is being waited for; `keep` becomes what the build wrote, if there was one.

        Raises:
            Invalid: E_ENVIRONMENT, it cannot be built. Transient: the package index is away.
        """
        if not (spec.conda or spec.pip or spec.python or spec.image or spec.build):
            return None, ()
        async with self._looking:
            if not self._pythons:
                self._tools = tools()
                self._pythons = await asyncio.to_thread(interpreters, self._tools)
        recipe = recipe_of(spec, self._tables, tuple(self._pythons), where)
        if recipe is None:
            return None, own_notes(spec, self._tables)
        key = self._key(recipe)
        built = False
        while (held := self._taken(key)) is None:
            try:
                await self._built(key, recipe, spec, where, tell)
            except PenstockError:
                _copied(self._root / f"{key}.failed.txt", keep)
                raise
            built = True
        if built:
            _copied(held.folder / LOG, keep)
        return held, (*recipe.notes, *held.notes)

    def close(self) -> None:
        """End what is being built."""
        self._closed = True
        for build in list(self._running.values()):
            build.stop()

    # -- using -----------------------------------------------------------------------------------
    def _key(self, recipe: Recipe) -> str:
        python = self._pythons[recipe.python]
        text = msgspec.json.encode([python, recipe.python, recipe.requirements, self._linked])
        return digest_of(text)[:KEY_CHARACTERS]

    def _taken(self, key: str) -> Held | None:
        """Return an environment that is whole, locked against removal; None: there is none."""
        folder = self._root / key
        try:
            handle = os.open(self._root / f"{key}.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            done = msgspec.json.decode((folder / DONE).read_bytes(), type=Done)
            os.utime(folder / DONE)  # used last
        except (OSError, msgspec.MsgspecError):  # somebody builds or removes it, or it is not whole
            os.close(handle)
            return None
        return Held(folder, done.notes, handle)

    # -- building --------------------------------------------------------------------------------
    async def _built(
        self, key: str, recipe: Recipe, spec: EnvironmentSpec, where: str, tell: Tell
    ) -> None:
        """Return when an environment was built, by whomever."""
        at, error = self._failed.get(key, (0.0, None))
        if error is not None and self._loop.time() - at < FAILED_S:
            raise error
        future = self._builds.get(key)
        if future is None:
            tell(
                f"building environment {spec.name or key}: python "
                f"{recipe.python[0]}.{recipe.python[1]}, {len(recipe.requirements)} requirements"
            )
            future = self._builds[key] = self._loop.create_future()
            future.add_done_callback(lambda one: one.cancelled() or one.exception())
            work = (key, recipe, spec, where, future)
            threading.Thread(target=self._work, args=work, daemon=True, name=f"build-{key}").start()
        else:
            tell(f"waiting for environment {spec.name or key}, which is being built")
        await asyncio.shield(future)

    def _work(
        self,
        key: str,
        recipe: Recipe,
        spec: EnvironmentSpec,
        where: str,
        future: "asyncio.Future[None]",
    ) -> None:
        """Build, in a thread that nobody waits for when the executor ends."""
        error: BaseException | None = None
        try:
            self._build(key, recipe, spec, where)
        except BaseException as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._end, key, future, error)

    def _end(self, key: str, future: "asyncio.Future[None]", error: BaseException | None) -> None:
        self._builds.pop(key, None)
        if error is None:
            self._failed.pop(key, None)
            if not future.done():
                future.set_result(None)
            return
        if isinstance(error, Stopped):
            error = Transient("the executor ends", code="E_ENVIRONMENT")
        if isinstance(error, PenstockError):
            if not isinstance(error, Transient):
                self._failed[key] = (self._loop.time(), error)
            self._log.warning("an environment cannot be built", key=key, error=error.message)
        if not future.done():
            future.set_exception(error)

    def _build(self, key: str, recipe: Recipe, spec: EnvironmentSpec, where: str) -> None:
        assert self._tools is not None  # noqa: S101 - mypy
        self._root.mkdir(parents=True, exist_ok=True)
        folder = self._root / key
        handle = os.open(self._root / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if (folder / DONE).exists():  # somebody else was quicker
                return
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            began = time.monotonic()
            build = self._running[key] = Build(folder, recipe, self._tools, self._pythons)
            try:
                if self._closed:
                    raise Stopped
                notes = build.run(
                    spec.conda,
                    where=where,
                    linked=self._linked,
                    lock=handle,
                    halfway=lambda: self._crash("executor.in-environment"),
                )
            except BaseException:
                self._keep_log(folder)
                raise
            finally:
                del self._running[key]
            done = Done(
                size_bytes=_size_bytes(folder),
                seconds=round(time.monotonic() - began, 1),
                notes=notes,
            )
            _write_durably(folder / DONE, msgspec.json.encode(done))
            self._log.info("built an environment", key=key, seconds=done.seconds)
        finally:
            os.close(handle)
        self._evict(key)

    def _keep_log(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            (folder / LOG).replace(self._root / f"{folder.name}.failed.txt")

    def _evict(self, newest: str) -> None:
        """Remove what was used the longest time ago, until what is left fits."""
        known: list[tuple[float, int, Path]] = []
        for folder in self._root.iterdir():
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                done = msgspec.json.decode((folder / DONE).read_bytes(), type=Done)
                known.append(((folder / DONE).stat().st_mtime, done.size_bytes, folder))
        left = sum(size for _, size, _ in known)
        for _, size, folder in sorted(known):
            if left <= self._bytes_max or folder.name == newest:
                continue
            try:
                gone = self._removed(folder)
            except OSError as error:  # the environment that was built is whole all the same
                self._log.warning(
                    "an environment cannot be removed", key=folder.name, error=str(error)
                )
                continue
            left -= size if gone else 0

    def _removed(self, folder: Path) -> bool:
        """Remove an environment that nobody uses; another executor may have done so since we looked."""
        handle = os.open(self._root / f"{folder.name}.lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a step runs in it
            return False
        else:
            (folder / DONE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            self._log.info("removed an environment", key=folder.name)
            return True
        finally:
            os.close(handle)


def _copied(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.copyfile(source, target)


def _size_bytes(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{root}/{name}").st_size
    return total


def _write_durably(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
