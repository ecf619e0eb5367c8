"""Images for steps: by name, from a build context, or with packages on top; each made once.

What an image is made of has a digest, the image carries it as its name, and a lock on this machine sees to it that
of executors that race for one, one builds and the others wait. Packages are installed by a container that is
committed afterwards, not by a Dockerfile: certificates, package indexes and proxies are mounted there, with
their passwords, and leave no trace in the image, as variables of the container would. What a build says goes to
the log of the step that waits for it.
"""

import asyncio
import contextlib
import fcntl
import io
import os
import re
import shlex
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from penstock.contracts.artifacts import PREFIX
from penstock.contracts.spec import EnvironmentSpec
from penstock.errors import Invalid, NotFound, Transient
from penstock.trees.client import TreeClient
from penstock_executor.decide.containers import LABEL, image_digest, is_nowhere, shared_name
from penstock_executor.decide.packages import packages_of
from penstock_executor.engine import Engine

VENV = "/opt/penstock-env"
PASSED_ON = (
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
)  # fmt: skip
CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
LINES_SHOWN_MAX = 30
BUILD_VERSION = 2
"""Raised when the way of building changes, so that images are made again."""

MOUNTED = "/run/penstock"
"""Where a build finds what is of this machine."""
VARIABLES = f"{MOUNTED}/variables"
_LOCAL = re.compile(r"//([^/\s]*@)?(localhost|127\.)")

_INSTALL = f"""\
set -e
. {VARIABLES}
command -v python3 > /dev/null || {{ echo "the image has no python3 to install packages for"; exit 3; }}
python3 -m venv --system-site-packages {VENV}
{VENV}/bin/python -m pip install --disable-pip-version-check --no-input --no-cache-dir -r /requirements.txt
"""


@dataclass(frozen=True)
class Image:
    """An image that is here."""

    id: str
    variables: Mapping[str, str]


class Images:
    """The images of one engine, as one executor asks for them."""

    def __init__(
        self,
        engine: Engine,
        trees: TreeClient,
        log: FilteringBoundLogger,
        environ: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> None:
        self._engine = engine
        self._trees = trees
        self._log = log
        self._environ = environ
        self._labels = labels
        """Of containers that build: by them they are found when this executor is killed."""
        self._known: dict[str, Image] = {}

    async def ready(
        self, wanted: EnvironmentSpec, note: Callable[[str], None], where: str
    ) -> Image:
        """Return the image of an environment, pulled or built if it is not here.

        Raises:
            Invalid: E_ENVIRONMENT, it cannot be had; the message ends with the last words of the attempt.
            Transient: E_ENGINE, E_STORE and the like.
        """
        key = msgspec.json.encode(wanted, order="sorted").decode()
        known = self._known.get(key)
        if known is not None and await self._here(known.id):
            return known
        image = await self._base(wanted, note, where)
        packages = packages_of(wanted, where)
        if packages:
            image = await self._with(image, packages, note, where)
        self._known[key] = image
        return image

    async def _base(
        self, wanted: EnvironmentSpec, note: Callable[[str], None], where: str
    ) -> Image:
        if wanted.build is not None:
            return await self._built(wanted, note, where)
        if not wanted.image:
            raise Invalid(
                f"environment {wanted.name or '(unnamed)'} has no image, and a docker target needs one",
                code="E_ENVIRONMENT",
                where=where,
                hint="give the environment an image, or run the step on a process target",
            )
        found = await self._here(wanted.image)
        if found is None:
            await self._pull(wanted.image, note, where)
            found = await self._here(wanted.image)
        if found is None:
            raise Invalid(f"no image {wanted.image}", code="E_ENVIRONMENT", where=where)
        return found

    async def _here(self, name: str) -> Image | None:
        try:
            about = await self._engine.image(name)
        except NotFound:
            return None
        config: dict[str, Any] = about.get("Config") or {}
        pairs = (text.partition("=") for text in config.get("Env") or ())
        return Image(about["Id"], {name: value for name, _, value in pairs})

    async def _pull(self, image: str, note: Callable[[str], None], where: str) -> None:
        note(f"pulling {image}")
        try:
            async for line in self._engine.pulled(image):
                if "error" in line:
                    raise Invalid(str(line["error"]), code="E_ENVIRONMENT", where=where)
        except (Invalid, NotFound, Transient) as error:
            if isinstance(error, Transient) and not is_nowhere(error.message):
                raise
            raise Invalid(
                f"image {image} is not here and cannot be pulled: {error.message}",
                code="E_ENVIRONMENT",
                where=where,
                hint="is its name right? can the engine reach its registry? `docker pull` as this user says more",
            ) from error

    # -- made here -------------------------------------------------------------------------------
    async def _built(
        self, wanted: EnvironmentSpec, note: Callable[[str], None], where: str
    ) -> Image:
        build = wanted.build
        assert build is not None  # noqa: S101 - asked before
        digest = build.context.removeprefix(PREFIX)
        name = shared_name(image_digest("build", BUILD_VERSION, digest, build.dockerfile))
        async with self._only_one(name, note):
            found = await self._here(name)
            if found is None:
                note(
                    f"building the image of {wanted.name or 'the environment'} ({build.dockerfile})"
                )
                await self._build(digest, name, build.dockerfile, note, where)
                found = await self._here(name)
        if found is None:
            raise Transient(f"the image {name} is gone again", code="E_ENGINE", where=where)
        return found

    async def _build(
        self, digest: str, name: str, dockerfile: str, note: Callable[[str], None], where: str
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="penstock-build-") as folder:
            await self._trees.fetch(digest, Path(folder, "context"))
            context = await asyncio.to_thread(_tar, Path(folder, "context"))
        said: list[str] = []
        try:
            async for line in self._engine.built(context, name, dockerfile, {LABEL: "environment"}):
                text = str(
                    line.get("stream") or line.get("error") or line.get("status") or ""
                ).strip()
                if text:
                    said.append(text)
                    note(text)
                if "error" in line:
                    raise _failed(said, where)
        except (Invalid, NotFound) as error:
            if error.code == "E_ENVIRONMENT":
                raise
            raise _failed([*said, error.message], where) from error

    async def _with(
        self, base: Image, packages: tuple[str, ...], note: Callable[[str], None], where: str
    ) -> Image:
        name = shared_name(image_digest("packages", BUILD_VERSION, base.id, *packages))
        async with self._only_one(name, note):
            found = await self._here(name)
            if found is None:
                note(f"installing {len(packages)} packages into a new image")
                await self._install(base, packages, name, note, where)
                found = await self._here(name)
        if found is None:
            raise Transient(f"the image {name} is gone again", code="E_ENGINE", where=where)
        return found

    async def _install(
        self,
        base: Image,
        packages: tuple[str, ...],
        name: str,
        note: Callable[[str], None],
        where: str,
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="penstock-build-") as folder:
            requirements = Path(folder, "requirements.txt")
            text = "\n".join(packages) + "\n"
            await asyncio.to_thread(requirements.write_text, text, encoding="utf-8")
            variables, files = self._of_this_machine()
            text = "".join(f"export {n}={shlex.quote(v)}\n" for n, v in variables.items())
            files[VARIABLES] = Path(folder, "variables")
            files["/requirements.txt"] = requirements
            await asyncio.to_thread(
                files[VARIABLES].write_text, text, encoding="utf-8", errors="surrogateescape"
            )
            container = await self._engine.begun(
                f"penstock-build-{os.urandom(6).hex()}",
                self._installing(base.id, files, local=_local(variables)),
            )
            try:
                files[VARIABLES].unlink()  # the mount keeps it; a kill -9 of ours would, too
                code = await self._engine.wait(container)
                said = (await self._engine.written(container)).decode(errors="replace").splitlines()
                for line in said[-LINES_SHOWN_MAX:]:
                    note(line)
                if code:
                    raise _failed(said, where)
                path = base.variables.get("PATH") or "/usr/local/bin:/usr/bin:/bin"
                # The image inherits the container's labels, and its containers would: nobody is to sweep those.
                labels = dict.fromkeys(self._labels, '""') | {LABEL: "environment"}
                changes = [f"LABEL {label}={value}" for label, value in labels.items()]
                await self._engine.commit(
                    container, name, [f"ENV PATH={VENV}/bin:{path}", *changes]
                )
            finally:
                await asyncio.shield(self._engine.remove(container))

    def _of_this_machine(self) -> tuple[dict[str, str], dict[str, Path]]:
        """Return the variables with which pip reaches its index from here, and the files they name, by target."""
        environ = self._environ
        variables = {n: v for n, v in environ.items() if n.upper() in PASSED_ON}
        files: dict[str, Path] = {}
        for variable in CERTIFICATES:
            if environ.get(variable) and Path(environ[variable]).is_file():
                variables[variable] = f"{MOUNTED}/{variable}.pem"
                files[variables[variable]] = Path(environ[variable])
        for config in (environ.get("PIP_CONFIG_FILE", ""), "/etc/pip.conf"):
            if config and Path(config).is_file():
                variables["PIP_CONFIG_FILE"] = f"{MOUNTED}/pip.conf"
                files[variables["PIP_CONFIG_FILE"]] = Path(config)
                break
        return variables, files

    def _installing(self, image: str, files: Mapping[str, Path], *, local: bool) -> dict[str, Any]:
        """Return a container that installs. It has no variables of ours: a commit would keep them, with passwords."""
        return {
            "Image": image,
            "User": "0:0",
            "Entrypoint": ["/bin/sh", "-c", _INSTALL],
            "Cmd": [],
            "Labels": {**self._labels, LABEL: "build"},
            "HostConfig": {
                "Init": True,
                "SecurityOpt": ["no-new-privileges"],
                "Mounts": [
                    {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": True}
                    for target, source in files.items()
                ],
                "NetworkMode": "host" if local else "bridge",
            },
        }

    @contextlib.asynccontextmanager
    async def _only_one(self, name: str, note: Callable[[str], None]) -> AsyncIterator[None]:
        """Have others on this machine wait that want the same image. The kernel frees the lock of the dead."""
        handle = await asyncio.to_thread(_lock_file, name.replace(":", "-"))
        try:
            told = False
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        note("somebody builds the image already; waiting for that")
                    told = True
                    await asyncio.sleep(0.2)
            yield
        finally:
            os.close(handle)


def _lock_file(name: str) -> int:
    folder = Path(tempfile.gettempdir(), f"penstock-builds-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _failed(said: list[str], where: str) -> Invalid:
    lines = "\n".join(line for line in said if line.strip())[-1500:]
    return Invalid(
        f"the image could not be built; last words:\n{lines}", code="E_ENVIRONMENT", where=where
    )


def _local(variables: Mapping[str, str]) -> bool:
    """Say whether a package index or proxy is this machine itself, which only its own network reaches."""
    return any(_LOCAL.search(value) for value in variables.values())


def _tar(folder: Path) -> bytes:
    """Return a folder as the engine wants a build context: equal folders give equal bytes."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=plain)
    return data.getvalue()
