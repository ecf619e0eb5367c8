"""Puts several inputs of a step into one folder, and beside them, for a table, how to read it.

python gather.py OUTPUT [--table JSON] [--take NAME]… INPUT…   (standard library only: it runs in a step)
"""

import json
import os
import shutil
import sys


def gathered(sources, into):
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


def copied(path, name, number, into):
    """Copy a file; one whose name is taken goes into a folder of its source's number."""
    target = os.path.join(into, name)
    if os.path.exists(target):
        name = os.path.join(str(number), name)
        target = os.path.join(into, name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(path, target)
    return name.replace(os.sep, "/")


def main(words):
    """Do what the command line says."""
    into, words = words[0], words[1:]
    table = None
    if words[0] == "--table":
        table, words = json.loads(words[1]), words[2:]
    os.makedirs(into, exist_ok=True)
    names = gathered(words, into)
    if table is not None:
        table["paths"] = [{"file": "./" + name} for name in names]
        with open(os.path.join(into, "MLTable"), "w", encoding="utf-8") as file:
            json.dump(table, file, indent=2)  # JSON is YAML
    print(f"{len(names)} files")


if __name__ == "__main__":
    main(sys.argv[1:])
