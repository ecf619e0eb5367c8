"""Scripts as they are written for SDK v1, their import lines changed, run on real services."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

from penstock.testing.fleet import SERVICES, Fleet
from penstock.testing.servers import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCRIPTS = Path(__file__).parent / "azureml_v1"
WORKSPACE = "azure"
WAIT_S = 120


@pytest.fixture(scope="module")
def services(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    store = f"file:{directory / 'store'}"
    with Fleet(directory, bus=nats.url, store=store, workspace=WORKSPACE) as fleet:
        for service in SERVICES:
            fleet.start(service)
        yield fleet


def ran(services: Fleet, folder: Path, *words: str) -> str:
    """Run a Python program in a folder as a user of the workspace; return what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    environment |= {"PENSTOCK_BUS": services.bus, "PENSTOCK_WORKSPACE": WORKSPACE}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def write_images(folder: Path) -> None:
    """Write scikit-learn's digits as rows of numbers, the label last, in two files."""
    digits = load_digits()
    rows = [
        ",".join(str(value) for value in [*image, label])
        for image, label in zip(digits.data[:400], digits.target[:400], strict=True)
    ]
    folder.mkdir()
    (folder / "images-0.txt").write_text("\n".join(rows[:200]) + "\n")
    (folder / "images-1.txt").write_text("\n".join(rows[200:]) + "\n")


def test_the_tutorial_with_two_steps_on_images_runs(services: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(SCRIPTS / "images", folder)
    write_images(folder / "raw")
    said = ran(services, folder, "pipeline.py")
    assert "'accuracy'" in said


def test_the_tutorial_that_compares_publishes_and_schedules_runs(
    services: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / "compare"
    shutil.copytree(SCRIPTS / "compare", folder)
    said = ran(services, folder, "pipeline.py")
    assert said.splitlines()[-1] == "runs 4"


def test_data_on_datastores_goes_in_and_out(services: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(SCRIPTS / "data", folder)
    for name, text in (
        ("rows/a.txt", "1\n2\n"), ("rows/b.txt", "3\n"), ("other/c.txt", "40\n"),
        ("table.csv", "a;b\n1;3\n2;5\n"), ("more/table.csv", "a;b\n7;2\n"),
    ):  # fmt: skip
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    said = ran(services, folder, "pipeline.py").splitlines()
    assert "total 6" in said
    assert said[-1] == "other 40.0" or said[-1] == "other 40"
