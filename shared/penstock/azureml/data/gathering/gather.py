"""Puts several inputs of a step into one folder, and beside them, for a table, how to read it.

python gather.py OUTPUT [--table JSON] [--take NAME]… INPUT…   (standard library only: it runs in a step)
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any

FILE = "MLTable"


def gather(into: str, sources: list[str], table: dict[str, Any] | None) -> int:
    """Put the sources into a folder, and an MLTable beside them; return how many files there are.

    A table that says nothing of how it is read is that of the source's own MLTable, and what it says comes after.
    """
    os.makedirs(into, exist_ok=True)
    names = gathered(sources, into)
    if table is not None:
        names = [name for name in names if os.path.basename(name) != FILE]
        steps = list(table.get("transformations") or [])
        if steps and next(iter(steps[0])).startswith("read_"):
            table = dict(table, paths=[{"file": "./" + name} for name in names])
        else:
            (source,) = sources  # paths in an MLTable are those of its folder
            table = told(os.path.join(source, FILE))
            table["transformations"] = list(table.get("transformations") or []) + steps
        with open(os.path.join(into, FILE), "w", encoding="utf-8") as file:
            json.dump(table, file, indent=2)  # JSON is YAML
    return len(names)


def told(path: str) -> dict[str, Any]:
    """Return what an MLTable says. Ours are JSON; another's needs PyYAML."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        found = json.loads(text)
    except ValueError:
        try:
            import yaml
        except ImportError:
            sys.exit(f"{path} is no JSON, and reading YAML needs PyYAML in the step's environment")
        found = yaml.safe_load(text)
    return dict(found)


def gathered(sources: list[str], into: str) -> list[str]:
    """Copy files and folders into one folder; return their names there, in the order of `sources`."""
    names = []
    for number, source in enumerate(sources):
        if os.path.isdir(source):
            for folder, _, files in sorted(os.walk(source)):
                for file in sorted(files):
                    path = os.path.join(folder, file)
                    names.append(copied(path, os.path.relpath(path, source), number, into))
        else:
            names.append(copied(source, os.path.basename(source), number, into))
    return names


def copied(path: str, name: str, number: int, into: str) -> str:
    """Copy a file; one whose name is taken goes into a folder of its source's number."""
    target = os.path.join(into, name)
    if os.path.exists(target):
        name = os.path.join(str(number), name)
        target = os.path.join(into, name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(path, target)
    return name.replace(os.sep, "/")


def main(words: list[str]) -> None:
    """Do what the command line says."""
    into, words = words[0], words[1:]
    table = None
    if words[0] == "--table":
        table, words = json.loads(words[1]), words[2:]
    print(f"{gather(into, words, table)} files")


if __name__ == "__main__":
    main(sys.argv[1:])
