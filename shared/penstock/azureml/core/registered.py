"""What SDK v1 programs register and find again by name: environments, and the files of models."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.azureml.core.conda_dependencies import CondaDependencies
from penstock.azureml.exceptions import ModelNotFoundException
from penstock.contracts.registry import AssetCommand, AssetKind, AssetView
from penstock.contracts.spec import EnvironmentSpec, PipelineSpec, StepSpec
from penstock.errors import NotFound, Refused
from penstock.ids import checked_name
from penstock.sdk.assets import STEP
from penstock.sdk.client import client_of
from penstock.sdk.definition import Definition, Local
from penstock.sdk.submissions import who

if TYPE_CHECKING:
    from penstock.azureml.core.environment import Environment

ARTIFACT = "artifact:"


def stored_environment(
    workspace: Any, name: str, spec: EnvironmentSpec, context: str, dockerfile: str
) -> AssetView:
    """Register an environment: with a build context, the folder is stored; else with a Dockerfile, its text.

    Raises:
        Refused: it cannot be stored, or the planner's answer.
    """
    client = client_of(workspace)
    wish = AssetCommand(kind="environment", name=checked_name(name, "register"), who=who())
    nameless = msgspec.structs.replace(
        spec, name="", version=""
    )  # as a file's: content alone counts
    step = StepSpec(command="true", environment=nameless)
    with tempfile.TemporaryDirectory() as folder:
        locals_: tuple[Local, ...] = ()
        if dockerfile:
            Path(folder, "Dockerfile").write_text(dockerfile, encoding="utf-8")
        if context or dockerfile:
            place = ("steps", STEP, "environment")
            locals_ = (Local(place, Path(context or folder)),)
        definition = Definition(PipelineSpec(steps={STEP: step}), locals_, (), Path.cwd())
        return client.background.call(client.asynchronous.register_asset(wish, definition))


def asked(workspace: Any, kind: AssetKind, name: str, version: str) -> AssetView | None:
    """Return a registered version, without one the newest; None: there is none."""
    client = client_of(workspace)
    wish = AssetCommand(kind=kind, name=name, version=version)
    try:
        return client.background.call(client.asynchronous.asset(wish))
    except Refused as error:
        if error.code in (NotFound.default_code, "E_ID"):
            return None
        raise


def names(workspace: Any, kind: AssetKind, name: str = "") -> list[AssetView]:
    """Return the newest version of every name, or all versions of one, newest first."""
    client = client_of(workspace)
    wish = AssetCommand(kind=kind, name=name)
    try:
        return list(reversed(client.background.call(client.asynchronous.assets("list", wish))))
    except Refused as error:
        if error.code == NotFound.default_code:
            return []
        raise


def fill(environment: "Environment", view: AssetView) -> "Environment":
    """Put what is registered into an environment, to be used as it is or changed."""
    from penstock.azureml.core.environment import DockerBuildContext

    spec = view.environment or EnvironmentSpec()
    environment.version = view.version
    environment.docker.base_image = spec.image or None
    if spec.build is not None:
        environment.docker.build_context = DockerBuildContext(
            spec.build.context, spec.build.dockerfile
        )
    if spec.conda is not None:
        environment.python.conda_dependencies = CondaDependencies.of_content(spec.conda)
    environment.python.user_managed_dependencies = spec.conda is None and not spec.pip
    environment.pinned(spec.pip, spec.python)
    environment.environment_variables = dict(spec.variables)
    return environment


def fetched(workspace: Any, view: AssetView, into: Path, *, replace: bool) -> Path:
    """Copy a model's files below a folder: a file under its own name, a folder under the model's.

    Raises:
        ModelNotFoundException: E_EXISTS, something is there; E_UNSUPPORTED, its files are not stored here.
    """
    path = "" if view.data is None else view.data.path
    if not path.startswith(ARTIFACT):
        raise ModelNotFoundException(
            f"{view.name}:{view.version} lies at {path!r}", code="E_UNSUPPORTED", where="download",
            hint="give it to a step as an input",
        )  # fmt: skip
    client = client_of(workspace)

    async def fetch(folder: Path) -> None:
        await client.asynchronous.open()
        await client.asynchronous.trees.fetch(path.removeprefix(ARTIFACT), folder)

    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".model-") as folder:
        client.background.call(fetch(Path(folder, "files")))
        (*rest,) = Path(folder, "files").iterdir()
        single = len(rest) == 1 and rest[0].is_file()
        source = rest[0] if single else Path(folder, "files")
        target = into / (rest[0].name if single else view.name)
        if target.exists():
            if not replace:
                raise ModelNotFoundException(
                    f"{target} exists already", code="E_EXISTS", where="download",
                    hint="exist_ok=True replaces it",
                )  # fmt: skip
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        source.rename(target)
    return target
