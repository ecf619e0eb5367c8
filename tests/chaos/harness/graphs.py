"""Random pipelines whose outputs are known without the system.

A step's output is a digest of its tag and of the bytes of its inputs, so the bytes that every output
must have are computed here, from the graph alone. Each execution writes one line into a ledger
that the system knows nothing of.
"""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Kind = Literal[
    "quick", "slow", "flaky", "big", "files", "flood", "daemon", "stubborn", "python", "broken"
]
KINDS: tuple[tuple[Kind, int], ...] = (
    ("quick", 44),
    ("python", 16),
    ("flaky", 12),
    ("slow", 8),
    ("files", 6),
    ("big", 4),
    ("flood", 4),
    ("daemon", 4),
    ("stubborn", 2),
)
BIG_BYTES = 20_000_000
FILES = 30
FLOOD_LINES = 60_000
ATTEMPTS = 40
"""Attempts a step may take: killed ones count, so a long storm needs many."""
FAILS_P = 0.3
MARK = "CHAOS_MARK"

SCRIPT = b"""\
import hashlib, os, sys, time
ledger, tag, output, *inputs = sys.argv[1:]
env = os.environ
line = " ".join((env["PENSTOCK_RUN_ID"], env["PENSTOCK_STEP"], env["PENSTOCK_ATTEMPT"], str(os.getpid()), f"{time.time():.9f}"))
file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
os.write(file, (line + "\\n").encode())
os.close(file)
print(tag)
digest = hashlib.sha256(tag.encode() + b"\\n")
for path in inputs:
    with open(path, "rb") as data:
        digest.update(data.read())
with open(output, "w") as written:
    written.write(digest.hexdigest() + "\\n")
"""


@dataclass(frozen=True)
class Step:
    """One step. `fails`: the attempts that a flaky one fails at, by number."""

    name: str
    kind: Kind
    tag: str
    needs: tuple[str, ...] = ()
    fails: tuple[int, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What commands must know of the place they run at; the same for all of an episode."""

    ledger: Path
    mark: str
    code: str
    """Digest of the tree that holds step.py."""
    slow_s: float = 5


@dataclass(frozen=True)
class Graph:
    """A pipeline, and what must become of it."""

    steps: tuple[Step, ...]

    @property
    def end(self) -> str:
        """The state that a run of it ends in, if nobody cancels it."""
        return "failed" if any(step.kind == "broken" for step in self.steps) else "succeeded"

    def spec(self, where: Surroundings) -> dict[str, object]:
        """Return the pipeline as a request carries it."""
        kinds = {step.name: step.kind for step in self.steps}
        return {
            "name": "storm",
            "settings": {"continue_on_step_failure": True},
            "steps": {step.name: _written(step, kinds, where) for step in self.steps},
        }

    def outputs(self) -> dict[str, dict[str, str]]:
        """Return, for each step, the SHA-256 of each file that its output must hold."""
        contents: dict[str, dict[str, bytes]] = {}
        for step in self.steps:
            digest = hashlib.sha256(step.tag.encode() + b"\n")
            for need in step.needs:
                digest.update(_read(contents[need]))
            contents[step.name] = _content(step.kind, digest.hexdigest())
        return {
            name: {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
            for name, files in contents.items()
        }

    def stdout(self, name: str) -> bytes:
        """Return what a step writes to its standard output when it succeeds."""
        step = next(step for step in self.steps if step.name == name)
        flood = "".join(f"{n}\n" for n in range(1, FLOOD_LINES + 1)) if step.kind == "flood" else ""
        return f"{step.tag}\n{flood}".encode()

    def changed(self, chance: random.Random) -> "Graph":
        """Return the same pipeline with another tag in one step: what is before it may be reused."""
        place = chance.randrange(len(self.steps))
        tag = f"t{chance.getrandbits(48):012x}"
        steps = list(self.steps)
        steps[place] = replace(steps[place], tag=tag)
        return Graph(tuple(steps))


def graph(chance: random.Random, *, steps_max: int = 40, broken: bool = False) -> Graph:
    """Return a random pipeline of 3 to `steps_max` steps: chains, fans, joins, and steps alone."""
    count = chance.randint(3, max(3, min(steps_max, int(chance.expovariate(1 / 9)) + 3)))
    width = chance.choice((1, 2, 4, 12))
    names, weights = zip(*KINDS, strict=True)
    steps: list[Step] = []
    for number in range(count):
        near = steps[-width * 2 :]
        needs = chance.sample(near, min(len(near), chance.choice((0, 1, 1, 1, 2, 3))))
        (kind,) = chance.choices(names, weights)
        fails = tuple(n for n in range(1, ATTEMPTS) if chance.random() < FAILS_P)
        steps.append(
            Step(
                name=f"s{number:02}",
                kind=kind,
                tag=f"t{chance.getrandbits(48):012x}",
                needs=tuple(sorted(need.name for need in needs)),
                fails=fails if kind == "flaky" else (),
            )
        )
    if broken:
        steps.append(Step("z", "broken", f"t{chance.getrandbits(48):012x}", (steps[0].name,)))
    return Graph(tuple(steps))


def _written(step: Step, kinds: Mapping[str, Kind], where: Surroundings) -> dict[str, object]:
    inputs = {
        f"i{number}": {
            "type": "uri_folder" if kinds[need] == "files" else "uri_file",
            "path": f"${{{{parent.jobs.{need}.outputs.o}}}}",
        }
        for number, need in enumerate(step.needs)
    }
    paths = " ".join(
        f'"${{{{inputs.i{number}}}}}"' + ("/7" if kinds[need] == "files" else "")
        for number, need in enumerate(step.needs)
    )
    written: dict[str, object] = {
        "command": _command(step, paths, where),
        "inputs": inputs,
        "outputs": {"o": {"type": "uri_folder" if step.kind == "files" else "uri_file"}},
        "environment_variables": {MARK: where.mark},
        "limits": {
            "retries": 1 if step.kind == "broken" else ATTEMPTS - 1,
            "retry_delay": 0.01,
        },
    }
    if step.kind == "python":
        written["code"] = f"artifact:{where.code}"
    return written


def _command(step: Step, paths: str, where: Surroundings) -> str:
    output = '"${{outputs.o}}"'
    if step.kind == "python":
        return f"python step.py {where.ledger} {step.tag} {output} {paths}".strip()
    line = '"$PENSTOCK_RUN_ID $PENSTOCK_STEP $PENSTOCK_ATTEMPT $$ $(date +%s.%N)"'
    # Any process of a step may be killed alone: a pipe that lost its writer must not look complete.
    begin = f"set -eo pipefail; echo {line} >> {where.ledger}; echo {step.tag}; "
    digest = f"d=$( (echo {step.tag}; cat {paths} /dev/null) | sha256sum | cut -c1-64 ); "
    put = f'echo "$d" > {output}'
    match step.kind:
        case "slow":
            return f"{begin}{digest}sleep {where.slow_s:g}; {put}"
        case "flaky":
            fails = "|".join(map(str, step.fails)) or "x"
            return f"{begin}case $PENSTOCK_ATTEMPT in {fails}) exit 7;; esac; {digest}{put}"
        case "big":
            whole = f'test "$(stat -c %s {output})" = {BIG_BYTES}'
            return f'{begin}{digest}(yes "$d" || true) | head -c {BIG_BYTES} > {output}; {whole}'
        case "files":
            numbers = " ".join(map(str, range(1, FILES + 1)))
            loop = f'for n in {numbers}; do echo "$d $n" > {output}/$n; done'
            return f"{begin}{digest}mkdir -p {output}; {loop}"
        case "flood":
            return f"{begin}seq {FLOOD_LINES}; {digest}{put}"
        case "daemon":
            return f"{begin}setsid -f sleep 600 > /dev/null 2>&1 < /dev/null; {digest}{put}"
        case "stubborn":
            return f"trap '' TERM; {begin}{digest}sleep 2; {put}"
        case "broken":
            return f"{begin}exit 3"
        case _:
            return f"{begin}{digest}sleep 0.05; {put}"


def _content(kind: Kind, digest: str) -> dict[str, bytes]:
    line = f"{digest}\n".encode()
    match kind:
        case "big":
            return {"o": (line * (BIG_BYTES // len(line) + 1))[:BIG_BYTES]}
        case "files":
            return {str(n): f"{digest} {n}\n".encode() for n in range(1, FILES + 1)}
        case _:
            return {"o": line}


def _read(files: Mapping[str, bytes]) -> bytes:
    """Return what a consumer reads of an output: the file, or the seventh of a folder."""
    return files["o"] if "o" in files else files["7"]
