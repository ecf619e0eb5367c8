"""What a fork server imports beforehand: learned from the sources of the steps that ran.

A step's source names what it imports. Those names are kept per interpreter, the ones used last
first, up to a limit; names that turned out to be unfit (preload.py) stay out as long as the
environment is the same.
"""

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

MODULES_MAX = 64
UNFIT_MAX = 256


@dataclass(frozen=True, slots=True)
class Import:
    """One name that a source file imports."""

    module: str
    name: str = ""
    """Of `from module import name`; it may be a module too."""
    level: int = 0
    """Number of dots of a relative import."""


class Learned(msgspec.Struct, frozen=True):
    """What is known of one interpreter."""

    modules: tuple[str, ...] = ()
    """The one used last comes first."""
    unfit: dict[str, str] = {}
    """What may not be imported beforehand, and why."""
    watched: dict[str, int] = {}
    """The environment in which that was found out."""


def imports_of(source: bytes) -> list[Import]:
    """Return what a source file imports, wherever in it; nothing if it cannot be read."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: list[Import] = []
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                found += [Import(alias.name) for alias in node.names]
            case ast.ImportFrom():
                module, level = node.module or "", node.level
                found += [Import(module, alias.name, level) for alias in node.names]
    return found


def module_names(
    imports: Iterable[Import], own: Collection[str], known: Collection[str]
) -> list[str]:
    """Return the names of modules that may be installed packages, sorted.

    `own` are top-level names that the step's own folder has, `known` those of the standard library.
    """
    names: set[str] = set()
    for one in imports:
        top = one.module.partition(".")[0]
        if one.level or not top or top in own or top in known:
            continue
        names.add(one.module)
        if one.name.isidentifier():
            names.add(f"{one.module}.{one.name}")
    return sorted(names)


def used(learned: Learned, names: Collection[str]) -> Learned:
    """Return what is known after a step that imports `names`."""
    fit = [name for name in sorted(names) if name not in learned.unfit]
    if all(name in learned.modules[: len(fit)] for name in fit):
        return learned
    rest = [name for name in learned.modules if name not in fit]
    return msgspec.structs.replace(learned, modules=tuple((fit + rest)[:MODULES_MAX]))


def without(learned: Learned, name: str, reason: str) -> Learned:
    """Return what is known once a module, and with it what is below it, turned out to be unfit."""
    modules = tuple(m for m in learned.modules if m != name and not m.startswith(f"{name}."))
    unfit = dict(list({**learned.unfit, name: reason}.items())[-UNFIT_MAX:])
    return msgspec.structs.replace(learned, modules=modules, unfit=unfit)


def in_environment(learned: Learned, watched: Mapping[str, int]) -> Learned:
    """Return what is known once the environment is this one: in another one all may be fit."""
    if learned.watched == watched:
        return learned
    return Learned(modules=learned.modules, watched=dict(watched))


def import_order(learned: Learned, declared: Collection[str]) -> list[str]:
    """Return what a server imports, in an order that does not depend on who came last."""
    return sorted({*declared, *learned.modules} - learned.unfit.keys())
