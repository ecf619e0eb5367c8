"""A folder, or a file, as a dataset."""

from __future__ import annotations

import os
import shutil
from typing import Any


class _Mounted:
    """What is mounted already."""

    def __init__(self, path: str) -> None:
        self.mount_point = path

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def __enter__(self) -> _Mounted:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class FileDataset:
    """Files at a local path."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _files(self) -> list[str]:
        if not os.path.isdir(self._path):
            return [self._path]
        return [
            os.path.join(root, name)
            for root, _, names in os.walk(self._path)
            for name in sorted(names)
        ]

    def to_path(self) -> list[str]:
        """Return the paths of its files, from its folder on."""
        start = self._path if os.path.isdir(self._path) else os.path.dirname(self._path)
        return ["/" + os.path.relpath(path, start) for path in self._files()]

    def download(
        self, target_path: str | None = None, overwrite: bool = False, **options: Any
    ) -> list[str]:
        """Copy its files; return their paths."""
        target = target_path or os.path.join(os.environ.get("TMPDIR", "/tmp"), "download")  # noqa: S108
        copied = []
        for source, below in zip(self._files(), self.to_path()):
            path = target + below
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if os.path.exists(path) and not overwrite:
                raise FileExistsError(path)
            copied.append(shutil.copyfile(source, path))
        return copied

    def mount(self, mount_point: str | None = None, **options: Any) -> _Mounted:
        """Return what `start` and `stop` do nothing with, and whose `mount_point` is its folder."""
        return _Mounted(self._path)

    def as_named_input(self, name: str) -> FileDataset:
        """Return itself."""
        return self

    def register(self, *arguments: Any, **options: Any) -> FileDataset:
        """Return itself; a step's outputs are registered by their declaration."""
        return self
