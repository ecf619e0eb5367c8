"""Steps that do nothing: what the engine adds to a process, alone, in a row, side by side, and reused."""

import subprocess
from pathlib import Path

from tests.bench.bench import Bench, times
from tests.bench.pipelines import WorkLost, bare_chain, chain, ended, fan, realistic
from tests.bench.registry import Samples, at_least, at_most, workload
from tests.bench.stacks import PENSTOCK

NOOP = "python noop.py"
YAML = """\
type: pipeline
jobs:
  hello:
    type: command
    command: python noop.py --salt {salt}
    code: {code}
"""


@workload("hello-warm", "s", floor=NOOP, bound=at_most(4))
def hello_warm(bench: Bench) -> Samples:
    """One step, submitted by a connected SDK client, until it knows the end."""
    return bench.paired(
        lambda: ended(bench.client, fan(bench.sources, 1, bench.salt()))[0],
        lambda: noop(bench),
        rounds=20,
    )


@workload("hello-cold", "s", floor=NOOP, bound=at_most(30))
def hello_cold(bench: Bench) -> Samples:
    """The whole command `penstock submit FILE --watch`, from the shell to its exit."""
    folder = bench.folder()

    def prepared() -> Path:
        salt = bench.salt()
        file = folder / f"{salt}.yml"
        file.write_text(YAML.format(salt=salt, code=bench.sources / "noop"), encoding="utf-8")
        return file

    def ours() -> None:
        words = ["submit", str(files.pop()), "--watch", "--dir", str(bench.stack.folder)]
        done = subprocess.run(
            [str(PENSTOCK), *words], capture_output=True, text=True, check=False, cwd=folder
        )
        if done.returncode or " started" not in done.stderr:
            raise WorkLost(done.stderr[-1000:])

    files = [prepared() for _ in range(bench.rounds(10) + 1)]
    assert bench.stack.bus  # started now, not while the first one is timed
    return bench.paired(ours, lambda: noop(bench), rounds=10)


@workload("chain-50", "s", floor="a shell loop of python noop.py", bound=at_most(1))
def chain_50(bench: Bench) -> Samples:
    """50 steps, each reading a small file that the one before wrote, all outputs durable."""
    return bench.paired(
        lambda: ended(bench.client, chain(bench.sources, 50, bench.salt()))[0],
        lambda: silent(bench.floor("chain.sh", 50)),
    )


@workload("chain-50-bare", "s", floor="a shell loop of python noop.py")
def chain_50_bare(bench: Bench) -> Samples:
    """50 steps one after the other that hand over nothing."""
    return bench.paired(
        lambda: ended(bench.client, bare_chain(bench.sources, 50, bench.salt()))[0],
        lambda: silent(bench.floor("chain.sh", 50)),
    )


@workload("fan-200", "steps/s", floor="seq 200 | xargs -P2 -n1 python noop.py")
def fan_200(bench: Bench) -> Samples:
    """200 steps, two at a time."""
    return fanned(bench, 200, rounds=5)


@workload("fan-1000", "steps/s", floor="seq 1000 | xargs -P2 -n1 python noop.py", bound=at_least(1))
def fan_1000(bench: Bench) -> Samples:
    """1,000 steps, two at a time."""
    return fanned(bench, 1000, rounds=3)


@workload("cached-200", "s", floor=NOOP, bound=at_most(6))
def cached_200(bench: Bench) -> Samples:
    """200 steps that have been done before."""
    return cached(bench, 200)


@workload("cached-1000", "s", floor=NOOP, bound=at_most(20))
def cached_1000(bench: Bench) -> Samples:
    """1,000 steps that have been done before."""
    return cached(bench, 1000)


@workload(
    "realistic",
    "s",
    floor="python prepare.py && python train.py && python evaluate.py",
    bound=at_most(0.35),
)
def realistic_warm(bench: Bench) -> Samples:
    """prepare → train → evaluate with pandas and scikit-learn, in an environment that ran before."""

    def floor() -> None:
        folder = bench.folder()
        bench.floor("realistic.sh", bench.sources / "realistic", folder, bench.salt())
        if not (folder / "report/scores.json").is_file():
            raise WorkLost("the floor wrote no scores")

    return bench.paired(
        lambda: ended(bench.client, realistic(bench.sources, bench.salt()))[0], floor, rounds=3
    )


def fanned(bench: Bench, count: int, rounds: int) -> Samples:
    """Measure a fan-out in steps per second."""
    seconds = bench.paired(
        lambda: ended(bench.client, fan(bench.sources, count, bench.salt()))[0],
        lambda: silent(bench.floor("fan.sh", count)),
        rounds=rounds,
        warm=False,
    )
    return times(count, seconds)


def cached(bench: Bench, count: int) -> Samples:
    """Measure a run of which everything is reused."""
    salt = bench.salt()
    ended(bench.client, fan(bench.sources, count, salt))
    return bench.paired(
        lambda: ended(bench.client, fan(bench.sources, count, salt), reused=True)[0],
        lambda: noop(bench),
        rounds=10,
    )


def noop(bench: Bench) -> None:
    """Run the floor of floors: a Python process that does nothing."""
    bench.floor("noop.py")


def silent(_: str) -> None:
    """Time what was done, not what it said."""
