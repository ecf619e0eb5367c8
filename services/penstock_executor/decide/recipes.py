"""What an environment becomes on a `process` target: an interpreter, lines of requirements, and notes.

    python      the pinned one if this machine has it, else the nearest; a note says so
    pip         lines of a requirements file, as they are
    conda       its pip section, and its packages under the names that the package index knows
    image       nothing of it: a note says so. A curated image is read as its list of packages

Packages that only speak to Azure are left out: stand-ins take their place in the step (in_step/).
Where the pinned interpreter is not there, pins may have no wheels for the one that is. Then `nearest`
gives the recipe that asks for the lowest versions not below the pins.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penstock.contracts.spec import EnvironmentSpec
from penstock.environments.lookups import Tables, of_image
from penstock.errors import Invalid

LINES_MAX = 1_000
LINE_CHARACTERS_MAX = 2_000

_VERSION = re.compile(r"(\d+)\.(\d+)")
_NAME = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(?P<extras>\[[^\]]*\])?\s*(?P<rest>.*)", re.DOTALL
)
_CLAUSE = re.compile(r"(===|==|~=|!=|<=|>=|<|>)\s*([^\s,;]+)")
_FILE_OPTION = re.compile(r"(-r|--requirement|-c|--constraint|-e|--editable)\b")
_OPTION = re.compile(
    r"(-[if]|--((extra-)?index-?(url)?|find-links|no-index|no-binary|only-binary))(?=$|\s|=)"
)
_CONDA = re.compile(r"(?:[\w./-]+::)?(?P<name>[A-Za-z0-9_][\w.-]*)\s*(?P<rest>.*)")
_CONDA_EXACT = re.compile(r"=?=?\s*([\w.+!*-]+?)(?:[=\s]\S+)?")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build."""

    python: tuple[int, int]
    """The interpreter that is taken."""
    requirements: tuple[str, ...]
    notes: tuple[str, ...] = ()
    conda: tuple[str, ...] = ()
    """Which of the requirements come from conda packages."""
    exact: bool = True
    """The interpreter is the one that was asked for."""


def recipe_of(
    given: EnvironmentSpec,
    tables: Tables,
    pythons: Sequence[tuple[int, int]],
    where: str,
) -> Recipe | None:
    """Return what to build; None: nothing, it is the executor's own interpreter. See `own_notes`.

    `pythons` are the versions at hand, the executor's own first.

    Raises:
        Invalid: E_ENVIRONMENT, what cannot be built without a container, or cannot be read.
    """
    spec = given
    if given.build is not None and not (given.conda or given.pip or given.python):
        raise Invalid(
            f"{_called(given)} is built from a Dockerfile, which a `process` target has no use for",
            code="E_ENVIRONMENT",
            where=where,
            hint="run the step on a docker target, or give the environment conda or pip requirements",
        )
    notes = list(own_notes(given, tables))
    if not (given.conda or given.pip or given.python):
        meant = of_image(given.image, tables) if given.image else None
        if meant is None:
            return None
        spec = meant
    requirements: list[str] = []
    conda: list[str] = []
    wanted = spec.python
    if spec.conda is not None:
        pinned, conda, piped, more = _of_conda(spec.conda, tables, where)
        requirements += conda + piped
        notes += more
        wanted = wanted or pinned
    requirements += spec.pip
    lines, more = _replaced(_checked(requirements, where), tables)
    python, more_of_python = _python(wanted, pythons, where)
    return Recipe(
        python=python,
        requirements=tuple(lines),
        notes=(*notes, *more, *more_of_python),
        conda=tuple(line for line in conda if line in lines),
        exact=not more_of_python,
    )


def own_notes(given: EnvironmentSpec, tables: Tables) -> tuple[str, ...]:
    """Return what is to be said about an image on a target without containers."""
    if not given.image and given.build is None:
        return ()
    what = f"image {given.image}" if given.image else "the Dockerfile"
    if given.conda or given.pip or given.python:
        return (
            f"{what} is not used on a process target: only the packages of {_called(given)} are",
        )
    meant = of_image(given.image, tables)
    if meant is not None:
        return (f"{what} is not used on a process target: its packages are those of {meant.name}",)
    return (f"{what} is not used on a process target: this is the executor's own interpreter",)


def nearest(recipe: Recipe) -> Recipe:
    """Return the recipe with pins and upper bounds taken as lower bounds.

    Resolved to the lowest versions that have wheels, that is the nearest to what was asked for.
    """
    return replace(recipe, requirements=tuple(_lower(line) for line in recipe.requirements))


def differences(recipe: Recipe, installed: Mapping[str, str]) -> list[str]:
    """Return how what was installed differs from the pins: "pandas 1.5.0 (asked: ==1.1.5)"."""
    found = []
    for line in recipe.requirements:
        parts = _NAME.fullmatch(line.partition(";")[0].strip())
        if parts is None or line.startswith("-"):
            continue
        version = installed.get(normal(parts["name"]), "")
        clauses = _CLAUSE.findall(parts["rest"])
        pins = [
            f"{sign}{pin}"
            for sign, pin in clauses
            if sign in ("==", "===", "~=", "<", "<=") and not _fits(version, sign, pin)
        ]
        if version and pins:
            found.append(f"{parts['name']} {version} (asked: {','.join(pins)})")
    return found


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# -- the interpreter -------------------------------------------------------------------------------
def _python(
    wanted: str, pythons: Sequence[tuple[int, int]], where: str
) -> tuple[tuple[int, int], list[str]]:
    """Return the version to take and a note when it is not the wanted one."""
    if not wanted:
        return pythons[0], []
    found = _VERSION.search(wanted)
    if found is None:
        major = re.search(r"\d+", wanted)
        if major is not None and int(major[0]) == pythons[0][0]:
            return pythons[0], []
        raise Invalid(
            f"python {wanted[:40]!r} is no version; allowed: such as 3.11",
            code="E_ENVIRONMENT",
            where=where,
        )
    pinned = (int(found[1]), int(found[2]))
    if _open(wanted) and pythons[0] >= pinned:
        return pythons[0], []
    if pinned in pythons:
        return pinned, []
    newer = sorted(version for version in pythons if version > pinned)
    taken = newer[0] if newer else max(pythons)
    at_hand = ", ".join(_shown(version) for version in sorted(set(pythons)))
    note = (
        f"python {_shown(pinned)} is not on this machine (there is {at_hand}): "
        f"this is {_shown(taken)}, the nearest"
    )
    return taken, [note]


def _open(wanted: str) -> bool:
    return wanted.lstrip().startswith((">=", ">")) and "<" not in wanted


def _shown(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


# -- requirement lines -----------------------------------------------------------------------------
def _checked(lines: Sequence[str], where: str) -> list[str]:
    """Return the lines without comments and blanks.

    Raises:
        Invalid: E_ENVIRONMENT.
    """
    if len(lines) > LINES_MAX:
        raise Invalid(
            f"{len(lines):,} requirements; allowed: {LINES_MAX:,}",
            code="E_ENVIRONMENT",
            where=where,
        )
    found = []
    for raw in lines:
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        if not line:
            continue
        if len(line) > LINE_CHARACTERS_MAX or "\n" in line or "\x00" in line:
            raise Invalid(
                f"{line[:80]!r} is no line of requirements", code="E_ENVIRONMENT", where=where
            )
        if _FILE_OPTION.match(line) or line.startswith((".", "/", "file:")):
            raise Invalid(
                f"{line[:80]!r} refers to a file, which an executor does not have",
                code="E_ENVIRONMENT",
                where=where,
                hint="write the requirements themselves into the environment, or install from the "
                "step's code in its command",
            )
        if line.startswith("-") and not _OPTION.match(line):
            continue  # --pre, --trusted-host …: pip's own
        found.append(line)
    return found


def _replaced(lines: Sequence[str], tables: Tables) -> tuple[list[str], list[str]]:
    """Return the lines without packages that stand-ins take the place of, and notes."""
    replaced = {normal(name): instead for name, instead in tables.replaced.items()}
    kept: list[str] = []
    gone: list[str] = []
    for line in lines:
        parts = _NAME.fullmatch(line)
        name = normal(parts["name"]) if parts is not None and not line.startswith("-") else ""
        if name not in replaced:
            kept.append(line)
            continue
        gone.append(name)
        have = {normal(found["name"]) for one in lines if (found := _NAME.fullmatch(one))}
        kept += [p for p in replaced[name] if normal(p) not in have and p not in kept]
    if not gone:
        return kept, []
    return kept, [f"stand-ins take the place of {', '.join(dict.fromkeys(gone))}"]


def _lower(line: str) -> str:
    parts = _NAME.fullmatch(line)
    if line.startswith("-") or parts is None or "@" in line or "://" in line:
        return line
    rest, semicolon, marker = parts["rest"].partition(";")
    bounds = []
    for sign, version in _CLAUSE.findall(rest):
        if sign in ("==", "===", "~=", ">="):
            bounds.append(f">={version.removesuffix('.*')}")
        elif sign in (">", "!="):
            bounds.append(f"{sign}{version}")
    text = f"{parts['name']}{parts['extras'] or ''}{','.join(bounds)}"
    return f"{text} ;{marker}" if semicolon else text


def _fits(version: str, sign: str, pin: str) -> bool:
    """Say whether a version meets a clause, as far as its numbers tell."""
    ours, theirs = _numbers(version), _numbers(pin.removesuffix(".*"))
    match sign:
        case "<":
            return ours < theirs
        case "<=":
            return ours <= theirs
        case "~=":
            return ours >= theirs and ours[: len(theirs) - 1] == theirs[:-1]
        case _ if pin.endswith(".*"):
            return ours[: len(theirs)] == theirs
        case _:
            size = max(len(ours), len(theirs))
            return ours + (0,) * (size - len(ours)) == theirs + (0,) * (size - len(theirs))


def _numbers(version: str) -> tuple[int, ...]:
    plain = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in plain[0].split(".")) if plain else ()


# -- conda files -----------------------------------------------------------------------------------
def _of_conda(
    conda: Mapping[str, Any], tables: Tables, where: str
) -> tuple[str, list[str], list[str], list[str]]:
    """Return python's version, its packages as requirements, its pip section, and notes.

    Raises:
        Invalid: E_ENVIRONMENT, it is no conda file.
    """
    dependencies = conda.get("dependencies") or []
    if not isinstance(dependencies, list):
        raise Invalid(
            "`dependencies` of the conda file is no list", code="E_ENVIRONMENT", where=where
        )
    native = {name.lower() for name in tables.conda_native}
    python = ""
    packages: list[str] = []
    piped: list[str] = []
    left_out: list[str] = []
    for entry in dependencies:
        if isinstance(entry, Mapping):
            lines = entry.get("pip") or []
            piped += [str(line) for line in lines]
            continue
        parts = _CONDA.fullmatch(str(entry).strip())
        if parts is None:
            raise Invalid(
                f"{str(entry)[:80]!r} is no conda package", code="E_ENVIRONMENT", where=where
            )
        name = parts["name"].lower()
        if name == "python":
            python = parts["rest"].strip().lstrip("=") or python
            continue
        mapped = tables.conda_names.get(name, name)
        if name in native or not mapped or name.startswith(("lib", "r-")):
            if name not in ("pip", "setuptools", "wheel"):
                left_out.append(name)
            continue
        packages.append(mapped + _specifiers(parts["rest"].strip()))
    notes = [f"of the conda file, not for a virtual environment: {', '.join(left_out)}"]
    return python, packages, piped, notes if left_out else []


def _specifiers(text: str) -> str:
    """Return a conda version as the package index writes it: "=1.22" is "==1.22.*"."""
    if text.startswith("["):
        inner = re.search(r"version\s*=\s*['\"]([^'\"]+)['\"]", text)
        text = inner[1] if inner else ""
    if not text or text == "*":
        return ""
    if re.match(r"[<>!~]", text) or "," in text:
        clauses = [part.strip() for part in text.split(",")]
        return ",".join(_clause(part) for part in clauses if part)
    if "|" in text:  # alternatives: the first
        text = text.partition("|")[0].strip()
        return _specifiers(text)
    exact = text.startswith("==")
    found = _CONDA_EXACT.fullmatch(text)
    if found is None:
        return ""
    version = found[1]
    built = re.fullmatch(r"==?\s*[\w.+!*-]+?=\S+", text) is not None
    if version.endswith("*"):
        return f"=={version.rstrip('*').rstrip('.')}.*"
    return f"=={version}" if exact or built or not text.startswith("=") else f"=={version}.*"


def _clause(text: str) -> str:
    found = _CLAUSE.match(text)
    if found is None:
        return _specifiers(text)
    return f"{found[1]}{found[2]}"


def _called(given: EnvironmentSpec) -> str:
    return f"environment {given.name}" if given.name else "the environment"
