"""Start an executor: read settings, open adapters, serve."""

import os
from collections.abc import Mapping
from pathlib import Path

from penstock.runtime.service import run
from penstock.runtime.settings import FILE_NAME, load
from penstock_executor.settings import Settings
from penstock_executor.shell import work


def main(flags: Mapping[str, str]) -> int:
    """Run an executor until it is told to stop; return the exit code."""
    file = os.environ.get("PENSTOCK_CONFIG", FILE_NAME)
    settings, _ = load("executor", Settings, flags, os.environ, Path(file))
    return run("executor", settings, work)
