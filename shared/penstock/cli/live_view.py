"""The live picture of a run: a header, one line per step, folded to the height of the terminal."""

import os
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

from rich.console import Console, ConsoleOptions, OverflowMethod, RenderResult
from rich.live import Live
from rich.text import Text

from penstock.cli.output import STYLES, clean
from penstock.sdk.progress import Progress, StepProgress
from penstock.sdk.wording import cell_width, duration

GLYPHS = {
    "waiting": "·",
    "ready": "·",
    "queued": "◌",
    "running": "●",
    "retrying": "↻",
    "reused": "♻",
    "succeeded": "✓",
    "failed": "✗",
    "cancelled": "■",
    "skipped": "-",
}
ASCII_GLYPHS = {
    "waiting": ".",
    "ready": ".",
    "queued": "o",
    "running": "*",
    "retrying": "~",
    "reused": "=",
    "succeeded": "+",
    "failed": "x",
    "cancelled": "#",
    "skipped": "-",
}
_URGENT = ("failed", "running", "retrying", "queued", "ready")
"""When not all steps fit, these are shown first, in this order."""
_NAME_MAX = 32
_NARROW = 50


class Picture:
    """Draws a run's progress in place, without flicker."""

    def __init__(self, stream: IO[str]) -> None:
        self.console = Console(file=stream, highlight=False, no_color=_no_color())
        encoding = (getattr(stream, "encoding", "") or "ascii").lower()
        self.glyphs = GLYPHS if encoding.startswith("utf") else ASCII_GLYPHS
        self.plain = not encoding.startswith("utf")
        self.live = Live(
            console=self.console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        self.live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.__exit__(kind, error, trace)

    def draw(self, progress: Progress, now: float) -> None:
        """Draw the run as it is at `now`."""
        self.live.update(Frame(progress, now, self.glyphs, plain=self.plain), refresh=True)


class Frame:
    """One picture; knows the terminal's size only when it is drawn."""

    def __init__(
        self, progress: Progress, now: float, glyphs: dict[str, str], *, plain: bool = False
    ) -> None:
        self.overflow: OverflowMethod = "crop" if plain else "ellipsis"
        self.dots = "..." if plain else "…"
        self.plain = plain
        self.progress = progress
        self.now = now
        self.glyphs = glyphs

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines that fit."""
        height = console.size.height - 1
        for line in self.lines(options.max_width, height):
            line.truncate(options.max_width, overflow=self.overflow)
            yield Text(_ascii(line.plain), no_wrap=True) if self.plain else line

    def lines(self, width: int, height: int) -> list[Text]:
        """Return at most `height` lines for a terminal of `width` cells."""
        steps = list(self.progress.steps.values())
        # What to do about a step that nobody takes, once, and below, where a narrow terminal has room.
        advice = list(dict.fromkeys(filter(None, (s.waits_for.partition("; ")[2] for s in steps))))
        shown, hidden = folded(steps, max(1, height - 2 - len(advice)))
        names = [cell_width(clean(step.name)) for step in shown]
        name_width = min(_NAME_MAX, max([4, *names]), max(4, width // 3))
        lines = [self.header(width)]
        lines += [self.step(step, name_width, width) for step in shown]
        if hidden:
            lines.append(Text(f"  {self.dots} {_counted(hidden)}", style="dim", no_wrap=True))
        lines += [Text(f"  {clean(text)}", style="yellow", no_wrap=True) for text in advice]
        return lines

    def header(self, width: int) -> Text:
        """Return the first line: what runs, how far it is, since when."""
        progress = self.progress
        seconds = progress.seconds
        if not progress.ended and progress.accepted_at:
            seconds = max(0.0, self.now - progress.accepted_at)
        text = Text(no_wrap=True)
        text.append(clean(progress.display_name or progress.pipeline or "run"), style="bold")
        if width >= _NARROW:
            text.append(f"  {progress.run}", style="dim")
        text.append(f"  {progress.state}", style=STYLES.get(progress.state, ""))
        if progress.total:
            text.append(f"  {progress.done}/{progress.total}")
        return text.append(f"  {duration(seconds)}", style="dim")

    def step(self, step: StepProgress, name_width: int, width: int) -> Text:
        """Return a step's line."""
        style = STYLES.get(step.state, "")
        name = clean(step.name)
        if cell_width(name) > name_width:
            name = name[: name_width - len(self.dots)] + self.dots
        text = Text(no_wrap=True)
        text.append(f"{self.glyphs.get(step.state, '?')} ", style=style)
        text.append(
            name + " " * (name_width - cell_width(name)), style="dim" if style == "dim" else ""
        )
        if width >= _NARROW:
            text.append(f"  {step.state:<9}", style=style)
            text.append(f"  {self.elapsed(step):>8}")
        detail, detail_style = self.detail(step)
        if detail:
            text.append(f"  {detail}", style=detail_style)
        return text

    def elapsed(self, step: StepProgress) -> str:
        """Return how long a step runs or ran; empty when it did neither."""
        if step.state == "running" and step.started_at:
            return duration(max(0.0, self.now - step.started_at))
        if step.state in ("succeeded", "failed", "cancelled") and step.started_at:
            return duration(step.seconds)
        return ""

    def detail(self, step: StepProgress) -> tuple[str, str]:
        """Return what is worth knowing of a step now, and how it looks."""
        if step.state == "failed":
            return clean(
                f"{step.failure.get('code', '')}: {step.failure.get('message', '')}"
            ), "red"
        if step.state == "retrying":
            left = max(0.0, step.retry_at - self.now)
            again = f"again in {duration(left)}" if step.retry_at else "again"
            return clean(f"{again}: {step.failure.get('message', '')}"), "yellow"
        if step.state == "running" and step.waits_for:
            return clean(step.waits_for), "yellow"
        if step.state == "running":
            attempt = f"attempt {step.attempt}  " if step.attempt > 1 else ""
            overdue = "overdue  " if step.overdue else ""
            return f"{overdue}{attempt}{step.last_line}", "dim"
        if step.waits_for:
            return clean(step.waits_for.partition("; ")[0]), "yellow"
        if step.state in ("reused", "skipped", "cancelled", "queued"):
            return clean(step.reason), "dim"
        return "", ""


def folded(
    steps: Sequence[StepProgress], room: int
) -> tuple[list[StepProgress], list[StepProgress]]:
    """Return the steps to show, in their order, and those folded into one line."""
    if len(steps) <= room:
        return list(steps), []
    ranks = {state: rank for rank, state in enumerate(_URGENT)}
    by_urgency = sorted(steps, key=lambda step: (ranks.get(step.state, 9), -step.ended_at))
    chosen = {id(step) for step in by_urgency[: max(1, room - 1)]}
    shown = [step for step in steps if id(step) in chosen]
    return shown, [step for step in steps if id(step) not in chosen]


def _counted(steps: Sequence[StepProgress]) -> str:
    counts: dict[str, int] = {}
    for step in steps:
        counts[step.state] = counts.get(step.state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _no_color() -> bool | None:
    return True if os.environ.get("NO_COLOR") else None
