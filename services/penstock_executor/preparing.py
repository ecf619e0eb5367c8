"""Before user code runs: snapshot and inputs brought in, the command and its variables made."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

import penstock
from penstock.contracts.artifacts import Manifest
from penstock.contracts.spec import EnvironmentSpec
from penstock.contracts.work import Failure, WorkInput, WorkItem
from penstock.errors import PenstockError
from penstock_executor import overlay
from penstock_executor.decide import layout, outcome
from penstock_executor.decide.command import substituted, text_of
from penstock_executor.decide.control import VALUE_BYTES_MAX, is_value, value_of
from penstock_executor.decide.environment import (
    VARIABLE_BYTES_MAX,
    Basis,
    Bindings,
    InStep,
    variables,
)
from penstock_executor.decide.forkable import program_of
from penstock_executor.overlay import calls_pip
from penstock_executor.process import Command
from penstock_executor.surroundings import Surroundings
from penstock_executor.workshop import Failed, Patience, Workshop, together

IN_STEP = InStep(
    folder=str(Path(__file__).with_name("in_step").absolute()),
    package=str(Path(penstock.__file__).parent.absolute()),
)
Stamps = Mapping[str, tuple[int, int, int]]
"""By path: inode, size and time of change (ns)."""


@dataclass(frozen=True)
class Fetched:
    """What was brought in."""

    bindings: Bindings
    manifests: Mapping[str, Manifest]
    """Of each input, by its folder."""


async def fetched(
    shop: Workshop, item: WorkItem, place: layout.Place, patience: Patience
) -> Fetched:
    """Fetch snapshot and inputs, all at the same time, and return what inputs and outputs became.

    Raises:
        Failed: E_CODE, E_INPUT, E_STORE or E_DISK.
    """

    async def fetch(digest: str, into: str, what: str, *, read_only: bool) -> Manifest:
        try:
            return await patience.wait(
                lambda: shop.fetch(digest, Path(into), read_only=read_only), what, disk=True
            )
        except PenstockError as error:
            code = outcome.input_code(error, "E_INPUT" if read_only else "E_CODE")
            raise Failed(outcome.error_failure(error, f"{item.step}: {what}", code)) from error

    data = {name: given for name, given in item.inputs.items() if given.artifact}
    fetches = [
        fetch(given.artifact, place.input(name), f"input {name}", read_only=True)
        for name, given in data.items()
    ]
    if item.code:
        fetches.append(fetch(item.code, place.code, "code", read_only=False))
    else:
        os.mkdir(place.code)  # noqa: PTH102 - quick enough for the loop
    found = await together(fetches)
    for name in ("outputs", "logs"):
        with contextlib.suppress(FileExistsError):  # a file of that name is the author's choice
            os.mkdir(f"{place.code}/{name}")  # noqa: PTH102 - as above
    manifests = dict(zip((place.input(name) for name in data), found, strict=False))
    inputs = {
        name: text
        for name, given in item.inputs.items()
        if (text := _text(place.input(name), given, manifests)) is not None
    }
    outputs = {name: place.output(name, output) for name, output in item.outputs.items()}
    return Fetched(Bindings(inputs=inputs, outputs=outputs), manifests)


async def valued(shop: Workshop, item: WorkItem, patience: Patience) -> WorkItem:
    """Return a work item whose inputs that are values of other steps have become literals.

    Raises:
        Failed: E_INPUT, E_STORE.
    """
    given = {
        name: data for name, data in item.inputs.items() if data.artifact and is_value(data.type)
    }
    if not given:
        return item

    async def read(name: str, data: WorkInput) -> WorkInput:
        async def once() -> bytes:
            manifest = await shop.trees.manifest(data.artifact)
            files = [entry for entry in manifest.entries if entry.digest]
            if len(files) != 1 or files[0].size > VALUE_BYTES_MAX:
                return b"\x00"  # no value of any type
            return await shop.trees.read(data.artifact, files[0].path)

        where = f"{item.step}.inputs.{name}"
        try:
            value = value_of(data.type, await patience.wait(once, f"input {name}"))
        except PenstockError as error:
            code = outcome.input_code(error, "E_INPUT")
            raise Failed(outcome.error_failure(error, where, code)) from error
        if value is None:
            message = f"what came is no {data.type}"
            raise Failed(Failure(code="E_INPUT", message=message, where=where))
        return WorkInput(type="literal", value=value)

    values = await together([read(name, data) for name, data in given.items()])
    found = dict(zip(given, values, strict=True))
    literals = {name: data.value for name, data in found.items() if data.value is not None}
    return msgspec.structs.replace(
        item, inputs={**item.inputs, **found}, parameters={**item.parameters, **literals}
    )


def command_of(
    shop: Workshop,
    item: WorkItem,
    place: layout.Place,
    bindings: Bindings,
    *,
    socket: Path,
    around: Surroundings,
    basis: Basis,
    note: Callable[[str], None],
) -> Command:
    """Return what to run.

    Raises:
        Invalid, Failed: E_COMMAND.
    """
    where = f"{item.step}.command"
    text = substituted(item.command, bindings.inputs, bindings.outputs, where)
    declared = {
        name: substituted(value, bindings.inputs, bindings.outputs, f"{item.step}.{name}")
        for name, value in item.environment_variables.items()
    }
    environment = around.environment
    python_folder = environment.python_folder if environment else basis.python_folder
    packages = ""
    if basis.overlaid and calls_pip(text):
        over = overlay.made(Path(place.overlay), environment.prefix if environment else None)
        python_folder, packages = f"{over.folder}/bin:{python_folder}", over.packages
        declared = {"VIRTUAL_ENV": over.folder, **declared}
    given, left_out = variables(
        item,
        place,
        bindings,
        declared={
            **around.tracking.variables,
            **_variables_of(item.environment),
            **declared,
        },
        environ=basis.environ,
        python_folder=python_folder,
        packages=packages,
        socket=str(socket),
        in_step=basis.in_step,
        workspace=shop.names.workspace,
        more=basis.more,
    )
    if left_out:
        note(f"too long for the kernel, so left out: {', '.join(left_out)}")
    if "\x00" in text or any("\x00" in n + v for n, v in given.items()):
        message = "a NUL character in the command, or in a variable"
        raise Failed(Failure(code="E_COMMAND", message=message, where=where))
    arguments = [basis.shell, "-c", text]
    program = program_of(text) if shop.forks is not None else None
    if len(text.encode()) > VARIABLE_BYTES_MAX:  # exec refuses so long an argument
        script = Path(place.root, "command.sh")
        script.write_text(text, encoding="utf-8")
        arguments = [basis.shell, str(script)]
        program = None
    return Command(
        arguments=arguments,
        folder=place.code,
        environment=given,
        read_only=[place.inputs, *([str(environment.folder)] if environment else [])],
        program=program,
    )


def input_stamps(manifests: Mapping[str, Manifest]) -> Stamps:
    """Return how the files of all inputs look; a missing one is left out."""
    stamps = {}
    for folder, manifest in manifests.items():
        for entry in manifest.entries:
            if entry.digest:
                path = f"{folder}/{entry.path}"
                with contextlib.suppress(OSError):
                    status = os.lstat(path)
                    stamps[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return stamps


def input_failure(
    before: Stamps, after: Stamps, item: WorkItem, place: layout.Place
) -> Failure | None:
    """Return a failure if a file of an input is not what it was. New files beside them do no harm."""
    changed = [path for path, stamp in before.items() if after.get(path) != stamp]
    if not changed:
        return None
    shown = changed[0].removeprefix(place.inputs + "/")
    return Failure(
        code="E_INPUT_CHANGED",
        message=f"the step changed {len(changed)} files of its inputs, first {shown}",
        where=item.step,
        hint="inputs are read-only: copy a file before changing it",
    )


def _text(folder: str, given: WorkInput, manifests: Mapping[str, Manifest]) -> str | None:
    if not given.artifact:
        return None if given.value is None else text_of(given.value)
    files = tuple(entry.path for entry in manifests[folder].entries if entry.digest)
    return layout.input_path(folder, given.type, files)


def _variables_of(environment: EnvironmentSpec | None) -> dict[str, str]:
    """Return the variables of an environment; a conda file may name some too."""
    if environment is None:
        return {}
    of_conda = (environment.conda or {}).get("variables")
    found = {str(n): str(v) for n, v in of_conda.items()} if isinstance(of_conda, dict) else {}
    return found | environment.variables
