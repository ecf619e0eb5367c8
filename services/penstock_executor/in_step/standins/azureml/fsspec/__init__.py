"""`azureml.fsspec`: paths of inputs are local ones, so they are read as local files."""

from __future__ import annotations

from typing import Any

from ..exceptions import UserErrorException


class AzureMachineLearningFileSystem:
    """A local file system at a path, with fsspec's methods."""

    def __init__(self, uri: str, *arguments: Any, **options: Any) -> None:
        if "://" in uri:
            raise UserErrorException(
                f"{uri}: a step cannot reach a datastore; give it the path as an input, and use that"
            )
        import fsspec.implementations.dirfs
        import fsspec.implementations.local

        local = fsspec.implementations.local.LocalFileSystem()
        self._system = fsspec.implementations.dirfs.DirFileSystem(uri, local)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)
