"""Words for people: durations, sizes, moments and events as one line each, safe for a terminal. Pure."""

import re
import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.sdk.events import Seen
    from penstock.sdk.progress import Progress, StepProgress

NAME_WIDTH_MAX = 32

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return a user's text on one line, without escape sequences and control characters."""
    return _CONTROL.sub("", _ESCAPE.sub("", text).replace("\t", " ").replace("\n", " "))


def without_control(text: str) -> str:
    """Return a line with its colours (SGR) kept and every other control sequence taken out."""
    kept = _ESCAPE.sub(
        lambda match: match.group() if _COLOUR.fullmatch(match.group()) else "", text
    )
    return "".join(
        part if _COLOUR.fullmatch(part) else _CONTROL.sub("", part)
        for part in _COLOUR.split(kept)
        if part
    )


def duration(seconds: float) -> str:
    """Return a duration for people: 6 ms, 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 0.0995:  # noqa: PLR2004
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 10:  # noqa: PLR2004
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def moment(at: float) -> str:
    """Return a moment (seconds since 1970) in local time, or an empty text for none."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def size(count: float) -> str:
    """Return a number of bytes for people: 812 B, 3.4 KiB, 1.2 GiB."""
    if count < 1024:  # noqa: PLR2004
        return f"{int(count)} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:  # noqa: PLR2004
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def number(value: object) -> str:
    """Return a metric's value, short enough for a table."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return clean(value)
    import json  # only rare values need it, and every `--help` imports this module

    shown = json.dumps(value, default=str, ensure_ascii=False)
    return shown if len(shown) <= 60 else shown[:57] + "..."  # noqa: PLR2004


def cell_width(text: str) -> int:
    """Return how many terminal cells a text takes (wide characters two, combining ones none)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def event_line(seen: "Seen", progress: "Progress | None" = None) -> str:
    """Return an event as one line: time, who, what, and what is worth knowing.

    With the run's `progress` names are aligned; without it the line says which run it is about.
    """
    data = seen.data
    words = [datetime.fromtimestamp(seen.at).astimezone().strftime("%H:%M:%S")]
    name = str(data.get("step") or data.get("trigger") or data.get("dataset") or "run")
    if progress is None:
        words.append(f"{data.get('run', '')!s:<15}")
        words.append(f"{clean(name):<12}")
    else:
        width = name_width(progress)
        words.append(f"{clean(name):<{width}}")
    words += [f"{seen.what:<9}", clean(_detail(seen))]
    return "  ".join(words).rstrip()


def name_width(progress: "Progress") -> int:
    """Return how wide the column of steps' names is in a run's lines."""
    return min(NAME_WIDTH_MAX, max(len("run"), progress.name_length))


def waiting_line(step: "StepProgress", width: int) -> str:
    """Return why a queued step waits, as a line among `event_line`s with names of this width."""
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    return f"{now}  {clean(step.name):<{width}}  {'waiting':<9}  {clean(step.waits_for)}"


def _detail(seen: "Seen") -> str:
    data = seen.data
    match seen.kind:
        case "run.accepted":
            steps = data.get("steps", 0)
            return f"{data.get('pipeline', '')}, {steps} step{'' if steps == 1 else 's'}"
        case "run.succeeded" | "run.failed" | "run.cancelled":
            counts = data.get("counts", {})
            words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
            return ", ".join(
                filter(None, (duration(data.get("seconds", 0)), words, data.get("reason", "")))
            )
        case "run.refused":
            return str((data.get("error") or {}).get("message", ""))
        case "step.queued" | "step.reused" | "step.skipped" | "step.cancelled":
            return str(data.get("reason", ""))
        case "step.started":
            attempt = data.get("attempt", 1)
            return f"attempt {attempt}" if attempt > 1 else ""
        case "step.retrying":
            return f"after {failed_how(data.get('failure') or {})}"
        case "step.failed":
            return failed_how(data.get("failure") or {})
        case "step.succeeded":
            metrics = data.get("metrics", {})
            shown = [
                f"{key} {number(value)}"
                for key, value in metrics.items()
                if isinstance(value, int | float | str)
            ]
            return ", ".join([duration(data.get("seconds", 0)), *shown[:4]])
    return str(data.get("reason", ""))


def failed_how(failure: object) -> str:
    """Return a failure's code and message; empty for none."""
    if not isinstance(failure, dict) or not failure:
        return ""
    return f"{failure.get('code', '')}: {failure.get('message', '')}"
