"""What of a folder of Azure ML files runs here: as it is, with changes, or not; line by line."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from penstock.errors import PenstockError

Verdict = Literal["runs", "changes", "cannot", "note"]
ROOTS = ("azureml", "azure.ai.ml", "azure.identity")
"""Packages that have a counterpart below `penstock`."""
STEP_ONLY = ("mltable", "mldesigner", "mlflow")
_SKIPPED = (".git", ".venv", "node_modules", "__pycache__", ".penstock", ".ipynb_checkpoints")
_KINDS = (
    "pipelineJob", "commandJob", "sweepJob", "commandComponent", "pipelineComponent", "parallelComponent",
)  # fmt: skip
_METHODS = {
    "start_logging": "submit a step and log in it: Run.get_context()",
    "deploy": "web services are no part of penstock",
}
FILE_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what becomes of something at a place, and what to write instead."""

    verdict: Verdict
    file: str
    line: int
    what: str
    instead: str = ""

    @property
    def place(self) -> str:
        """file:line."""
        return f"{self.file}:{self.line}" if self.line else self.file


def findings(path: Path) -> Iterator[Finding]:
    """Look at a file, or at every YAML and Python file of a folder, in the order of their names."""
    if path.is_file():
        yield from _file(path, path.name)
        return
    for file in sorted(path.rglob("*")):
        within = file.relative_to(path)
        if file.is_file() and not any(part in _SKIPPED for part in within.parts):
            yield from _file(file, str(within))


def _file(file: Path, shown: str) -> Iterator[Finding]:
    if file.suffix not in (".yml", ".yaml", ".py") or file.stat().st_size > FILE_BYTES_MAX:
        return
    if file.suffix == ".py":
        yield from _python(file.read_text(encoding="utf-8", errors="replace"), shown)
    else:
        yield from _yaml(file, shown)


# -- YAML -------------------------------------------------------------------------------------------


def _yaml(file: Path, shown: str) -> Iterator[Finding]:
    from penstock.sdk.pipeline_files import component_of, read_pipeline
    from penstock.sdk.yaml_reading import file_read

    try:
        document, whole = file_read(file)
    except PenstockError as error:
        yield _refusal(error, file, shown)
        return
    kind = _kind(document.value)
    if not kind:
        return
    try:
        found = component_of(document, whole) if kind == "component" else read_pipeline(file)
    except PenstockError as error:
        yield _refusal(error, file, shown)
        return
    for note in found.notes:
        place, _, text = note.partition(": ")
        line = _line(place)
        yield Finding("note", shown, line, text if line else note)
    yield Finding("runs", shown, 0, f"{kind} {found.spec.name!r}, {len(found.spec.steps)} steps")


def _kind(tree: Any) -> str:
    """Return "pipeline" or "component" for a file that one of these is; empty for any other YAML."""
    if not isinstance(tree, dict):
        return ""
    schema = str(tree.get("$schema", "")).rpartition("/")[2].partition(".")[0]
    kind = str(tree.get("type", ""))
    if schema in _KINDS:
        return "component" if schema.endswith("Component") else "pipeline"
    if kind == "pipeline" and "jobs" in tree:
        return "component" if "name" in tree and "version" in tree else "pipeline"
    if "command" in tree and ("environment" in tree or kind == "command"):
        return "component" if "name" in tree and "experiment_name" not in tree else "pipeline"
    return ""


def _refusal(error: PenstockError, file: Path, shown: str) -> Finding:
    line = _line(error.where)
    where = "" if str(file.name) in error.where or not error.where else f" (at {error.where})"
    return Finding("cannot", shown, line, f"{error.code}: {error.message}{where}", error.hint)


def _line(place: str) -> int:
    """Return the line in file:line:column; 0: there is none."""
    parts = place.split(":")
    numbers = [part for part in parts[1:] if part.strip().isdigit()]
    return int(numbers[0]) if numbers else 0


# -- Python -----------------------------------------------------------------------------------------


def _python(text: str, shown: str) -> Iterator[Finding]:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        if any(root in text for root in ROOTS):
            yield Finding("cannot", shown, error.lineno or 0, f"not Python 3: {error.msg}")
        return
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = [(node, name) for node in imports for name in _modules(node)]
    if not ours:
        return
    if not _builds_pipelines(ours):
        names = ", ".join(sorted({name for _, name in ours}))
        yield Finding("runs", shown, 0, f"step code: {names} is there in every step")
        return
    lines = text.splitlines()
    for node, name in ours:
        yield from _import(node, name, shown, lines)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            hint = _METHODS.get(call.func.attr)
            if hint:
                yield Finding("cannot", shown, call.lineno, f".{call.func.attr}(…)", hint)


def _modules(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Return Azure's modules that an import names."""
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""] if node.level == 0 else []
    else:
        names = [alias.name for alias in node.names]
    for name in names:
        if name.partition(".")[0] in ("azureml", *STEP_ONLY[:2]) or _root(name):
            yield name


def _root(name: str) -> str:
    return next((r for r in ROOTS if name == r or name.startswith(r + ".")), "")


def _builds_pipelines(found: list[tuple[ast.Import | ast.ImportFrom, str]]) -> bool:
    """Say whether a file builds pipelines; a file that only asks for its run is step code."""
    for node, name in found:
        if name in STEP_ONLY or name.startswith("azureml.core.run"):
            continue
        imported = {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and name == "azureml.core":
            if imported - {"Run", "Dataset", "Model"}:
                return True
            continue
        return True
    return False


def _import(
    node: ast.Import | ast.ImportFrom, name: str, shown: str, lines: list[str]
) -> Iterator[Finding]:
    line = lines[node.lineno - 1].strip()
    if name == "mltable":
        return
    try:
        module = import_module(f"penstock.{name}")
    except ImportError:
        yield Finding("cannot", shown, node.lineno, line, f"there is no penstock.{name}")
        return
    yield Finding("changes", shown, node.lineno, line, changed(line, name))
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if alias.name == "*":
                continue
            thing = getattr(module, alias.name, None)
            if thing is None and not _is_module(f"penstock.{name}.{alias.name}"):
                yield Finding("cannot", shown, node.lineno, f"{name}.{alias.name}", "not there")
            elif (hint := getattr(thing, "instead", "")) and isinstance(thing, type):
                yield Finding("cannot", shown, node.lineno, f"{name}.{alias.name}", hint)


def changed(line: str, name: str) -> str:
    """Return an import line as it has to be here."""
    if line == f"import {name}" and name.startswith("azureml"):
        return "from penstock import azureml"
    return line.replace(name, f"penstock.{name}", 1)


def _is_module(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def rewritten(file: Path, found: list[Finding]) -> int:
    """Change the import lines of a file in place; return how many."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    count = 0
    for finding in found:
        if finding.verdict == "changes":
            old = lines[finding.line - 1]
            lines[finding.line - 1] = old.replace(finding.what, finding.instead, 1)
            count += lines[finding.line - 1] != old
    file.write_text("".join(lines), encoding="utf-8")
    return count
