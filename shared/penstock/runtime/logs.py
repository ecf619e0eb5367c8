"""Log lines of services: structlog, one line per event, on stderr.

JSON when stderr is a file or a pipe, for machines; short aligned lines on a terminal, for people.
Lines carry run, step and attempt where there are any, and never a payload.
"""

import logging
import sys

import structlog
from structlog.typing import FilteringBoundLogger


def logger(service: str, instance: str, level: str = "info") -> FilteringBoundLogger:
    """Return the log of one process. Nothing global is configured."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    wrapped = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
    )
    bound: FilteringBoundLogger = wrapped.bind(service=service, instance=instance)
    return bound
