"""Start an executor: read settings, open adapters, serve."""

import os
from collections.abc import Mapping
from pathlib import Path

from penstock.runtime.service import run
from penstock.runtime.settings import FILE_NAME, load, refuse_unknown_variables
from penstock_executor.settings import Settings
from penstock_executor.shell import work

SERVICE = "executor"


def main(flags: Mapping[str, str]) -> int:
    """Run an executor until it is told to stop; return the exit code."""
    refuse_unknown_variables(os.environ, {SERVICE: Settings})
    file = Path(os.environ.get("PENSTOCK_CONFIG") or FILE_NAME)
    settings, _ = load(SERVICE, Settings, flags, os.environ, file)
    return run(SERVICE, settings, work)
