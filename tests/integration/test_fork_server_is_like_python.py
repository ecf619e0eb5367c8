"""A forked step is like `python script.py`: many scripts, run both ways, end the same way.

Compared are the wait status and every byte on stdout and stderr.
"""

import asyncio
import re
import shutil
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.forked.both_ways import BothWays, Ended, ended
from tests.integration.forked.scripts import COMMANDS, FILES, SCRIPTS, file_name, text_of

from penstock_executor.process import shell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shell().endswith("bash"), reason="no bash"),
]

EVERY = [f"python {file_name(name)}" for name in SCRIPTS] + COMMANDS
ADDRESS = re.compile(rb"0x[0-9a-f]{6,}")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that every pair of runs gets a copy of."""
    root = tmp_path_factory.mktemp("scripts")
    for name in SCRIPTS:
        (root / file_name(name)).write_text(text_of(name), encoding="utf-8")
    for path, text in FILES.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    (root / "hash.py").write_text("print(hash('a'), {'a', 'b', 'c'})\n", encoding="utf-8")
    (root / "ä.py").write_text("print(__file__)\n1/0\n", encoding="utf-8")
    (root / "sub").mkdir()
    (root / "sub" / "hello.py").write_text("import sys; print(__file__, sys.path[0])\n1/0\n")
    (root / "app").mkdir()
    (root / "app" / "__main__.py").write_text(
        "import sys; print(__file__, sys.argv, sys.path[0])\n"
    )
    with zipfile.ZipFile(root / "app.zip", "w") as archive:
        archive.writestr("__main__.py", "import sys; print(sys.argv, __spec__)\n1/0\n")
    (root / "empty.pyc").write_bytes(b"")
    (root / "link.py").symlink_to("sub/hello.py")
    return root


def without_addresses(found: Ended) -> Ended:
    """Return the same with addresses of objects replaced."""
    return Ended(found.status, ADDRESS.sub(b"0x", found.stdout), ADDRESS.sub(b"0x", found.stderr))


@pytest.fixture(params=["namespace", "subreaper"])
async def ways(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BothWays]:
    ways = BothWays(tmp_path)
    problem = await ways.open(namespace=request.param == "namespace")
    if problem:
        ways.close()
        pytest.skip(f"no PID namespaces on this machine: {problem}")
    yield ways
    ways.close()


async def test_every_command_ends_as_it_does_plainly(
    ways: BothWays, both: Path, tmp_path: Path
) -> None:
    """One test for all, since the servers are kept: a step must not notice those before it either."""
    room = asyncio.Semaphore(3)

    async def difference(number: int, text: str) -> str:
        found = []
        folder = tmp_path / f"work{number:03}"
        for forked in (False, True):
            async with room:
                copy_of(both, text, folder)
                command = ways.command(text, folder)
                if command.program is None:
                    return f"{text}: not forkable"
                running = await (ways.forked(command) if forked else ways.plain(command))
                left = without_addresses(await ended(running))
                found.append((left, files_in(folder)))
                shutil.rmtree(folder, ignore_errors=True)
        return "" if found[0] == found[1] else f"{text}\n  plain  {found[0]}\n  forked {found[1]}"

    found = await asyncio.gather(*(difference(n, text) for n, text in enumerate(EVERY)))
    different = [text for text in found if text]
    assert not different, "\n\n".join(different)


def copy_of(both: Path, text: str, folder: Path) -> None:
    """Copy what a command needs: what lies beside all scripts, and those that it names."""
    wanted = {
        *text.split(),
        *(f"{word}.py" for word in text.split()),
        "hello.py",
        "helper.py",
        "broken.py",
    }
    folder.mkdir()
    for entry in both.iterdir():
        if entry.is_dir():
            shutil.copytree(entry, folder / entry.name)
        elif entry.name in wanted:
            shutil.copy2(entry, folder / entry.name, follow_symlinks=False)


def files_in(folder: Path) -> list[tuple[str, int]]:
    """Return what a command left, with sizes."""
    return sorted(
        (str(path.relative_to(folder)), path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != "stats"
    )


async def test_many_at_a_time_do_not_meet(ways: BothWays, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import sys, os, json, time\njson.mark = getattr(json, 'mark', []) + [sys.argv[1]]\n"
        "time.sleep(0.01)\nprint(json.mark, sys.argv, os.environ['N'])\n"
    )
    running = []
    for number in range(40):
        command = ways.command(f"N={number} python s.py {number}", tmp_path)
        running.append(await ways.forked(command))
    found = await asyncio.gather(*(ended(one) for one in running))
    assert found == [Ended(0, f"['{n}'] ['s.py', '{n}'] {n}\n".encode(), b"") for n in range(40)]
