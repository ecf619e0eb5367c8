"""Log lines of services: structlog, one line per event, on stderr.

JSON when stderr is a file or a pipe, for machines; short aligned lines on a terminal, for people.
Lines carry run, step and attempt where there are any, and never a payload.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import IO

import structlog
from structlog.typing import FilteringBoundLogger


def logger(service: str, instance: str, level: str = "info") -> FilteringBoundLogger:
    """Return the log of one process. Nothing global is configured; see `adopt` for that."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    wrapped = structlog.wrap_logger(
        structlog.PrintLogger(_Steady(sys.stderr)),  # type: ignore[arg-type]
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


def adopt(log: FilteringBoundLogger, *, root: str = "penstock") -> None:
    """Have what libraries of ours say with `logging`, such as the bus, come out as lines of `log`."""
    place = logging.getLogger(root)
    place.handlers[:] = [_Forward(log)]
    place.setLevel(logging.INFO)
    place.propagate = False


class _Steady:
    """Stderr that never fails: a full disk or a reader that has gone (| head) must not stop a service.

    Without it the line that says "stopping" raised, and SIGTERM stopped nothing.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose, a piece of a line."""
        with self._losing():
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written, or lose it."""
        with self._losing():
            self._stream.flush()

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # Nobody will read it again. What is buffered would otherwise fail once more, at the end
            # of the program, and make its exit code 120.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass  # a full disk may have room later; a closed stream has ended


class _Forward(logging.Handler):
    """Hands records on."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        extra = {"bus": record.__dict__["bus"]} if "bus" in record.__dict__ else {}
        if record.exc_info:
            extra["exc_info"] = record.exc_info
        self.log.log(record.levelno, record.getMessage(), logger=record.name, **extra)
