"""The source of a step: a folder or a file, and what a component takes in beside it."""

from pathlib import Path

from penstock.sdk.definition import Include, Local, Place
from penstock.sdk.yaml_reading import Reading, local_path, scheme_of
from penstock.sdk.yaml_section import Section

_ZIP = ".zip"


def code_of(
    section: Section,
    place: Place,
    reading: Reading,
    file: Path | None = None,
    also: tuple[Include, ...] = (),
) -> str:
    """Return the code of a step if it is stored already; local code is noted in the reading.

    `place` is that of the step; `file` is the component's, beside which older components keep their
    list of further sources (`<name>.additional_includes`); `also` are agents that lie beside it.

    Raises:
        Invalid: E_PATH, it is not there; E_UNSUPPORTED, it lies in a git repository or on a server.
    """
    hash_paths = tuple(section.texts("hash_paths"))
    text = section.text("code")
    includes = [_include(section, item) for item in section.texts("additional_includes")]
    includes += [*_older_includes(section, file), *also]
    if text.startswith("artifact:") or not (text or includes):
        if hash_paths or includes:
            key = "hash_paths" if hash_paths else "additional_includes"
            raise section.refusal(key, "E_TYPE", f"{key} without a local `code:` folder")
        return text
    path: Path | None = None
    if text:
        if scheme_of(text) not in ("", "file"):
            raise section.refusal(
                "code", "E_UNSUPPORTED", f"{text} is not on this machine", "give a local folder"
            )
        path = local_path(section, "code", text)
    elif hash_paths:
        raise section.refusal("hash_paths", "E_TYPE", "hash_paths without a local `code:` folder")
    first = path or includes[0].path
    reading.locals.append(
        Local(
            (*place, "code"),
            first,
            hash_paths,
            includes=tuple(includes),
            bare=path is None,
        )
    )
    return ""


def _include(section: Section, text: str, key: str = "additional_includes") -> Include:
    """Return a further source; `x.zip` means the folder x, packed, unless there is such a file."""
    plain = text.strip().rstrip("/")
    path = Path(section.document.folder, plain)
    if not path.exists() and plain.endswith(_ZIP):
        folder = path.with_name(path.name.removesuffix(_ZIP))
        if folder.is_dir():
            return Include(path.name, folder, packed=True)
    if not path.exists():
        raise section.refusal(key, "E_PATH", f"{text} does not exist", f"looked at {path}")
    return Include(path.resolve().name, path)


def _older_includes(section: Section, file: Path | None) -> list[Include]:
    if file is None:
        return []
    older = file.with_suffix(".additional_includes")
    if not older.is_file():
        return []
    lines = older.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_include(section, line, "code") for line in lines if line.strip()]
