"""Environments in YAML: a name, or what it is made of."""

from pathlib import Path
from typing import Any

from penstock.contracts.spec import BuildContext, EnvironmentSpec
from penstock.sdk.definition import Local, Place
from penstock.sdk.yaml_reading import Reading, local_path, shown_path
from penstock.sdk.yaml_section import Section
from penstock.sdk.yaml_text import Document, document_of


def environment_of(section: Section, place: Place, reading: Reading) -> str | EnvironmentSpec:
    """Return the environment of a step: a name as it is written, or its contents.

    `place` is that of the step; a local build context is noted in the reading.

    Raises:
        Invalid: E_PATH, a file that is not there; E_MISSING, nothing to build from.
    """
    value = section["environment"]
    if value is None:
        return ""
    if isinstance(value, str):
        if not _is_file(value):
            return value.strip()
        path = local_path(section, "environment", value)
        document = reading.document(section, "environment", path)
        return contents_of(Section(document, (), document.value), place, reading)
    return contents_of(section.section("environment"), place, reading)


def contents_of(entry: Section, place: Place, reading: Reading) -> EnvironmentSpec:
    """Return an environment that is written out, in a step or in a file of its own."""
    reading.meet(entry, "environment")
    pip = _pip(entry)
    conda = _conda(entry, reading)
    build = _build(entry, place, reading)
    image = str(entry.scalar("image") or "")
    if not (image or conda is not None or build or pip or entry["python"]):
        raise entry.refusal(
            "image",
            "E_MISSING",
            "an environment of nothing",
            "give image, conda_file, build or pip",
        )
    variables = entry.section("variables")
    return EnvironmentSpec(
        name=str(entry.scalar("name") or ""),
        version=spelled(entry, "version"),
        image=image,
        build=build,
        conda=conda,
        pip=pip,
        python=spelled(entry, "python"),
        variables={name: str(variables.scalar(name) or "") for name in variables},
    )


def _is_file(text: str) -> bool:
    return text.startswith(("file:", "./", "../")) or text.endswith((".yml", ".yaml"))


def spelled(entry: Section, key: str) -> str:
    """Return a version as it is spelled: 3.10 is not 3.1."""
    value = entry.scalar(key)
    if value is None:
        return ""
    return entry.document.texts.get((*entry.path, key), str(value))


def _pip(entry: Section) -> tuple[str, ...]:
    value = entry["pip"]
    if isinstance(value, str):
        return tuple(requirement_lines(local_path(entry, "pip", value)))
    return tuple(entry.texts("pip"))


def _conda(entry: Section, reading: Reading) -> dict[str, Any] | None:
    value = entry["conda_file"]
    if value is None:
        return None
    if isinstance(value, dict):
        return _whole(value, entry.document.folder)
    path = local_path(entry, "conda_file", entry.text("conda_file"))
    if path.is_dir():
        raise entry.refusal("conda_file", "E_PATH", f"{value} is a folder; a conda file is a file")
    document = conda_document(path)
    reading.repeated(document)
    return conda_content(document)


def conda_document(path: Path) -> Document:
    """Return a conda file. Raises as `document_of`."""
    return document_of(path.read_bytes(), shown_path(path), path.parent)


def conda_content(document: Document) -> dict[str, Any]:
    """Return a conda file's content with the requirements files that it names written out.

    Raises:
        Invalid: E_TYPE, it has no keys.
    """
    return _whole(Section(document, (), document.value).value, document.folder)


def _whole(conda: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a conda file's content with the requirements files that it names written out."""
    dependencies = conda.get("dependencies")
    if not isinstance(dependencies, list):
        return conda
    return {**conda, "dependencies": [_with_files(item, folder) for item in dependencies]}


def _with_files(item: Any, folder: Path) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get("pip"), list):
        return item
    lines: list[Any] = []
    for line in item["pip"]:
        file = _requirements(line, folder)
        lines += requirement_lines(file) if file is not None else [line]
    return {**item, "pip": lines}


def _requirements(line: Any, folder: Path) -> Path | None:
    """Return the file that a line such as `-r requirements.txt` names, if it is there."""
    for start in ("-r", "--requirement"):
        if isinstance(line, str) and line.startswith((f"{start} ", f"{start}=")):
            path = folder / line[len(start) + 1 :].strip()
            return path if path.is_file() else None
    return None


def requirement_lines(path: Path) -> list[str]:
    """Return the lines of a requirements file that say something."""
    text = path.read_text(encoding="utf-8", errors="replace")
    plain = (line.split(" #")[0].strip() for line in text.splitlines())
    return [line for line in plain if line and not line.startswith("#")]


def _build(entry: Section, place: Place, reading: Reading) -> BuildContext | None:
    if entry["build"] is None:
        return None
    build = entry.section("build")
    reading.meet(build, "build")
    path = build.text("path", required=True)
    if not path.startswith("artifact:"):
        reading.locals.append(Local((*place, "environment"), local_path(build, "path", path)))
        path = ""
    return BuildContext(context=path, dockerfile=build.text("dockerfile_path") or "Dockerfile")
