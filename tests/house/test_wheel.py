"""The wheel that is made from the sdist holds what it should, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the sdist as CI and package indexes do."""
    work = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build"]
    subprocess.run([*build, "-t", "sdist", "-d", work], cwd=ROOT, check=True, capture_output=True)
    (sdist,) = work.glob("*.tar.gz")
    # Not tarfile: Debian 12 has Python 3.11.2, which does not know the filters that 3.12 asks for.
    subprocess.run(["tar", "-xzf", sdist, "-C", work], check=True, capture_output=True)
    source = work / sdist.name.removesuffix(".tar.gz")
    subprocess.run([*build, "-t", "wheel", "-d", work], cwd=source, check=True, capture_output=True)
    (built,) = work.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_our_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info" not in name}
    services = {p.name for p in (ROOT / "services").iterdir() if any(p.glob("*.py"))}
    assert tops == {"penstock"} | services


def test_the_wheel_holds_every_module_of_the_tree(wheel: zipfile.ZipFile) -> None:
    wanted = {
        str(file.relative_to(ROOT / room))
        for room in ("shared", "services")
        for file in (ROOT / room).rglob("*.py")
        if "__pycache__" not in file.parts
    }
    assert wanted <= set(wheel.namelist())


def test_the_wheel_holds_the_demo_and_says_that_it_is_typed(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    demo = ROOT / "shared" / "penstock" / "demo" / "digits"
    files = [f for f in demo.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    assert {str(f.relative_to(ROOT / "shared")) for f in files} <= names
    assert "penstock/py.typed" in names


def test_the_wheel_knows_its_services_and_its_command(wheel: zipfile.ZipFile) -> None:
    (points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(points).decode()
    assert "penstock = penstock.cli.main:main" in text
    for service in ("planner", "scheduler", "executor", "artifact", "trigger"):
        assert f"{service} = penstock_{service}.main:main" in text
