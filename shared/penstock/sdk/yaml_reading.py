"""What is learnt while files are read: notes, local references, places; and how a key is met.

One `Reading` goes through all files of a pipeline; a `Section` knows which file it stands in.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from penstock.errors import Invalid, NotFound
from penstock.ids import did_you_mean
from penstock.sdk.azure_keys import key_of, known
from penstock.sdk.definition import Local, Place
from penstock.sdk.yaml_section import Section
from penstock.sdk.yaml_text import Document, document_of

EXPRESSION = re.compile(r"^\s*(\$\{\{.*\}\}|\$\[\[.*\]\])\s*$", re.DOTALL)
FILES_MAX = 16
"""Component files within one another."""
_LEGACY = re.compile(r"\$\{\{\s*(?=(?:jobs|inputs)\.)")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):(?!\\)")


@dataclass
class Reading:
    """What is learnt while the files of one pipeline are read."""

    strict: bool = False
    """Unknown keys are errors."""
    notes: list[str] = field(default_factory=list)
    locals: list[Local] = field(default_factory=list)
    places: dict[Place, str] = field(default_factory=dict)
    opened: tuple[Path, ...] = ()
    """Files that are being read, the outermost first."""

    def note(self, text: str) -> None:
        """Keep a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def meet(self, section: Section, *rooms: str) -> None:
        """Look at the keys of a section: note what is not used, refuse what cannot be done.

        Raises:
            Invalid: E_UNSUPPORTED; E_UNKNOWN_FIELD with `strict`, or at the top of a pipeline.
        """
        for name in section:
            key = next((key for room in rooms if (key := key_of(room, name))), None)
            if key is None:
                self._unknown(section, name, rooms)
            elif key.fate == "refused":
                raise section.unsupported(name, key.says)
            elif key.fate == "ignored" and section[name] is not None:
                why = f": {key.says}" if key.says else ""
                self.note(f"{section.where(name)}: {name} is ignored{why}")

    def _unknown(self, section: Section, name: str, rooms: tuple[str, ...]) -> None:
        names = [key for room in rooms for key in known(room)]
        if self.strict or rooms[0] == "pipeline":
            raise section.unknown(name, names)
        near = did_you_mean(name, names)
        self.note(
            f"{section.where(name)}: unknown key {name!r} is not used"
            + (f" ({near})" if near else "")
        )

    def document(self, section: Section, key: str, path: Path) -> Document:
        """Return the YAML file that a section speaks of.

        Raises:
            Invalid: E_PATH, it cannot be read; E_LIMIT, files that name each other without end.
        """
        if path.resolve() in self.opened or len(self.opened) >= FILES_MAX:
            raise section.refusal(
                key,
                "E_CYCLE",
                f"{path.name} is already being read",
                "a component cannot contain itself",
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise section.refusal(
                key, "E_PATH", f"{section.text(key)}: {error.strerror}", f"looked at {path}"
            ) from error
        document = document_of(data, shown_path(path), path.parent)
        self.repeated(document)
        return document

    def repeated(self, document: Document) -> None:
        """Note keys that occur twice in a file that is being read; the last one counts, as in Azure ML.

        Raises:
            Invalid: E_DUPLICATE_KEY, with `strict`.
        """
        for refusal in document.repeated:
            if self.strict:
                raise refusal
            self.note(f"{refusal.where}: {refusal.message}; the last one counts")


def shown_path(path: Path) -> str:
    """Return a path as messages show it: from the current folder if that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def file_read(file: str | Path) -> tuple[Document, Path]:
    """Return a YAML file's document and where it really lies.

    Raises:
        NotFound: E_NOT_FOUND, no such file.
        Invalid: E_PATH (a folder, or not readable), or as `document_of`.
    """
    path = Path(file)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound("no such file", where=str(file)) from error
    except IsADirectoryError as error:
        raise Invalid(
            "a folder; a pipeline is a file", code="E_PATH", where=str(file), hint=_file_in(path)
        ) from error
    except OSError as error:
        raise Invalid(error.strerror or str(error), code="E_PATH", where=str(file)) from error
    return document_of(data, str(file), path.resolve().parent), path.resolve()


def _file_in(folder: Path) -> str:
    found = sorted(p for p in folder.glob("*.y*ml") if p.suffix in (".yml", ".yaml"))
    return f"did you mean {str(found[0])!r}?" if len(found) == 1 else ""


def modern(text: str) -> str:
    """Return a text whose expressions are spelled in today's way: `${{inputs.x}}` → `${{parent.inputs.x}}`."""
    return _LEGACY.sub("${{parent.", text)


def scheme_of(text: str) -> str:
    """Return what stands before the colon of a URL; empty for a path."""
    scheme = _SCHEME.match(text)
    return scheme.group(1).lower() if scheme else ""


def local_path(section: Section, key: str, text: str) -> Path:
    """Return the local path that a text names, from the folder of its file.

    Raises:
        Invalid: E_PATH, it is not there; E_UNSUPPORTED, it is no local path.
    """
    scheme = scheme_of(text)
    if scheme and scheme != "file":
        raise section.refusal(
            key,
            "E_UNSUPPORTED",
            f"{text} is not on this machine; supported: a local path or artifact:<digest>",
            "download it, or name it by its digest",
        )
    plain = text.removeprefix("file://").removeprefix("file:")
    path = Path(section.document.folder, plain).expanduser()
    if not path.exists():
        raise section.refusal(key, "E_PATH", f"{text} does not exist", f"looked at {path}")
    return path
