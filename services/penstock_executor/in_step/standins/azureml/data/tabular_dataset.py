"""Rows, read with pandas when they are asked for."""

from __future__ import annotations

import os
from typing import Any, Callable

_KINDS = {
    ".csv": "csv", ".tsv": "tsv", ".txt": "csv", ".data": "csv", ".gz": "csv",
    ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".json": "jsonl",
}  # fmt: skip


def opened(path: str, kind: str = "", **read: Any) -> Any:
    """Return the rows of a file, or of all files of a folder one below the other, as a DataFrame."""
    import pandas

    folder = os.path.isdir(path)
    if folder and not kind and os.path.isfile(os.path.join(path, "MLTable")):
        import mltable

        return mltable.load(path).to_pandas_dataframe()
    files = [path]
    if folder:
        files = [
            os.path.join(root, name)
            for root, _, names in sorted(os.walk(path))
            for name in sorted(names)
            if not name.startswith((".", "_"))
        ]
    frames = [
        _read(file, kind or _KINDS.get(os.path.splitext(file)[1].lower(), "csv"), read)
        for file in files
    ]
    if not frames:
        raise FileNotFoundError(f"no files in {path}")
    return frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)


def _read(file: str, kind: str, read: dict[str, Any]) -> Any:
    import pandas

    if kind == "parquet":
        return pandas.read_parquet(file)
    if kind == "jsonl":
        return pandas.read_json(file, lines=True)
    return pandas.read_csv(file, **({"sep": "\t"} if kind == "tsv" else {}), **read)


class TabularDataset:
    """Rows."""

    def __init__(self, rows: Callable[[], Any]) -> None:
        self._rows = rows

    def to_pandas_dataframe(self, *arguments: Any, **options: Any) -> Any:
        """Return them."""
        return self._rows()

    def _with(self, change: Callable[[Any], Any]) -> TabularDataset:
        return TabularDataset(lambda: change(self._rows()))

    def take(self, count: int) -> TabularDataset:
        """Return the first rows."""
        return self._with(lambda rows: rows.head(count))

    def skip(self, count: int) -> TabularDataset:
        """Return the rows behind the first."""
        return self._with(lambda rows: rows.iloc[count:])

    def keep_columns(self, columns: Any, validate: bool = False) -> TabularDataset:
        """Return some columns."""
        return self._with(
            lambda rows: rows[[columns] if isinstance(columns, str) else list(columns)]
        )

    def drop_columns(self, columns: Any) -> TabularDataset:
        """Return the other columns."""
        return self._with(lambda rows: rows.drop(columns=columns))

    def take_sample(self, probability: float, seed: int | None = None) -> TabularDataset:
        """Return some rows, at random."""
        return self._with(lambda rows: rows.sample(frac=probability, random_state=seed))

    def random_split(
        self, percentage: float, seed: int | None = None
    ) -> tuple[TabularDataset, TabularDataset]:
        """Return two parts, at random; the same two each time."""
        seed = 0 if seed is None else seed

        def first(rows: Any) -> Any:
            return rows.sample(frac=percentage, random_state=seed)

        return self._with(first), self._with(lambda rows: rows.drop(first(rows).index))

    def as_named_input(self, name: str) -> TabularDataset:
        """Return itself."""
        return self

    def register(self, *arguments: Any, **options: Any) -> TabularDataset:
        """Return itself; a step's outputs are registered by their declaration."""
        return self
