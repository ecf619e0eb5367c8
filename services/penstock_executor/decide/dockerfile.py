"""What of a Dockerfile a virtual environment can stand for: the packages that its RUN lines install.

Read are `FROM`, `pip install …`, `-r FILE` and `conda env create|update -f FILE` with files of the build context. Everything
else that it does is not done; the step's log says so.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from penstock.contracts.spec import EnvironmentSpec

_PYTHON = re.compile(r"(?:.*/)?python:(\d+\.\d+)")
_PLACE = re.compile(r"-[fi]|--(find.links|(extra.)?index.url)")
"""Options of pip that say where packages are: kept, with the next word, which is their value."""
_VALUED = re.compile(r"-[tc]|--(target|constraint|timeout)")
"""Others whose next word is their value."""
_QUIET = frozenset(
    {"ARG", "ENV", "WORKDIR", "COPY", "ADD", "CMD", "ENTRYPOINT", "EXPOSE", "LABEL", "USER"}
)


@dataclass(slots=True)
class Read:
    """What was found so far."""

    image: str = ""
    python: str = ""
    pip: list[str] = field(default_factory=list)
    conda: dict[str, Any] | None = None
    left_out: int = 0


def without_build(
    spec: EnvironmentSpec, dockerfile: str, files: Mapping[str, str]
) -> tuple[EnvironmentSpec, int]:
    """Return an environment with packages in place of its build context, and how much was left out.

    `files` are texts of the context by their names, without folders.
    """
    found = Read()
    for word, rest in _instructions(dockerfile):
        if word == "FROM":
            words = [word for word in rest.split() if not word.startswith("--")]
            found.image = words[0] if words else ""
            python = _PYTHON.match(found.image)
            found.python = python[1] if python else found.python
        elif word == "RUN":
            for command in re.split(r"&&|;|\|\|", rest):
                _take(command.strip(), found, files)
        elif word not in _QUIET:
            found.left_out += 1
    more = EnvironmentSpec(
        name=spec.name,
        version=spec.version,
        image=found.image,
        conda=found.conda,
        pip=tuple(found.pip),
        python=found.python if found.pip or found.conda else "",
        variables=spec.variables,
    )
    return more, found.left_out


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\s*\n", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            yield word.upper(), rest.strip()


def _take(command: str, found: Read, files: Mapping[str, str]) -> None:
    try:
        words = shlex.split(command)
    except ValueError:
        found.left_out += 1
        return
    while words and (words[0].startswith("--mount") or re.fullmatch(r"[A-Z_]+=.*", words[0])):
        words.pop(0)
    if "conda" in " ".join(words[:1]) or words[:1] == ["micromamba"]:
        names = [word.rpartition("/")[2] for word in words]
        file = next((files[n] for n in names if n in files and n.endswith((".yml", ".yaml"))), None)
        try:
            document = yaml.safe_load(file) if file is not None else None
        except yaml.YAMLError:
            document = None
        if isinstance(document, dict):
            found.conda = document
        elif "clean" not in words:
            found.left_out += 1
        return
    if "install" in words and any(re.fullmatch(r"pip[\d.]*", w.rpartition("/")[2]) for w in words):
        _take_pip(words[words.index("install") + 1 :], found, files)
    elif words and words[0] not in ("rm", "mkdir", "cd", "true"):
        found.left_out += 1


def _take_pip(words: list[str], found: Read, files: Mapping[str, str]) -> None:
    while words:
        word = words.pop(0)
        if word in ("-r", "--requirement") or word.startswith(("-r=", "--requirement=")):
            name = word.partition("=")[2] or (words.pop(0) if words else "")
            text = files.get(name.rpartition("/")[2])
            if text is None:
                found.left_out += 1
            else:
                found.pip += text.splitlines()
        elif _PLACE.fullmatch(word):
            found.pip.append(f"{word} {words.pop(0) if words else ''}")
        elif _VALUED.fullmatch(word):
            del words[:1]
        elif word.startswith("-"):
            continue
        elif word.startswith((".", "/")):
            found.left_out += 1
        elif word not in ("pip", "setuptools", "wheel"):
            found.pip.append(word)
