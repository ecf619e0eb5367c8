"""Read settings, connect, serve; nothing else."""

import os
from collections.abc import Mapping
from pathlib import Path

from penstock.runtime.service import run
from penstock.runtime.settings import load, refuse_unknown_variables
from penstock_scheduler.settings import Settings, checked
from penstock_scheduler.shell import serve


def main(flags: Mapping[str, str]) -> int:
    """Run a scheduler until it is told to stop; return the exit code."""
    file = os.environ.get("PENSTOCK_CONFIG", "")
    settings, _ = load("scheduler", Settings, flags, os.environ, Path(file) if file else None)
    refuse_unknown_variables(os.environ, {"scheduler": Settings})
    return run("scheduler", checked(settings), serve)
