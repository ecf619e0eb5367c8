"""What a step's interpreter does otherwise than any interpreter, which is two things.

Directory listings come in name order. Scripts take `os.listdir(folder)[0]`; on Azure's mounts that is the
first by name, on a local disk it is any, and a pipeline then succeeds with other numbers.

`azureml`, `mltable`, `mldesigner` and `penstock` are found where nothing else provides them: a finder
that is asked last finds the stand-ins beside this file, and penstock's own package.
"""

# Every interpreter of a step imports this: nothing that the start has not imported anyway.
import os
import sys
from _frozen_importlib_external import PathFinder  # importlib.machinery costs a millisecond

TYPE_CHECKING = False  # as type checkers know it; importing typing costs five milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from typing import Any, Self

STANDINS = ("azureml", "mltable", "mldesigner")
PACKAGE = "PENSTOCK_PACKAGE"
"""The folder of penstock's own package."""

_listdir = os.listdir
_scandir = os.scandir


def install() -> None:
    """Hook this interpreter."""
    sort_listings()
    find_standins()


def sort_listings() -> None:
    """Have directory listings in name order."""
    os.listdir = listdir
    os.scandir = scandir  # type: ignore[assignment]


def find_standins() -> None:
    """Have stand-ins found where nothing else is."""
    if not any(isinstance(finder, Last) for finder in sys.meta_path):
        sys.meta_path.append(Last(os.environ.get(PACKAGE, "")))


def listdir(path: "Any" = None) -> "Any":
    """Return the names in a folder, in order."""
    found: list[Any] = _listdir(path)
    found.sort()
    return found


class scandir:  # noqa: N801 - stands where os.scandir stood
    """The entries of a folder, in the order of their names."""

    def __init__(self, path: "Any" = None) -> None:
        with _scandir(path) as entries:
            self._entries = iter(sorted(entries, key=_name))

    def __iter__(self) -> "Iterator[Any]":
        return self

    def __next__(self) -> "Any":
        return next(self._entries)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self._entries = iter(())


def _name(entry: "Any") -> "Any":
    return entry.name


class Last:
    """Finds what no other finder has found."""

    def __init__(self, package: str) -> None:
        self._standins = os.path.join(os.path.dirname(os.path.abspath(__file__)), "standins")  # noqa: PTH100, PTH118, PTH120
        self._package = package

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "ModuleSpec | None":
        """Return where a stand-in is, None for any other module."""
        top, _, rest = name.partition(".")
        if top in STANDINS:
            # below a real package too: azureml-mlflow brings `azureml`, and no `azureml.core`
            parents = name.split(".")[:-1]
            return PathFinder.find_spec(name, [os.path.join(self._standins, *parents)])  # noqa: PTH118
        if top == "penstock" and not rest and self._package:
            return PathFinder.find_spec(name, [os.path.dirname(self._package)])  # noqa: PTH120
        return None
