"""Reads the files of a table dataset with pandas, as its MLTable would say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.azureml.exceptions import unsupported


def frame(
    files: Sequence[Path], reader: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]
) -> Any:
    """Return the table as a pandas DataFrame.

    Raises:
        UserErrorException: E_EXTRA, pandas is not installed; E_UNSUPPORTED.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise unsupported("to_pandas_dataframe without pandas", "pip install pandas") from error
    ((kind, options),) = reader.items()
    parts = []
    for file in files:
        if kind == "read_delimited":
            header = None if options.get("header") == "no_header" else 0
            part = pd.read_csv(
                file,
                sep=options.get("delimiter", ","),
                header=header,
                encoding=options.get("encoding", "utf8"),
                keep_default_na=not options.get("empty_as_string", False),
                dtype=options.get("column_types"),
            )
            if header is None:
                part.columns = [f"Column{n + 1}" for n in range(len(part.columns))]
        elif kind == "read_parquet":
            part = pd.read_parquet(file)
        else:
            part = pd.read_json(file, lines=True)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True) if len(parts) != 1 else parts[0]
    for step in steps:
        ((what, value),) = step.items()
        match what:
            case "keep_columns":
                table = table[value]
            case "drop_columns":
                table = table.drop(columns=value)
            case "take":
                table = table.head(value)
            case "skip":
                table = table.iloc[value:].reset_index(drop=True)
            case "take_random_sample":
                table = table.sample(frac=value["probability"], random_state=value["seed"])
            case _:
                raise unsupported(f"{what} of a table")
    return table
