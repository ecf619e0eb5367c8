"""Datasets: names for files that lie somewhere, and for tables in them."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from penstock.azureml.data.dataset_consumption_config import DatasetConsumptionConfig
from penstock.azureml.data.gathering.gather import gather
from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.sdk.arguments import DataInput, OutputFileDatasetConfig, OutputInput
from penstock.sdk.steps import PythonScriptStep

GATHERING = Path(__file__).parent / "gathering"
Place = str | Path
"""A path of this machine, or a text that a spec's input may name."""


class AbstractDataset:
    """What file and table datasets have in common."""

    def __init__(self, places: Sequence[Place], *, is_file: bool = False) -> None:
        if not places:
            raise UserErrorException("no path", code="E_MISSING", where="Dataset")
        self.places = tuple(places)
        self.is_file = is_file
        self.workspace: Any = None
        self.name: str | None = None
        self.version: Any = None
        self.description = ""
        self.tags: dict[str, str] = {}

    def __repr__(self) -> str:
        name = f"{self.name}:{self.version}, " if self.name else ""
        return f"{type(self).__name__}({name}{[str(place) for place in self.places]})"

    @property
    def id(self) -> str:
        """Its name and version when it is registered, else where it lies."""
        return f"{self.name}:{self.version}" if self.name else str(self.places[0])

    def as_named_input(self, name: str) -> Any:
        """Return it as an input of a step, called `name` there.

        Several places, and tables that are read in a way of their own, are gathered by a step before.
        """
        if self._is_plain():
            return DatasetConsumptionConfig(name, self)  # type: ignore[arg-type]
        return GatheredInput(self._gathered, name)

    def source(self) -> DataInput:
        """Return where its one place is.

        Raises:
            UserErrorException: E_UNSUPPORTED, there are several, or it is a table with its own way to read.
        """
        if not self._is_plain():
            raise unsupported(
                "a dataset of several paths, or of a table read in a way of its own, as a parameter",
                "register the dataset, and give what Dataset.get_by_name returns",
            )
        return DataInput("", self.places[0], type=self._type())

    def register(
        self,
        workspace: Any,
        name: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        create_new_version: bool = False,
    ) -> Self:
        """Register the data under a name: a version of its bytes, as they are now.

        Several places are stored as one folder, and with a table how it is read: `Dataset.get_by_name` and steps
        read it so.
        """
        from penstock.azureml.data.registering import registered

        return registered(self, workspace, name, description or "", tags or {})

    # -- inside ---------------------------------------------------------------------------------------

    def _type(self) -> str:
        return "uri_file" if self.is_file else "uri_folder"

    def _is_plain(self) -> bool:
        return len(self.places) == 1

    def registrable(self, folder: Path) -> tuple[str, Place]:
        """Return what is registered, its type and place; gathered below `folder` if it is not one place."""
        if self._is_whole():
            place = self.places[0]
            alone = isinstance(place, Path) and place.is_file()
            return "uri_file" if alone else self._type_of_whole(), place
        sources, into = [str(place) for place in self._roots(folder / "fetched")], folder / "data"
        gather(str(into), sources, json.loads(self._table() or "null"))
        return ("mltable" if self._table() else "uri_folder"), into

    def _is_whole(self) -> bool:
        """Say whether its place, registered, says all of it."""
        return len(self.places) == 1

    def _type_of_whole(self) -> str:
        return "uri_folder"

    def _table(self) -> str:
        return ""

    @cached_property
    def _gathered(self) -> OutputFileDatasetConfig:
        """What a step of its own makes of several places: one folder."""
        output = OutputFileDatasetConfig("data")
        options = ["--table", self._table()] if self._table() else []
        PythonScriptStep(
            "gather.py",
            name=f"gather_{self.name or 'data'}",
            arguments=[
                output,
                *options,
                *(DataInput(f"place_{n}", place) for n, place in enumerate(self.places)),
            ],
            source_directory=GATHERING,
        )
        return output

    def _roots(self, folder: Path) -> list[Path]:
        """Return its places on this machine, those of other machines copied into `folder`."""
        found: list[Path] = []
        for number, place in enumerate(self.places):
            if isinstance(place, Path):
                found.append(place)
            else:
                from penstock.azureml.core.datastore import fetched

                found.append(fetched(self.workspace, place, folder / str(number)))
        return found

    def _fetched(self, folder: Path) -> list[Path]:
        """Return the files that it holds, sorted, those of other machines copied into `folder`."""
        found: list[Path] = []
        for here in self._roots(folder):
            found += [here] if here.is_file() else sorted(p for p in here.rglob("*") if p.is_file())
        return found


class GatheredInput(OutputInput):
    """A dataset of several places as an input of a step."""

    @property
    def dataset(self) -> OutputFileDatasetConfig:
        """What the gathering step makes."""
        return self.output


class FileDataset(AbstractDataset):
    """Files."""

    def to_path(self) -> list[str]:
        """Return the names of its files."""
        with tempfile.TemporaryDirectory() as folder:
            return [f"/{path.name}" for path in self._fetched(Path(folder))]

    def download(
        self,
        target_path: str | Path | None = None,
        overwrite: bool = False,
        ignore_not_found: bool = False,
    ) -> list[str]:
        """Copy its files into a folder (default: a new one) and return their paths."""
        import shutil

        into = Path(target_path) if target_path else Path(tempfile.mkdtemp(prefix="dataset-"))
        into.mkdir(parents=True, exist_ok=True)
        copies: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            for file in self._fetched(Path(folder)):
                target = into / file.name
                if target.exists() and not overwrite:
                    raise UserErrorException(
                        f"{target} exists", code="E_EXISTS", where="download", hint="overwrite=True"
                    )
                shutil.copyfile(file, target)
                copies.append(str(target))
        return copies

    def as_mount(self, path_on_compute: str | None = None) -> Any:
        """Return it as a step's input, named after the dataset."""
        return self.as_named_input(self.name or "data")

    as_download = as_mount

    def mount(self, mount_point: str | None = None) -> Any:
        """Refused: `download` gives the same files.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("FileDataset.mount", "use `download(target_path)`")

    def as_hdfs(self) -> Any:
        """Refused.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("FileDataset.as_hdfs")


class TabularDataset(AbstractDataset):
    """A table in files. What may be done to it is kept as the transformations of an MLTable.

    Without a reader its one place is a folder with an MLTable, which says how it is read.
    """

    def __init__(
        self, places: Sequence[Place], reader: Mapping[str, Any], steps: Sequence[Any] = ()
    ) -> None:
        super().__init__(places)
        self.reader = dict(reader)
        self.transformations = tuple(steps)

    def to_pandas_dataframe(
        self, on_error: str = "null", out_of_range_datetime: str = "null"
    ) -> Any:
        """Return the whole table as a pandas DataFrame."""
        from penstock.azureml.data.tables import frame, told_by

        with tempfile.TemporaryDirectory() as folder:
            if self.reader:
                return frame(self._fetched(Path(folder)), [self.reader, *self.transformations])
            (root,) = self._roots(Path(folder))
            files, told = told_by(root)
            return frame(files, [*told, *self.transformations])

    def keep_columns(
        self, columns: str | Sequence[str], validate: bool = False
    ) -> "TabularDataset":
        """Return the table with these columns only."""
        return self._with({"keep_columns": _list(columns)})

    def drop_columns(self, columns: str | Sequence[str]) -> "TabularDataset":
        """Return the table without these columns."""
        return self._with({"drop_columns": _list(columns)})

    def take(self, count: int) -> "TabularDataset":
        """Return the first rows."""
        return self._with({"take": int(count)})

    def skip(self, count: int) -> "TabularDataset":
        """Return the table without its first rows."""
        return self._with({"skip": int(count)})

    def take_sample(self, probability: float, seed: int | None = None) -> "TabularDataset":
        """Return rows chosen by chance."""
        return self._with({"take_random_sample": {"probability": probability, "seed": seed or 0}})

    def _with(self, step: dict[str, Any]) -> "TabularDataset":
        found = TabularDataset(self.places, self.reader, (*self.transformations, step))
        found.workspace = self.workspace
        return found

    def _is_plain(self) -> bool:
        usual = self.reader in ({}, {"read_delimited": {}}, {"read_parquet": {}})
        return super()._is_plain() and usual and not self.transformations

    def _is_whole(self) -> bool:
        return self._is_plain() and self.reader != {"read_parquet": {}}

    def _type(self) -> str:
        return super()._type() if self.reader else "mltable"

    def _type_of_whole(self) -> str:
        return "uri_folder" if self.reader else "mltable"

    def _table(self) -> str:
        steps = [*([self.reader] if self.reader else ()), *self.transformations]
        return json.dumps({"type": "mltable", "transformations": steps}, sort_keys=True)


def _list(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


__all__ = ["AbstractDataset", "FileDataset", "TabularDataset"]
