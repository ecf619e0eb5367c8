"""What a step's own sources import, found without running them."""

import sys
from collections import OrderedDict
from pathlib import Path

from penstock_executor.decide.forkable import Program
from penstock_executor.decide.learning import Import, imports_of, module_names

FILES_MAX = 64
FILE_BYTES_MAX = 256 * 1024
REMEMBERED_MAX = 1024


class Sources:
    """Remembers what was found, by the digest of the code."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[str, ...]] = OrderedDict()

    def known(self, digest: str, program: Program) -> tuple[str, ...] | None:
        """Return what was found before."""
        return self._known.get((digest, program.target))

    def found(self, digest: str, folder: Path, program: Program) -> tuple[str, ...]:
        """Look into a step's folder, and return the names of modules that may be installed packages."""
        names = tuple(_names(folder, program))
        self._known[digest, program.target] = names
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return names


def _names(folder: Path, program: Program) -> list[str]:
    if program.kind == "module":
        base = folder
        first = _files(base, program.target) + _files(base, f"{program.target}.__main__")
    else:
        script = folder / program.target
        base = script.parent
        first = [script]
    own = _own(base)
    found: list[Import] = []
    waiting, seen = list(first), set(first)
    while waiting and len(seen) <= FILES_MAX:
        file = waiting.pop()
        for one in imports_of(_read(file)):
            found.append(one)
            start = base
            if one.level:
                start = file.parents[one.level - 1]
            elif one.module.partition(".")[0] not in own:
                continue
            for other in _files(start, one.module) + _files(start, f"{one.module}.{one.name}"):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
    return module_names(found, own, sys.stdlib_module_names)


def _own(folder: Path) -> set[str]:
    try:
        return {entry.name.partition(".")[0] for entry in folder.iterdir()}
    except OSError:
        return set()


def _files(folder: Path, module: str) -> list[Path]:
    """Return the files of a module and of the packages above it, as far as they lie in `folder`."""
    parts = [part for part in module.split(".") if part]
    files = []
    for count in range(1, len(parts) + 1):
        path = folder.joinpath(*parts[:count])
        files += [path / "__init__.py", path.with_name(f"{path.name}.py")]
    return [file for file in files if file.is_file()]


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError:
        return b""
    return data if len(data) <= FILE_BYTES_MAX else b""
