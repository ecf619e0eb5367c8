"""Reads the files of a table dataset with pandas, as its MLTable would say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.azureml.exceptions import DatasetException, unsupported

FILE = "MLTable"
PATH = "Path"
_ENCODINGS = {"iso88591": "latin1", "windows1252": "cp1252", "utf8bom": "utf-8-sig"}


def told_by(folder: Path) -> tuple[list[Path], list[Mapping[str, Any]]]:
    """Return the files and transformations of the MLTable in a folder.

    Raises:
        DatasetException: E_NOT_FOUND, there is none; E_UNSUPPORTED, a path that is no file of the folder.
    """
    import yaml

    try:
        told = yaml.safe_load((folder / FILE).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise DatasetException(
            f"no {FILE} in the data", code="E_NOT_FOUND", where=str(folder)
        ) from error
    files: list[Path] = []
    for entry in told.get("paths") or ():
        for kind, value in entry.items():
            place = folder / str(value)
            if "://" in str(value) or not place.resolve().is_relative_to(folder.resolve()):
                raise DatasetException(
                    f"{value} lies outside of the data", code="E_UNSUPPORTED", where=FILE
                )
            match kind:
                case "file":
                    found = [place]
                case "folder":
                    found = sorted(place.rglob("*"))
                case "pattern":
                    found = sorted(folder.glob(str(value).removeprefix("./")))
                case _:
                    raise unsupported(f"{kind} among the paths of an {FILE}")
            files += [path for path in found if path.is_file() and path.name != FILE]
    return files, list(told.get("transformations") or ())


def frame(files: Sequence[Path], transformations: Sequence[Any]) -> Any:
    """Return the table as a pandas DataFrame.

    Raises:
        UserErrorException: E_EXTRA, pandas is not installed; E_UNSUPPORTED.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise unsupported("to_pandas_dataframe without pandas", "pip install pandas") from error
    (kind, options), *steps = map(_step, transformations)
    parts: list[Any] = []
    for number, file in enumerate(files):
        if kind == "read_delimited":
            part = _delimited(file, options, parts[0].columns if number else None)
        elif kind == "read_parquet":
            part = pd.read_parquet(file)
        elif kind == "read_json_lines":
            part = _json_lines(file, options)
        else:
            raise unsupported(f"{kind} of a table")
        if options.get("include_path_column"):
            part = part.assign(**{PATH: str(file)})
        parts.append(part)
    table = pd.concat(parts, ignore_index=True) if len(parts) != 1 else parts[0]
    for what, value in steps:
        match what:
            case "keep_columns":
                table = table[[value] if isinstance(value, str) else value]
            case "drop_columns":
                table = table.drop(columns=value)
            case "take":
                table = table.head(value)
            case "skip":
                table = table.iloc[value:].reset_index(drop=True)
            case "take_random_sample":
                table = table.sample(frac=value["probability"], random_state=value["seed"])
            case "convert_column_types":
                table = _converted(table, value)
            case _:
                raise unsupported(f"{what} of a table")
    return table


def _step(entry: Any) -> tuple[str, Any]:
    if isinstance(entry, str):
        return entry, {}
    ((what, value),) = entry.items()
    return what, {} if value is None else value


def _delimited(file: Path, options: Mapping[str, Any], first: Any) -> Any:
    import pandas as pd

    header = options.get("header")
    bare = header == "no_header" or (header == "from_first_file" and first is not None)
    part = pd.read_csv(
        file,
        sep=options.get("delimiter", ","),
        header=None if bare else 0,
        encoding=_encoding(options),
        keep_default_na=not options.get("empty_as_string", False),
        dtype=str if options.get("infer_column_types") is False else None,
    )
    if header == "no_header":
        part.columns = [f"Column{n + 1}" for n in range(len(part.columns))]
    elif bare:
        part.columns = first[: len(part.columns)]
    return part


def _json_lines(file: Path, options: Mapping[str, Any]) -> Any:
    import json

    import pandas as pd

    encoding = _encoding(options)
    if options.get("invalid_lines") != "drop":
        return pd.read_json(file, lines=True, encoding=encoding)
    rows = []
    for line in file.read_text(encoding=encoding).splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return pd.DataFrame(rows)


def _encoding(options: Mapping[str, Any]) -> str:
    told = str(options.get("encoding", "utf8"))
    return _ENCODINGS.get(told, told)


def _converted(table: Any, entries: Sequence[Mapping[str, Any]]) -> Any:
    import pandas as pd

    table = table.copy()
    for entry in entries:
        kind = entry["column_type"]
        name, told = (kind, {}) if isinstance(kind, str) else next(iter(kind.items()))
        columns = entry["columns"]
        for column in (columns,) if isinstance(columns, str) else columns:
            old = table[column]
            match name:
                case "int" | "long":
                    numbers = pd.to_numeric(old, errors="coerce")
                    table[column] = numbers.astype("Int64" if numbers.isna().any() else "int64")
                case "float" | "double":
                    table[column] = pd.to_numeric(old, errors="coerce").astype("float64")
                case "string":
                    table[column] = old.astype(str)
                case "boolean":
                    table[column] = old.map(lambda one: str(one) in ("True", "true", "1"))
                case "datetime":
                    formats = (told or {}).get("formats") or [None]
                    table[column] = pd.to_datetime(old, format=formats[0], errors="coerce")
                case _:
                    raise unsupported(f"column type {name!r}")
    return table
