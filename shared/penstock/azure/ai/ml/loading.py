"""Jobs that are read from files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.azure.ai.ml.values import settled, source_of
from penstock.ids import did_you_mean
from penstock.sdk.definition import Definition
from penstock.sdk.yaml_reading import file_read
from penstock.sdk.yaml_text import Document, with_value

_IN_FILE = ("name", "display_name", "description", "compute")
"""What a script sets as attributes, and the file says under the same keys."""
_OF_RUN = ("experiment_name", "tags")
"""What goes with the request to run it."""


class LoadedJob:
    """A job in a YAML file. Attributes go before what the file says; all else is `params_override`'s."""

    experiment_name: str | None
    tags: dict[str, str]

    def __init__(self, document: Document, file: Path) -> None:
        vars(self).update(_document=document, _file=file, experiment_name=None, tags={})

    def __getattr__(self, name: str) -> Any:
        if name in _IN_FILE:
            value = self._document.value
            return value.get(name) if isinstance(value, dict) else None
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_RUN:
            vars(self)[name] = value
        elif name in _IN_FILE:
            self._change(name, value)
        else:
            known = (*_IN_FILE, *_OF_RUN)
            raise AttributeError(
                f"{name} cannot be set on a job of a file; "
                + (did_you_mean(name, known) or f"use params_override=[{{{name!r}: …}}]")
            )

    def _change(self, way: str, value: Any) -> None:
        changed = with_value(self._document, way, settled(value), f"params_override {way}")
        vars(self)["_document"] = changed

    def definition(self) -> Definition:
        """Return it as everything else knows it.

        Raises:
            Invalid: as `read_pipeline`.
        """
        from penstock.sdk.pipeline_files import pipeline_of

        return pipeline_of(self._document, self._file)


def load_job(
    source: Any,
    *,
    relative_origin: str | None = None,
    params_override: list[Mapping[str, Any]] | None = None,
    **unused: Any,
) -> LoadedJob:
    """Return the job in a YAML file.

    Raises:
        NotFound: there is no such file.
        Invalid: E_YAML and others, it is none; E_PARAM, a change of what holds no keys.
    """
    job = LoadedJob(*file_read(source_of(source)))
    for change in params_override or ():
        for way, value in change.items():
            job._change(way, value)
    return job
