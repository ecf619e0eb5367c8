"""Runs in a step: `python -m penstock.sdk.calling FILE FUNCTION ARGUMENT…` calls a `@step`.

The arguments are names of the step's inputs. `NAME=` is called with None; `NAME=PARAMETER` as well, unless the
run has a value for that parameter.

The standard library only, and of python 3.9: it runs in the step's own environment.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

from penstock.sdk.functions import Step, argument_kind, kind_of, members_of
from penstock.sdk.in_step import CurrentRun, current_run


def main(words: list[str]) -> None:
    """Call the step that the command line names."""
    file, name, *arguments = words
    found = loaded(file)
    step = getattr(found, name, None)
    if not isinstance(step, Step):
        raise SystemExit(f"penstock: {file} has no step {name!r}")
    run = current_run()
    returned = step.function(**arguments_of(step, run, arguments))
    store(step, returned, run)


def loaded(file: str) -> Any:
    """Return a source file as a module of its own name, not as __main__."""
    folder = os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120
    if folder not in sys.path:
        sys.path.insert(0, folder)
    stem = os.path.splitext(os.path.basename(file))[0]  # noqa: PTH119, PTH122
    spec = importlib.util.spec_from_file_location(stem, file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"penstock: {file} is no python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module  # pickles name their classes by it
    spec.loader.exec_module(module)
    return module


def arguments_of(step: Step, run: CurrentRun, arguments: list[str]) -> dict[str, Any]:
    """Return what the step is called with: values from its parameters, data from its inputs."""
    hints = step.hints
    values: dict[str, Any] = {}
    for word in arguments:
        name, may_lack, parameter = word.partition("=")
        hint = hints.get(name, Any)
        if name in run.inputs:
            values[name] = read(Path(run.inputs[name]), argument_kind(hint), name)
        elif may_lack and parameter not in run.parameters:
            values[name] = None
        elif name in run.parameters:
            values[name] = plain(run.parameters[name], hint)
    return values


def plain(value: Any, hint: Any) -> Any:
    """Return a value that travelled as a parameter; what is no scalar travelled as JSON."""
    members = members_of(hint)
    if (
        float in members
        and int not in members
        and isinstance(value, int)
        and not isinstance(value, bool)
    ):
        return float(value)
    if isinstance(value, str) and argument_kind(hint) == "json":
        return json.loads(value)
    return value


def read(path: Path, kind: str, name: str) -> Any:
    """Return data of an earlier step, or of the user's, as the annotation wants it.

    What lies there decides between JSON, table and pickle; files of the user's are read by their suffix.
    """
    if kind in ("file", "folder"):
        return path
    stored = {
        "value.json": _json, "value.pkl": _pickle, "table.parquet": _parquet, "table.pkl": _pickle,
    }  # fmt: skip
    for file, reader in stored.items():
        if path.is_dir() and (path / file).is_file():
            return reader(path / file)
    readers = {".json": _json, ".pkl": _pickle, ".parquet": _parquet, ".csv": _csv}
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if len(files) == 1 and files[0].suffix in readers:
        return readers[files[0].suffix](files[0])
    raise SystemExit(
        f"penstock: input {name!r} at {path} is not one file of {', '.join(readers)}; "
        "annotate it as Path and read it yourself"
    )


def store(step: Step, returned: Any, run: CurrentRun) -> None:
    """Write what the step has returned to its outputs."""
    outputs = step.outputs
    if not outputs:
        if returned is not None:
            raise SystemExit(
                f"penstock: step {step.name!r} has returned a {type(returned).__name__} and declares no "
                "output: add `-> …` to its definition"
            )
        return
    values = [returned] if list(outputs) == ["output"] else list(returned)
    if len(values) != len(outputs):
        raise SystemExit(
            f"penstock: step {step.name!r} has returned {len(values)} values; declared: {len(outputs)}"
        )
    for (name, hint), value in zip(outputs.items(), values):  # noqa: B905 - python 3.9
        write(value, kind_of(hint), Path(run.outputs[name]), f"{step.name}.{name}")


def write(value: Any, kind: str, into: Path, where: str) -> None:
    """Write one output."""
    if kind in ("file", "folder"):
        path = Path(value)
        if kind == "folder" and path.is_dir():
            shutil.copytree(path, into, dirs_exist_ok=True)
        elif kind == "file" and path.is_file():
            shutil.copyfile(path, into)
        else:
            what = "a file: annotate it as File" if path.is_file() else "not there"
            raise SystemExit(
                f"penstock: {where}: {path} is {'a folder' if path.is_dir() else what}"
            )
        return
    into.mkdir(parents=True, exist_ok=True)
    if kind == "table":
        try:
            value.to_parquet(into / "table.parquet")
        except ImportError:  # neither pyarrow nor fastparquet in this environment
            value.to_pickle(into / "table.pkl")
        return
    if kind in ("value", "json"):
        text = json.dumps(value, indent=1, sort_keys=kind == "value")
        (into / "value.json").write_text(text, encoding="utf-8")
        return
    with (into / "value.pkl").open("wb") as file:
        pickle.dump(value, file, protocol=4)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _pickle(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - written by another step of the same pipeline


def _parquet(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path)


def _csv(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path)


if __name__ == "__main__":
    main(sys.argv[1:])
