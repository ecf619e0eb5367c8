"""How a table is read: what v1's factories are told, as the transformations of an MLTable."""

from collections.abc import Mapping
from typing import Any

from penstock.azureml.exceptions import UserErrorException, unsupported

Transformations = list[dict[str, Any]]
"""The one that reads, and what is done next."""
_HEADERS = {
    "NO_HEADERS": "no_header",
    "ONLY_FIRST_FILE_HAS_HEADERS": "from_first_file",
    "COMBINE_ALL_FILES_HEADERS": "all_files_different_headers",
    "ALL_FILES_HAVE_SAME_HEADERS": "",
}
_TYPES = ("string", "int", "float", "boolean", "datetime")


def reading(
    kind: str,
    options: Mapping[str, Any],
    *,
    include_path: bool = False,
    set_column_types: Mapping[str, Any] | None = None,
    partition_format: str | None = None,
) -> Transformations:
    """Return the transformations of a table that is read by `kind`; empty options are left out.

    Raises:
        UserErrorException: E_UNSUPPORTED, a `partition_format`; E_TYPE, no column type.
    """
    whole_files(partition_format)
    told = {key: value for key, value in options.items() if value not in (None, "", False)}
    if options.get("infer_column_types") is False:
        told["infer_column_types"] = False
    if include_path:
        told["include_path_column"] = True
    found: Transformations = [{kind: told}]
    if set_column_types:
        found.append({"convert_column_types": [_typed(*one) for one in set_column_types.items()]})
    return found


def delimited(
    *, separator: str = ",", header: Any = True, encoding: str = "utf8", infer: Any = True
) -> dict[str, Any]:
    """Return the options of delimited files.

    Raises:
        UserErrorException: E_UNSUPPORTED, column types by other rules; E_TYPE, no header behaviour.
    """
    if not isinstance(infer, bool):
        raise unsupported("infer_column_types by rules", "set_column_types={…}")
    name = str(getattr(header, "name", header))
    name = {"True": "ALL_FILES_HAVE_SAME_HEADERS", "False": "NO_HEADERS"}.get(name, name)
    if name not in _HEADERS:
        raise UserErrorException(
            f"header={header!r}", code="E_TYPE", where="Dataset", hint="PromoteHeadersBehavior.…"
        )
    return {
        "delimiter": "" if separator == "," else separator,
        "header": _HEADERS[name],
        "encoding": encoded(encoding),
        "infer_column_types": None if infer else False,
    }


def encoded(encoding: str) -> str:
    """Return an encoding as MLTable has it; nothing for the usual one."""
    return "" if encoding.lower().replace("-", "") == "utf8" else encoding


def whole_files(partition_format: Any, path_glob: Any = None) -> None:
    """Refuse what would make columns of paths, or leave files out: files are gathered, whole, by their names.

    Raises:
        UserErrorException: E_UNSUPPORTED.
    """
    if partition_format:
        raise unsupported("partition_format", "make columns of the paths in the step that reads")
    if path_glob:
        raise unsupported("path_glob", "write the other files to another output")


def _typed(column: Any, kind: Any) -> dict[str, Any]:
    name = next(iter(kind)) if isinstance(kind, dict) and kind else kind
    if name not in _TYPES:
        raise UserErrorException(
            f"{kind!r} of column {column!r} is no type",
            code="E_TYPE",
            where="set_column_types",
            hint="DataType.to_long() …",
        )
    return {"columns": column, "column_type": kind}


__all__ = ["delimited", "encoded", "reading", "whole_files"]
