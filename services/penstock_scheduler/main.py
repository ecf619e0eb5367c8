"""Read settings, connect, serve."""

import os
from collections.abc import Mapping

from penstock.runtime.service import run
from penstock.runtime.settings import load
from penstock_scheduler.settings import Settings, checked
from penstock_scheduler.shell import serve


def main(flags: Mapping[str, str]) -> int:
    """Run a scheduler until it is told to stop; return the exit code."""
    settings, _ = load("scheduler", Settings, flags, os.environ)
    return run("scheduler", checked(settings), serve)
