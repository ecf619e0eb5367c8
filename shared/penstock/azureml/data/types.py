"""Column types and header behaviours, by SDK v1's names; the values are MLTable's."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from penstock.azureml.exceptions import unsupported


class DataType:
    """`set_column_types={"age": DataType.to_long()}`."""

    @staticmethod
    def to_string() -> str:
        """Texts."""
        return "string"

    @staticmethod
    def to_long() -> str:
        """Whole numbers."""
        return "int"

    @staticmethod
    def to_float(decimal_mark: str = ".") -> str:
        """Numbers.

        Raises:
            UserErrorException: E_UNSUPPORTED, a decimal mark other than a point.
        """
        if decimal_mark != ".":
            raise unsupported(f"decimal_mark={decimal_mark!r}", "convert the column in the step")
        return "float"

    @staticmethod
    def to_bool() -> str:
        """Truth values."""
        return "boolean"

    @staticmethod
    def to_datetime(formats: str | Sequence[str] | None = None) -> Any:
        """Points in time, as a format such as `%Y-%m-%d` says; without one by their looks.

        Raises:
            UserErrorException: E_UNSUPPORTED, several formats.
        """
        told = [formats] if isinstance(formats, str) else list(formats or ())
        if len(told) > 1:
            raise unsupported("several formats of one column", "convert the column in the step")
        return {"datetime": {"formats": told}} if told else "datetime"

    @staticmethod
    def to_stream(*unused: Any, **more: Any) -> Any:
        """Refused.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("DataType.to_stream", "open the paths in the step")


class PromoteHeadersBehavior(Enum):
    """Which lines are headers."""

    NO_HEADERS = 0
    ONLY_FIRST_FILE_HAS_HEADERS = 1
    COMBINE_ALL_FILES_HEADERS = 2
    ALL_FILES_HAVE_SAME_HEADERS = 3


__all__ = ["DataType", "PromoteHeadersBehavior"]
