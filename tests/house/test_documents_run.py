"""Code blocks of the documents run, in the folder that `penstock demo` makes, against one stack.

A block marked `python` is a program in a file; of one marked `console` every line that begins with "$ " is a
command of the shell. A comment `<!-- not run: why -->` on the line before a block excuses it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.testing.servers import NATS_BINARY, binary

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "shared" / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<excuse><!-- not run: .+? -->\n)?^```(?P<kind>python|console)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
WAIT_S = 180


def blocks() -> list[object]:
    """Return (kind, body) of every block that runs, named by its document and line."""
    found: list[object] = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("kind")) + 1
            marks = [pytest.mark.skip(reason=match["excuse"].strip())] if match["excuse"] else []
            name = f"{document.name}:{line}"
            found.append(pytest.param(match["kind"], match["body"], id=name, marks=marks))
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The demo's folder after one run, and the environment of a user who works in it."""
    if binary(NATS_BINARY) is None:
        pytest.skip(f"{NATS_BINARY} is neither beside this Python nor on PATH")
    folder = tmp_path_factory.mktemp("documents") / "digits"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    penstock = [sys.executable, "-m", "penstock.cli.main"]
    ran = subprocess.run(
        [*penstock, "demo", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    try:
        # As the documents say it; and `env` prints what a program started by that shell would see.
        told = subprocess.run(
            ["bash", "-euc", 'eval "$(penstock config env)"; env -0'],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        lines = told.stdout.rstrip("\0").split("\0")
        yield folder, dict(line.split("=", 1) for line in lines)
    finally:
        subprocess.run([*penstock, "down"], cwd=folder, capture_output=True, check=False)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "body"), blocks())
def test_a_block_of_the_documents_runs(
    demo: tuple[Path, dict[str, str]], kind: str, body: str
) -> None:
    folder, environment = demo
    commands = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
    if kind == "console":
        assert commands, "a console block without a line that begins with '$ '"
        words = ["bash", "-euo", "pipefail", "-c", "\n".join(commands)]
    else:
        program = (
            folder / "handwriting.py"
        )  # a file, as its reader has it: steps call what is in it
        program.write_text(body, encoding="utf-8")
        words = [sys.executable, str(program)]
    ran = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ran.returncode == 0, f"{body}\n--- said\n{ran.stdout}\n{ran.stderr}"


def test_the_demos_program_is_the_one_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    program = (ROOT / "shared/penstock/demo/digits/run_digits.py").read_text(encoding="utf-8")
    body = program.partition('"""\n\n')[2]
    assert body.strip() in text
