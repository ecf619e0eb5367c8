"""Our own stand-in for `mltable`: MLTable files read with pandas.

    mltable.load(folder).to_pandas_dataframe()

Understood are `paths` (file, folder, pattern) and the transformations that the schema names; one that is not is an
error that says so. Columns keep pandas' types. Needs pandas, and PyYAML or an MLTable file in JSON.
"""

from __future__ import annotations

import copy
import os
from enum import Enum
from typing import Any

from ._reading import MLTableError, rows_of

FILE = "MLTable"


class MLTableHeaders(Enum):
    """Which lines of delimited files are headers."""

    no_header = "no_header"
    from_first_file = "from_first_file"
    all_files_different_headers = "all_files_different_headers"
    all_files_same_headers = "all_files_same_headers"


class MLTableFileEncoding(Enum):
    """Encodings of delimited files."""

    utf8 = "utf8"
    iso88591 = "iso88591"
    latin1 = "latin1"
    utf16 = "utf16"
    windows1252 = "windows1252"
    ascii = "ascii"


class DataType:
    """Types that columns can be converted to."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.options = options

    @staticmethod
    def to_string() -> DataType:
        """Text."""
        return DataType("string")

    @staticmethod
    def to_int() -> DataType:
        """Whole numbers."""
        return DataType("int")

    @staticmethod
    def to_float() -> DataType:
        """Numbers."""
        return DataType("float")

    @staticmethod
    def to_bool(
        true_values: Any = None, false_values: Any = None, mismatch_as: Any = None
    ) -> DataType:
        """True and false, by the texts that mean them."""
        return DataType("boolean", true_values=true_values, false_values=false_values)

    @staticmethod
    def to_datetime(formats: Any = None, date_constant: Any = None) -> DataType:
        """Points in time."""
        return DataType("datetime", formats=formats)

    @staticmethod
    def to_stream() -> DataType:
        """Paths of files."""
        return DataType("stream_info")


class MLTable:
    """Where rows come from, and what is done to them. Each method returns a new one."""

    def __init__(self, definition: dict[str, Any] | None = None, folder: str = ".") -> None:
        self._definition = definition or {"type": "mltable", "paths": []}
        self._folder = folder

    @property
    def paths(self) -> list[dict[str, str]]:
        """Where rows come from."""
        return list(self._definition.get("paths") or [])

    def to_pandas_dataframe(self) -> Any:
        """Return the rows as a DataFrame; without a transformation that reads, the paths of all files."""
        return rows_of(self._definition, self._folder)

    def show(self, count: int = 20) -> Any:
        """Return the first rows."""
        return self.take(count).to_pandas_dataframe()

    def save(self, path: str | None = None, overwrite: bool = True, **options: Any) -> MLTable:
        """Write the MLTable file into a folder."""
        import json

        folder = path or self._folder
        os.makedirs(folder, exist_ok=True)
        target = os.path.join(folder, FILE)
        if os.path.exists(target) and not overwrite:
            raise FileExistsError(target)
        definition = copy.deepcopy(self._definition)
        for entry in definition.get("paths") or []:
            for kind, value in entry.items():
                if "://" not in value:
                    whole = os.path.abspath(os.path.join(self._folder, value))
                    inside = os.path.relpath(whole, os.path.abspath(folder))
                    entry[kind] = whole if inside.startswith("..") else inside
        with open(target, "w", encoding="utf-8") as file:
            file.write(_dumped(definition) or json.dumps(definition, indent=2))
        return MLTable(definition, folder)

    def _and(self, name: str, value: Any) -> MLTable:
        definition = copy.deepcopy(self._definition)
        definition.setdefault("transformations", []).append({name: value})
        return MLTable(definition, self._folder)

    def take(self, count: int = 20) -> MLTable:
        """Keep the first rows."""
        return self._and("take", count)

    def skip(self, count: int) -> MLTable:
        """Leave out the first rows."""
        return self._and("skip", count)

    def take_random_sample(self, probability: float, seed: int | None = None) -> MLTable:
        """Keep rows at random."""
        return self._and("take_random_sample", {"probability": probability, "seed": seed})

    def random_split(
        self, percent: float = 0.5, seed: int | None = None
    ) -> tuple[MLTable, MLTable]:
        """Return two parts, at random."""
        given = {"percent": percent, "seed": 0 if seed is None else seed}
        return self._and("random_split", {**given, "part": 0}), self._and(
            "random_split", {**given, "part": 1}
        )

    def keep_columns(self, columns: Any) -> MLTable:
        """Keep some columns."""
        return self._and("keep_columns", columns)

    def drop_columns(self, columns: Any) -> MLTable:
        """Leave out some columns."""
        return self._and("drop_columns", columns)

    def filter(self, expression: str) -> MLTable:
        """Keep the rows for which an expression such as `col("age") > 18` is true."""
        return self._and("filter", expression)

    def convert_column_types(self, column_types: dict[Any, DataType]) -> MLTable:
        """Convert columns."""
        entries = [
            {
                "columns": list(names) if isinstance(names, tuple) else names,
                "column_type": _typed(kind),
            }
            for names, kind in column_types.items()
        ]
        return self._and("convert_column_types", entries)

    def extract_columns_from_partition_format(self, partition_format: str) -> MLTable:
        """Make columns of the parts of paths."""
        return self._and(
            "extract_columns_from_partition_format", {"partition_format": partition_format}
        )

    def __repr__(self) -> str:
        return _dumped(self._definition) or repr(self._definition)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MLTable) and self._definition == other._definition

    __hash__ = None  # type: ignore[assignment]


def load(uri: str, storage_options: Any = None, ml_client: Any = None) -> MLTable:
    """Return the table of a folder with an MLTable file.

    Raises:
        MLTableError: there is none.
    """
    if "://" in uri:
        raise MLTableError(
            f"{uri}: a step cannot reach a datastore; give it the table as an input of type mltable"
        )
    folder = uri if os.path.isdir(uri) else os.path.dirname(uri)
    path = os.path.join(folder, FILE)
    if not os.path.isfile(path):
        raise MLTableError(f"no file named {FILE} in {folder or '.'}")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return MLTable(_loaded(text), folder)


def from_paths(paths: list[dict[str, str]]) -> MLTable:
    """Return a table of files."""
    return MLTable({"type": "mltable", "paths": list(paths)})


def from_delimited_files(
    paths: list[dict[str, str]],
    header: Any = "all_files_same_headers",
    delimiter: str = ",",
    support_multi_line: bool = False,
    empty_as_string: bool = False,
    encoding: Any = "utf8",
    include_path_column: bool = False,
    infer_column_types: Any = True,
) -> MLTable:
    """Return a table of delimited files."""
    read = {
        "delimiter": delimiter, "empty_as_string": empty_as_string, "encoding": _plain(encoding),
        "header": _plain(header), "include_path_column": include_path_column,
        "infer_column_types": infer_column_types, "support_multi_line": support_multi_line,
    }  # fmt: skip
    return from_paths(paths)._and("read_delimited", read)


def from_parquet_files(paths: list[dict[str, str]], include_path_column: bool = False) -> MLTable:
    """Return a table of parquet files."""
    return from_paths(paths)._and("read_parquet", {"include_path_column": include_path_column})


def from_json_lines_files(
    paths: list[dict[str, str]],
    invalid_lines: str = "error",
    encoding: Any = "utf8",
    include_path_column: bool = False,
) -> MLTable:
    """Return a table of files of JSON lines."""
    read = {
        "invalid_lines": invalid_lines,
        "encoding": _plain(encoding),
        "include_path_column": include_path_column,
    }
    return from_paths(paths)._and("read_json_lines", read)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _typed(kind: Any) -> Any:
    if not isinstance(kind, DataType):
        return kind
    options = {name: value for name, value in kind.options.items() if value is not None}
    return {kind.name: options} if options else kind.name


def _loaded(text: str) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        import json

        try:
            found = json.loads(text)
        except ValueError:
            raise MLTableError(
                "reading an MLTable file needs PyYAML: add it to the environment"
            ) from None
    else:
        found = yaml.safe_load(text)
    if not isinstance(found, dict):
        raise MLTableError("an MLTable file holds a mapping with `paths`")
    return found


def _dumped(definition: dict[str, Any]) -> str:
    try:
        import yaml
    except ImportError:
        return ""
    text: str = yaml.safe_dump(definition, sort_keys=False)
    return text


__all__ = [
    "DataType", "MLTable", "MLTableError", "MLTableFileEncoding", "MLTableHeaders", "from_delimited_files",
    "from_json_lines_files", "from_parquet_files", "from_paths", "load",
]  # fmt: skip
