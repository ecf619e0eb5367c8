"""A virtual environment over another one, for a step whose command calls pip: what it installs is its own.

Made by hand in a millisecond: an interpreter, a place for packages, and a line that makes the packages below it
importable. pip finds those installed already, so it brings only what is missing or has another version; PIP_TARGET, which
all other steps have, brings everything anew and cannot be combined with `--user`.
"""

import re
import site
import sys
from dataclasses import dataclass
from pathlib import Path

_CALLS_PIP = re.compile(r"(?<![\w./-])(?:uv\s+)?pip3?(?![\w./=-])")
PIP = """#!/bin/sh
for word do
  shift
  [ "$word" = --user ] || set -- "$@" "$word"
done
exec '{python}' -m pip "$@"
"""


@dataclass(frozen=True, slots=True)
class Overlay:
    """Where it lies."""

    folder: str
    packages: str


def calls_pip(command: str) -> bool:
    """Say whether a command line calls pip itself."""
    return _CALLS_PIP.search(command) is not None


def made(folder: Path, below: Path | None) -> Overlay:
    """Make one over the environment `below` (its prefix), or over the executor's own interpreter."""
    if below is None:
        interpreter = Path(getattr(sys, "_base_executable", sys.executable))
        home, version = interpreter.parent, f"python{sys.version_info[0]}.{sys.version_info[1]}"
        packages = [path for path in site.getsitepackages() if Path(path).is_dir()]
    else:
        interpreter = (below / "bin" / "python").resolve()
        home = interpreter.parent
        (library,) = (path for path in (below / "lib").glob("python3.*") if path.is_dir())
        version = library.name
        packages = [str(library / "site-packages")]
    own = folder / "lib" / version / "site-packages"
    own.mkdir(parents=True)
    binaries = folder / "bin"
    binaries.mkdir()
    (folder / "pyvenv.cfg").write_text(
        f"home = {home}\ninclude-system-site-packages = false\nversion = {version[6:]}\n",
        encoding="utf-8",
    )
    for name in ("python", "python3", version):
        (binaries / name).symlink_to(interpreter)
    for name in ("pip", "pip3"):
        script = binaries / name
        script.write_text(PIP.format(python=binaries / "python"), encoding="utf-8")
        script.chmod(0o755)
    line = "".join(f"import site; site.addsitedir({path!r})\n" for path in packages)
    (own / "_below.pth").write_text(line, encoding="utf-8")
    return Overlay(str(folder), str(own))
