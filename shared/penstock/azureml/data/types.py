"""Column types and header behaviours, by SDK v1's names; the values are pandas's and MLTable's."""

from enum import Enum


class DataType:
    """`set_column_types={"age": DataType.to_long()}`."""

    @staticmethod
    def to_string() -> str:
        """Texts."""
        return "string"

    @staticmethod
    def to_long() -> str:
        """Whole numbers."""
        return "Int64"

    @staticmethod
    def to_float(decimal_mark: str = ".") -> str:
        """Numbers."""
        return "float64"

    @staticmethod
    def to_bool() -> str:
        """Truth values."""
        return "boolean"


class PromoteHeadersBehavior(Enum):
    """Which lines are headers."""

    NO_HEADERS = 0
    ONLY_FIRST_FILE_HAS_HEADERS = 1
    COMBINE_ALL_FILES_HEADERS = 2
    ALL_FILES_HAVE_SAME_HEADERS = 3


__all__ = ["DataType", "PromoteHeadersBehavior"]
