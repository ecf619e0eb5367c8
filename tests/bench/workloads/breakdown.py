"""Where the time of one step goes: every message on the bus, the step's own moments, the client's.

`make bench ONLY=breakdown` prints the median of some runs as one story, hop by hop.
"""

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from tests.bench.bench import Bench
from tests.bench.pipelines import ended
from tests.bench.registry import Samples, workload

from penstock.sdk.arguments import OutputFileDatasetConfig
from penstock.sdk.pipeline import Pipeline
from penstock.sdk.steps import PythonScriptStep

RUNS = 15
SETTLE_S = 0.3
"""Between runs: what one leaves to do does not stand in the next one's story."""
NOISE = re.compile(r"presence|\$SRV|\$JS\.(ACK|API\.CONSUMER\.MSG\.NEXT)|_INBOX|consumer\.msg")
Story = list[tuple[float, str]]


@workload("breakdown", "ms", floor="python noop.py", heavy=True)
def breakdown(bench: Bench) -> Samples:
    """One step with one small output: from the call of submit to its end, message by message."""
    stories: list[Story] = []
    times: list[float] = []
    ended(bench.client, talking(bench))
    for _ in range(bench.rounds(RUNS)):
        with tapped(bench.stack.bus) as heard:
            began = time.time()
            seconds, run = ended(bench.client, talking(bench))
            over = began + seconds
            time.sleep(SETTLE_S)
        lines = [float(line.text) for line in bench.client.lines(run)]
        marks = [(began, "client: submit"), (over, "client: knows the end")]
        marks += zip(lines, ("step: first statement", "step: last statement"), strict=True)
        story = [(at, of_run(subject, run)) for at, subject in heard if not NOISE.search(subject)]
        stories.append([(at - began, what) for at, what in sorted(story + marks) if at >= began])
        times.append(seconds * 1000)
    print_story(stories)
    floor = [timed_noop(bench) for _ in range(len(times))]
    return Samples(times, floor, {"hops_ms": dict(typical(stories))})


def talking(bench: Bench) -> Pipeline:
    """Return a step that says when its first and its last statement ran."""
    output = OutputFileDatasetConfig("out")
    step = PythonScriptStep(
        "twice.py", arguments=[output, bench.salt()], source_directory=bench.sources / "first"
    )
    return Pipeline(steps=[step], name="breakdown")


@contextmanager
def tapped(url: str) -> Iterator[Story]:
    """Lend a list that holds, after the block, when which message passed."""
    heard: Story = []
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.tap", url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield heard
    finally:
        process.terminate()
        for line in process.stdout:
            at, _, subject = line.strip().partition(" ")
            heard.append((float(at), subject))
        process.wait()


def of_run(subject: str, run: str) -> str:
    """Return a subject without the names that differ from run to run."""
    text = subject.replace(run, "<run>")
    return re.sub(r"[0-9a-f]{16,}|\.[0-9]+(?=\.)|[A-Za-z0-9]{22}", "*", text)


def typical(stories: list[Story]) -> list[tuple[str, float]]:
    """Return the messages that most runs have, each with the median of its moments in ms, in order."""
    moments: dict[str, list[float]] = {}
    for story in stories:
        seen: Counter[str] = Counter()
        for at, what in story:
            seen[what] += 1
            name = what if seen[what] == 1 else f"{what} #{seen[what]}"
            moments.setdefault(name, []).append(at * 1000)
    found = [
        (name, round(median(each), 2))
        for name, each in moments.items()
        if len(each) > len(stories) / 2
    ]
    return sorted(found, key=lambda pair: pair[1])


def print_story(stories: list[Story]) -> None:
    """Print one line per message: when, how long after the one before."""
    before = 0.0
    print(f"{'ms':>8} {'+ms':>7}  what passed (medians of {len(stories)} runs)")
    for name, at in typical(stories):
        print(f"{at:>8.1f} {at - before:>7.1f}  {name}")
        before = at


def timed_noop(bench: Bench) -> float:
    """Return the milliseconds of the floor."""
    began = time.perf_counter()
    bench.floor("noop.py")
    return (time.perf_counter() - began) * 1000
