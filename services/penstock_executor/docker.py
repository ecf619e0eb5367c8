"""The stands of a `docker` target: an image, a container, a berth for each attempt."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.contracts.spec import EnvironmentSpec
from penstock.contracts.work import WorkItem
from penstock.errors import Invalid
from penstock_executor.containers import Containers, Slip
from penstock_executor.decide.containers import HOME, Box, Mount, Network, Rules, box_of
from penstock_executor.decide.environment import Basis, InStep
from penstock_executor.decide.layout import Place
from penstock_executor.decide.outcome import Memory
from penstock_executor.images import CERTIFICATES, Image, Images
from penstock_executor.process import Command
from penstock_executor.stand import Handle, Note
from penstock_executor.workshop import Patience

PASSED_ON = frozenset({
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "PIP_INDEX_URL", "UV_DEFAULT_INDEX",
    "UV_INDEX_URL", "TZ",
})  # fmt: skip
"""What a step in a container inherits of the executor's variables, where it has a network."""
IN_STEP = InStep(f"{HOME}/penstock_executor/in_step", f"{HOME}/penstock")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Docker:
    """What all attempts of a `docker` executor share."""

    containers: Containers
    images: Images
    rules: Rules
    image: str = ""
    """For steps that name no environment."""
    keep: str = "run"
    """For whom a container is kept: `run`, `workspace`, or nobody (`off`)."""

    async def stand(self, item: WorkItem, gpus: tuple[str, ...]) -> "InContainer":
        """Wait for a berth, and return the stand there."""
        owner = {"run": item.run, "workspace": "*"}.get(self.keep, "")
        return InContainer(self, item, await self.containers.taken(owner), owner, gpus)


class InContainer:
    """One attempt's container."""

    shielded = True
    slow = True

    def __init__(
        self, docker: Docker, item: WorkItem, slip: Slip, owner: str, gpus: tuple[str, ...]
    ) -> None:
        self.attempts = slip.berth.attempts
        self.talk: Path | None = slip.berth.talk
        self._docker = docker
        self._item = item
        self._slip = slip
        self._owner = owner
        self._gpus = gpus
        self._image = Image("", {})
        self._box: Box | None = None

    async def prepare(self, place: Place, patience: Patience, note: Note) -> None:
        """Have the image here and a container of it there.

        Raises:
            Invalid: E_ENVIRONMENT or E_RESOURCES. Transient: E_ENGINE, after the patience.
        """
        del place

        async def once() -> None:
            with patience.telling("image", "E_ENVIRONMENT") as tell:

                def told(text: str) -> None:
                    tell(text)
                    note(text)

                await self._made(told)

        await patience.wait(once, "container")

    async def _made(self, note: Note) -> None:
        item, docker = self._item, self._docker
        wanted = item.environment or EnvironmentSpec(image=docker.image)
        if not (wanted.image or wanted.build):
            if not docker.image:
                raise Invalid(
                    "the step names no image, and its docker target has none for such steps",
                    code="E_ENVIRONMENT",
                    where=item.step,
                    hint="give the step an environment with an image, or the target an `image`",
                )
            wanted = EnvironmentSpec(image=docker.image, conda=wanted.conda, pip=wanted.pip)
        self._image = await docker.images.ready(wanted, note, item.step)
        network = docker.rules.network
        self._box = box_of(
            item.resources,
            docker.rules,
            image=self._image.id,
            owner=self._owner,
            gpus=self._gpus,
            mounts=_certificates(network, os.environ),
            where=item.step,
        )
        await docker.containers.ready(self._slip, self._box)

    def basis(self, place: Place) -> Basis:
        """Return the image's variables, and of the executor's own what leads to the outside."""
        inherited = {}
        if self._docker.rules.network != "none":
            names = PASSED_ON | frozenset(CERTIFICATES)
            inherited = {n: v for n, v in os.environ.items() if n.upper() in names}
        found = dict(self._image.variables)
        home = {"HOME": place.temporary, "USER": "step", "LOGNAME": "step"}
        path = found.get("PATH") or PATH
        return Basis(
            {**inherited, **found, **home, "PATH": path},
            "",
            "bash",
            {**found, **home},
            in_step=IN_STEP,
            overlaid=False,
        )

    async def start(self, command: Command, place: Place) -> Handle:
        """Start the command in the container."""
        assert self._box is not None  # noqa: S101 - prepared before
        await asyncio.to_thread(self._slip.berth.hand_over, place)
        return await self._docker.containers.start(self._slip, self._box, command)

    def begin(self) -> None:
        """The container's own gauge counts from its start on."""

    def memory(self) -> Memory:
        """Return what the kernel has killed for the container's limit."""
        gauge = self._slip.gauge
        return Memory(gauge.kills, gauge.limit_bytes, gauge.peak_bytes)

    async def ended(self, place: Place) -> None:
        """Make what the step has written ours."""
        await asyncio.to_thread(self._slip.berth.take_back, place)

    async def leave(self, name: str, place: Place, *, clean: bool, lost: bool) -> None:
        """Remove the attempt's folder and, unless it ended as it should, the container."""
        del place
        keep = clean and not lost and bool(self._owner)
        if not keep:  # first: something in it may still write
            await self._docker.containers.dismiss(self._slip)
        await asyncio.to_thread(self.attempts.release, name)
        await self._docker.containers.left(self._slip)


def _certificates(network: Network, environ: Mapping[str, str]) -> tuple[Mount, ...]:
    """Return the certificate files that this machine trusts, for steps that reach the outside."""
    if network == "none":
        return ()
    files = {environ[n] for n in CERTIFICATES if n in environ and Path(environ[n]).is_file()}
    return tuple(Mount(file, file) for file in sorted(files))
