"""Building one virtual environment with uv: what is run, in which order, and what its failure means.

    1. the requirements as they are
    2. only where the pinned python is not at hand: the nearest versions that have wheels for this one
    3. only for conda files, and where micromamba is at hand: conda itself

Runs in a thread of its own and waits there. Nothing here is async, and nothing knows of attempts.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import yaml

from penstock.errors import Invalid, PenstockError, Transient
from penstock_executor.decide.environment import inherited
from penstock_executor.decide.recipes import Recipe, differences, nearest, normal
from penstock_executor.decide.resolving import explained, index_is_away

LOG = "build.txt"
TAIL_BYTES = 64 * 1024
_INDEX = re.compile(
    r"UV_.*|PIP_(INDEX_URL|EXTRA_INDEX_URL|CERT|FIND_LINKS|NO_INDEX)|SSL_CERT_(FILE|DIR)"
)
_PINNED = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==\S+")


class Stopped(Exception):
    """The executor ends, so the build does."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs that build."""

    uv: str
    micromamba: str = ""


def tools() -> Tools:
    """Return the programs that build.

    Raises:
        Invalid: E_ENVIRONMENT, there is no uv.
    """
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise Invalid(
            "there is no uv, which builds environments",
            code="E_ENVIRONMENT",
            where="executor",
            hint="pip install 'penstock[executor]' on the executor's machine",
        )
    return Tools(uv, shutil.which("micromamba") or "")


def interpreters(found: Tools) -> dict[tuple[int, int], str]:
    """Return the pythons of this machine by version, the executor's own first."""
    own = sys.version_info[:2]
    pythons = {own: str(Path(sys.executable))}
    command = [found.uv, "python", "list", "--only-installed", "--output-format", "json"]
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        listed = subprocess.run(
            command, capture_output=True, env=variables(os.environ), timeout=60, check=False
        )
        for entry in json.loads(listed.stdout):
            parts = entry["version_parts"]
            version = (int(parts["major"]), int(parts["minor"]))
            if entry["implementation"] == "cpython" and entry.get("variant") == "default":
                pythons.setdefault(version, entry["path"])
    return pythons


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a build sees: the way to the package index, and none of our own secrets."""
    found = inherited(environ) | {n: v for n, v in environ.items() if _INDEX.fullmatch(n)}
    found["PATH"] = environ.get("PATH", os.defpath)
    found.setdefault("UV_PYTHON_DOWNLOADS", "never")
    if "UV_DEFAULT_INDEX" not in found and "UV_INDEX_URL" not in found:
        if "PIP_INDEX_URL" in found:
            found["UV_DEFAULT_INDEX"] = found["PIP_INDEX_URL"]
        if "PIP_EXTRA_INDEX_URL" in found:
            found.setdefault("UV_INDEX", found["PIP_EXTRA_INDEX_URL"])
    if "UV_CACHE_DIR" not in found and not os.access(found.get("HOME") or "/-", os.W_OK):
        found["UV_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"penstock-uv-{os.getuid()}")
    if "PIP_CERT" in found:
        found.setdefault("SSL_CERT_FILE", found["PIP_CERT"])
    return found


class Build:
    """One build, in `folder`, which is empty."""

    def __init__(
        self, folder: Path, recipe: Recipe, found: Tools, pythons: Mapping[tuple[int, int], str]
    ) -> None:
        self._folder = folder
        self._recipe = recipe
        self._tools = found
        self._python = pythons[recipe.python]
        self._venv = folder / "venv"
        self._requirements = folder / "requirements.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._log: IO[bytes]

    def run(
        self,
        conda: Mapping[str, object] | None,
        *,
        where: str,
        linked: bool,
        lock: int,
        halfway: Callable[[], None],
    ) -> tuple[str, ...]:
        """Build it and return notes about how it came out.

        `lock` is handed on to what is started: while an orphan of a killed executor still writes, nobody
        else does. `linked`: files may be hard links into uv's cache.

        Raises:
            Invalid: E_ENVIRONMENT, it cannot be built. Transient: the package index is away. Stopped.
        """
        with (self._folder / LOG).open("ab", buffering=0) as self._log:
            self._lock, self._linked = lock, linked
            self._make_venv(where)
            halfway()
            notes, problem = self._installed(where)
            if problem is not None and conda is not None and self._tools.micromamba:
                shutil.rmtree(self._venv, ignore_errors=True)
                if self._run(self._conda_command(conda)):
                    return ("made by micromamba from the conda file",)
            if problem is not None:
                raise problem
            return notes

    def stop(self) -> None:
        """End it soon; `run` raises Stopped."""
        self._stopped = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    # -- steps -----------------------------------------------------------------------------------
    def _make_venv(self, where: str) -> None:
        command = ["venv", "--seed", "--no-project", "--python", self._python, str(self._venv)]
        if not self._uv(*command):
            raise self._problem(where)

    def _installed(self, where: str) -> tuple[tuple[str, ...], PenstockError | None]:
        """Install what is required; return notes, or why nothing could be."""
        recipe = self._recipe
        if not recipe.requirements:
            return (), None
        self._write(self._requirements, recipe.requirements)
        builds = () if recipe.exact else ("--no-build",)
        if self._uv(*self._install, *builds, "-r", str(self._requirements)):
            return self._differing(), None
        problem = self._problem(where)
        if recipe.exact or isinstance(problem, Transient):
            return (), problem
        self._say("the pins have no wheels for this python; the nearest versions that have")
        lower = nearest(recipe)
        self._write(self._requirements, lower.requirements)
        for pins in (self._nearest_pins(lower), ()):
            constraints = self._folder / "constraints.txt"
            self._write(constraints, pins)
            if self._uv(*self._install, "-r", str(self._requirements), "-c", str(constraints)):
                return self._differing(), None
        return (), problem

    def _nearest_pins(self, lower: Recipe) -> list[str]:
        """Return the lowest versions that have wheels and are not below the pins; none if they clash."""
        asked = [line for line in lower.requirements if ">=" in line or line.startswith("-")]
        names = {normal(m[0]) for line in asked if (m := re.match(r"[A-Za-z0-9][\w.-]*", line))}
        source, result = self._folder / "pinned.in", self._folder / "pinned.txt"
        self._write(source, asked)
        compiled = self._uv(
            *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-build"),
            *("--index-strategy", "unsafe-best-match", "--resolution", "lowest-direct"),
            *("--python", str(self._venv / "bin" / "python"), "-o", str(result), str(source)),
        )
        if not compiled:
            return []
        lines = result.read_text(encoding="utf-8").splitlines()
        return [m[0] for line in lines if (m := _PINNED.match(line)) and normal(m["name"]) in names]

    def _differing(self) -> tuple[str, ...]:
        found = differences(self._recipe, self.packages())
        return (f"nearest versions that fit: {', '.join(found)}",) if found else ()

    def packages(self) -> dict[str, str]:
        """Return the version of each installed package."""
        listed = subprocess.run(
            [self._tools.uv, "pip", "list", "--python", str(self._venv), "--format", "json"],
            capture_output=True,
            env=variables(os.environ),
            check=False,
        )
        with contextlib.suppress(ValueError):
            return {normal(one["name"]): one["version"] for one in json.loads(listed.stdout)}
        return {}

    @property
    def _install(self) -> Sequence[str]:
        return (
            *("pip", "install", "--python", str(self._venv), "--compile-bytecode"),
            *("--index-strategy", "unsafe-best-match"),  # as pip has it: the best of all indexes
            *(("--link-mode", "copy") if not self._linked else ()),
        )

    def _conda_command(self, conda: Mapping[str, object]) -> list[str]:
        file = self._folder / "conda.yaml"
        file.write_text(yaml.safe_dump(dict(conda)), encoding="utf-8")
        tool = self._tools.micromamba
        return [tool, "create", "--yes", "--prefix", str(self._venv), "--file", str(file)]

    def _uv(self, *arguments: str) -> bool:
        return self._run([self._tools.uv, *arguments])

    def _run(self, command: Sequence[str]) -> bool:
        """Run a tool to its end, its output to the log; say whether it ended with 0."""
        self._say(
            "$ " + " ".join(Path(command[0]).name if n == 0 else c for n, c in enumerate(command))
        )
        self._began = self._log.tell()
        if self._stopped:
            raise Stopped
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=variables(os.environ) | {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"},
            cwd=self._folder,
            pass_fds=[self._lock],
        )
        code = self._process.wait()
        if self._stopped:
            raise Stopped
        return code == 0

    def _say(self, text: str) -> None:
        self._log.write(f"{time.strftime('%H:%M:%S')} {text}\n".encode())

    def _problem(self, where: str) -> PenstockError:
        """Return what the tool that ran last has said."""
        with (self._folder / LOG).open("rb") as file:
            file.seek(max(self._began, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode(errors="replace")
        message, hint = explained(text, f"{self._recipe.python[0]}.{self._recipe.python[1]}")
        if index_is_away(text):
            return Transient(message, code="E_ENVIRONMENT", where=where, hint=hint)
        if self._recipe.conda and not self._tools.micromamba:
            hint += (
                "; packages that only conda has need micromamba on the executor's PATH, "
                "or a docker target"
            )
        return Invalid(message, code="E_ENVIRONMENT", where=where, hint=hint)

    @staticmethod
    def _write(path: Path, lines: Sequence[str]) -> None:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
