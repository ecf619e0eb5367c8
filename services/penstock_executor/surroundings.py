"""What is around a step besides its data: its environment, and where its MLflow logs to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penstock.contracts.artifacts import PREFIX
from penstock.contracts.spec import BuildContext, EnvironmentSpec
from penstock.contracts.work import Failure, WorkItem
from penstock.errors import PenstockError
from penstock_executor.decide import layout, outcome
from penstock_executor.decide.dockerfile import without_build
from penstock_executor.decide.tracked import points
from penstock_executor.environments import Held
from penstock_executor.step_socket import StepSocket
from penstock_executor.tracking import AttemptTracking
from penstock_executor.workshop import Failed, Patience, Workshop

CONTEXT_FILE_BYTES_MAX = 256 * 1024
CONTEXT_FILES_MAX = 32


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around one attempt."""

    environment: Held | None
    """None: the executor's own interpreter."""
    tracking: AttemptTracking

    async def end(
        self, socket: StepSocket, failure: Failure | None, note: Callable[[str], None]
    ) -> None:
        """Take in what the step has logged with MLflow, as if it had been sent to its socket."""
        stopped = failure is not None and failure.code in ("E_CANCELLED", "E_TIMEOUT")
        state = "FINISHED" if failure is None else "KILLED" if stopped else "FAILED"
        try:
            for line in points(await self.tracking.ended(state, note)):
                socket.take(line)
        except Exception as error:  # whatever MLflow or the step has written: how it ended is known
            why = f"{type(error).__name__}: {error}"
            note(f"not all that was logged with MLflow is among the run's metrics: {why}"[:500])

    def close(self) -> None:
        """Let go of it."""
        if self.environment is not None:
            self.environment.close()


async def surroundings(
    shop: Workshop,
    item: WorkItem,
    place: layout.Place,
    patience: Patience,
    note: Callable[[str], None],
) -> Surroundings:
    """Return what is around a step, built if it has to be.

    Raises:
        Failed: E_ENVIRONMENT.
    """
    environment = await _environment_of(shop, item, place, patience, note)
    try:
        return Surroundings(environment, await shop.tracking.begun(item, place, note))
    except BaseException:
        if environment is not None:
            environment.close()
        raise


async def _packages_of_build(
    shop: Workshop,
    spec: EnvironmentSpec,
    build: BuildContext,
    where: str,
    *,
    patience: Patience,
    note: Callable[[str], None],
) -> EnvironmentSpec:
    """Return an environment with what its Dockerfile installs, since this target builds no images.

    Raises:
        Failed: E_ENVIRONMENT, the context is not there, or has no such Dockerfile.
    """
    if spec.conda or spec.pip or spec.python:
        return spec

    async def once() -> dict[str, str]:
        digest = build.context.removeprefix(PREFIX)
        manifest = await shop.trees.manifest(digest)
        small = [
            entry.path
            for entry in manifest.entries
            if entry.digest
            and entry.size <= CONTEXT_FILE_BYTES_MAX
            and (entry.path == build.dockerfile or entry.path.endswith((".txt", ".yml", ".yaml")))
        ]
        texts = [await shop.trees.read(digest, path) for path in small[:CONTEXT_FILES_MAX]]
        return {
            path: text.decode(errors="replace") for path, text in zip(small, texts, strict=False)
        }

    try:
        files = await patience.wait(once, "build context")
    except PenstockError as error:
        raise Failed(outcome.error_failure(error, where, "E_ENVIRONMENT")) from error
    dockerfile = files.get(build.dockerfile)
    if dockerfile is None:
        message = f"no {build.dockerfile} in the build context"
        raise Failed(Failure(code="E_ENVIRONMENT", message=message, where=where))
    named = {path.rpartition("/")[2]: text for path, text in files.items()}
    found, left_out = without_build(spec, dockerfile, named)
    more = f"; {left_out} other instructions are not carried out" if left_out else ""
    note(
        f"a process target builds no image: only what the Dockerfile installs with pip and conda{more}"
    )
    return found


async def _environment_of(
    shop: Workshop,
    item: WorkItem,
    place: layout.Place,
    patience: Patience,
    note: Callable[[str], None],
) -> Held | None:
    """Return the environment of a step, built if it has to be; None: the executor's own interpreter.

    Raises:
        Failed: E_ENVIRONMENT, it cannot be built here.
    """
    spec = item.environment
    if spec is None or shop.environments is None or shop.docker is not None:
        return None
    where = f"{item.step}.environment"
    if spec.build is not None:
        spec = await _packages_of_build(shop, spec, spec.build, where, patience=patience, note=note)
    environments, keep = shop.environments, Path(place.environment_log)

    async def once() -> tuple[Held | None, tuple[str, ...]]:
        with patience.telling("build", "E_ENVIRONMENT") as tell:

            def told(text: str) -> None:
                tell(text)
                note(text)

            return await environments.held(spec, where, told, keep)

    try:
        held, notes = await patience.wait(once, "environment")
    except PenstockError as error:
        raise Failed(outcome.error_failure(error, where, "E_ENVIRONMENT")) from error
    for text in notes:
        note(text)
    return held
