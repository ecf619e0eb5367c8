"""From the definition of a table to its rows."""

from __future__ import annotations

import ast
import glob
import os
import re
from typing import Any


class MLTableError(Exception):
    """A table that cannot be read."""


PATH = "Path"
_HEADERS = ("all_files_same_headers", "all_files_different_headers", "from_first_file", "no_header")


def rows_of(definition: dict[str, Any], folder: str) -> Any:
    """Return the rows of a table whose paths are relative to `folder`."""
    import pandas

    files = files_of(definition.get("paths") or [], folder)
    steps = [_step(one) for one in definition.get("transformations") or []]
    reading = next((step for step in steps if step[0].startswith("read_")), None)
    if reading is None:
        rows = pandas.DataFrame({PATH: files})
    else:
        rows = _read(files, reading[0], reading[1] if isinstance(reading[1], dict) else {})
    for name, value in steps:
        if not name.startswith("read_"):
            rows = _changed(rows, name, value, files)
    return (
        rows
        if PATH not in rows or reading is None or _keeps_path(reading[1])
        else rows.drop(columns=PATH)
    )


def files_of(paths: list[dict[str, str]], folder: str) -> list[str]:
    """Return the files that paths mean, in name order for each."""
    found: list[str] = []
    for entry in paths:
        for kind, value in entry.items():
            place = value if "://" in value else os.path.join(folder, value.replace("file://", ""))
            if kind == "file":
                found.append(place)
            elif kind == "folder":
                found += [
                    os.path.join(root, name)
                    for root, _, names in sorted(os.walk(place))
                    for name in sorted(names)
                    if name != "MLTable"
                ]
            elif kind == "pattern":
                found += [
                    path
                    for path in sorted(glob.glob(place, recursive=True))
                    if os.path.isfile(path)
                ]
            else:
                raise MLTableError(f"a path is file, folder or pattern; found {kind!r}")
    return found


def _step(entry: Any) -> tuple[str, Any]:
    if isinstance(entry, str):
        return entry, {}
    ((name, value),) = entry.items()
    return name, {} if value is None else value


def _keeps_path(options: Any) -> bool:
    return isinstance(options, dict) and bool(options.get("include_path_column"))


def _read(files: list[str], kind: str, options: dict[str, Any]) -> Any:
    import pandas

    frames = []
    names: Any = None
    for number, file in enumerate(files):
        if kind == "read_delimited":
            frame = _delimited(file, options, number, names)
            names = frame.columns if names is None else names
        elif kind == "read_parquet":
            frame = pandas.read_parquet(file)
        elif kind == "read_json_lines":
            frame = _json_lines(file, options)
        else:
            raise MLTableError(
                f"{kind} is not understood here; known: delimited, parquet, json_lines"
            )
        frames.append(frame.assign(**{PATH: file}))
    if not frames:
        raise MLTableError("the table's paths mean no file")
    return frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)


def _delimited(file: str, options: dict[str, Any], number: int, names: Any) -> Any:
    import pandas

    header = str(options.get("header", "all_files_same_headers")).lower()
    if header in ("true", "false"):
        header = "all_files_same_headers" if header == "true" else "no_header"
    if header not in _HEADERS:
        raise MLTableError(f"header {header!r}; allowed: {', '.join(_HEADERS)}")
    read: dict[str, Any] = {
        "sep": options.get("delimiter", ","),
        "encoding": _encoding(options),
        "keep_default_na": not options.get("empty_as_string", False),
    }
    if options.get("infer_column_types") is False:
        read["dtype"] = str
    if header == "no_header" or (header == "from_first_file" and number > 0):
        read["header"] = None
    frame = pandas.read_csv(file, **read)
    if header == "no_header":
        frame.columns = [f"Column{n + 1}" for n in range(frame.shape[1])]
    elif header == "from_first_file" and number > 0:
        frame.columns = names
    return frame


def _json_lines(file: str, options: dict[str, Any]) -> Any:
    import json

    import pandas

    if options.get("invalid_lines", "error") != "drop":
        return pandas.read_json(file, lines=True, encoding=_encoding(options))
    rows = []
    with open(file, encoding=_encoding(options)) as lines:
        for line in lines:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return pandas.DataFrame(rows)


def _encoding(options: dict[str, Any]) -> str:
    name = str(options.get("encoding", "utf8"))
    known = {"iso88591": "latin1", "windows1252": "cp1252", "utf8bom": "utf-8-sig"}
    return known.get(name, name)


# -- transformations -------------------------------------------------------------------------------
def _changed(rows: Any, name: str, value: Any, files: list[str]) -> Any:
    if name == "take":
        return rows.head(int(value))
    if name == "skip":
        return rows.iloc[int(value) :]
    if name == "take_random_sample":
        return rows.sample(frac=float(value["probability"]), random_state=value.get("seed"))
    if name == "random_split":
        first = rows.sample(frac=value["percent"], random_state=value["seed"])
        return first if value["part"] == 0 else rows.drop(first.index)
    if name == "keep_columns":
        return rows[[*_list(value), *([PATH] if PATH in rows and PATH not in _list(value) else [])]]
    if name == "drop_columns":
        return rows.drop(columns=_list(value))
    if name == "filter":
        return rows[filtered(rows, value)]
    if name == "convert_column_types":
        return _converted(rows, value)
    if name == "extract_columns_from_partition_format":
        return _partitioned(rows, value["partition_format"] if isinstance(value, dict) else value)
    raise MLTableError(f"transformation {name!r} is not understood here")


def _list(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = value.get("columns", [])
    return [value] if isinstance(value, str) else list(value)


def _converted(rows: Any, entries: Any) -> Any:
    import pandas

    rows = rows.copy()
    for entry in entries:
        kind = entry["column_type"]
        name, options = (kind, {}) if isinstance(kind, str) else next(iter(kind.items()))
        for column in _list(entry["columns"]):
            old = rows[column]
            if name in ("int", "long"):
                numbers = pandas.to_numeric(old, errors="coerce")
                rows[column] = numbers.astype("Int64" if numbers.isna().any() else "int64")
            elif name in ("float", "double"):
                rows[column] = pandas.to_numeric(old, errors="coerce").astype("float64")
            elif name == "string":
                rows[column] = old.astype(str)
            elif name == "boolean":
                yes = {
                    str(text)
                    for text in _list((options or {}).get("true_values") or ["True", "true", "1"])
                }
                rows[column] = old.map(lambda one, yes=yes: str(one) in yes)
            elif name == "datetime":
                formats = _list((options or {}).get("formats") or [])
                rows[column] = pandas.to_datetime(
                    old, format=formats[0] if formats else None, errors="coerce"
                )
            elif name != "stream_info":
                raise MLTableError(f"column type {name!r} is not understood here")
    return rows


def _partitioned(rows: Any, pattern: str) -> Any:
    """Make columns of the parts of each row's path that `{name}` stands for."""
    parts = [re.escape(part) for part in re.split(r"\{[^}]*\}", pattern)]
    names = [name.partition(":")[0] for name in re.findall(r"\{([^}]*)\}", pattern)]
    regex = parts[0]
    for name, part in zip(names, parts[1:]):
        regex += (f"(?P<{name}>[^/]+?)" if name.isidentifier() else "[^/]+?") + part
    compiled = re.compile(regex + "$")
    found = [compiled.search(path) for path in rows[PATH]]
    rows = rows.copy()
    for name in dict.fromkeys(name for name in names if name.isidentifier()):
        rows[name] = [match.group(name) if match else None for match in found]
    return rows


def filtered(rows: Any, expression: str) -> Any:
    """Return which rows an expression such as `col("a") > 1 and not col("b") == "x"` is true for."""
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        raise MLTableError(f"filter {expression!r}: {error.msg}") from None
    return _value(tree.body, rows, expression)


_COMPARED: Any = {
    ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b, ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b, ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b,
}  # fmt: skip
_JOINED: Any = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def _value(node: Any, rows: Any, expression: str) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "col":
        return rows[node.args[0].value]  # type: ignore[attr-defined]
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
        left, right = (_value(one, rows, expression) for one in (node.left, node.comparators[0]))
        return _COMPARED[type(node.ops[0])](left, right)
    if isinstance(node, (ast.BoolOp, ast.BinOp)) and isinstance(
        node.op, (ast.And, ast.Or, ast.BitAnd, ast.BitOr)
    ):
        nodes = node.values if isinstance(node, ast.BoolOp) else [node.left, node.right]
        values = [_value(one, rows, expression) for one in nodes]
        result = values[0]
        for value in values[1:]:
            result = (
                result & value if isinstance(node.op, (ast.And, ast.BitAnd)) else result | value
            )
        return result
    if isinstance(node, ast.BinOp) and type(node.op) in _JOINED:
        return _JOINED[type(node.op)](
            _value(node.left, rows, expression), _value(node.right, rows, expression)
        )
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
        return ~_value(node.operand, rows, expression)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, rows, expression)
    raise MLTableError(
        f"filter {expression!r}: only col(), comparisons, and/or/not and numbers are understood"
    )
