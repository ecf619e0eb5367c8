"""`penstock demo` as a newcomer meets it: it runs, it is reused, it is theirs to change."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.testing.servers import NATS_BINARY, binary

pytestmark = [pytest.mark.server, pytest.mark.slow]

EMPTY = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}


def penstock(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", *words],
        cwd=cwd,
        env=EMPTY,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo's folder after its first run."""
    pytest.importorskip("sklearn")
    if binary(NATS_BINARY) is None:
        pytest.skip(f"{NATS_BINARY} is neither beside this Python nor on PATH")
    home = tmp_path_factory.mktemp("demo")
    first = penstock("demo", cwd=home)
    folder = home / "digits"
    try:
        assert first.returncode == 0, first.stdout + first.stderr
        assert "penstock down" in first.stdout
        yield folder
    finally:
        penstock("down", cwd=folder)


def last_run(folder: Path) -> dict[str, object]:
    name = penstock("run", "list", "-o", "name", cwd=folder).stdout.splitlines()[0]
    shown: dict[str, object] = json.loads(
        penstock("run", "show", name, "-o", "json", cwd=folder).stdout
    )
    return shown


def states(run: dict[str, object]) -> dict[str, str]:
    steps = run["steps"]
    assert isinstance(steps, list)
    return {step["step"]: step["state"] for step in steps}


def test_the_first_run_learns_to_read_digits(digits: Path) -> None:
    run = last_run(digits)
    metrics = run["metrics"]
    assert isinstance(metrics, dict)
    assert run["state"] == "succeeded"
    assert metrics["accuracy"] > 0.9
    assert len(metrics["confusion"]["is"]) == 10
    outputs = run["outputs"]
    assert isinstance(outputs, dict)
    assert set(outputs) == {"model"}


def test_a_second_demo_has_nothing_to_run(digits: Path) -> None:
    again = penstock("demo", str(digits), cwd=digits.parent)
    assert again.returncode == 0, again.stderr
    assert set(states(last_run(digits)).values()) == {"reused"}


def test_a_changed_script_runs_again_and_only_what_its_output_reaches(digits: Path) -> None:
    script = digits / "train" / "train.py"
    script.write_text(script.read_text().replace("learned from", "has learned from"))
    again = penstock("demo", str(digits), cwd=digits.parent)
    assert again.returncode == 0, again.stderr
    # The model is the same, byte for byte, so nobody behind it has to run.
    assert states(last_run(digits)) == {
        "prepare": "reused",
        "train": "succeeded",
        "evaluate": "reused",
        "register": "reused",
    }


def test_one_byte_of_an_input_reaches_exactly_its_consumer(digits: Path) -> None:
    names = digits / "data" / "names.csv"
    names.write_text(names.read_text().replace("zero", "Zero"))
    assert penstock("submit", "pipeline.yml", "--wait", cwd=digits).returncode == 0
    run = last_run(digits)
    assert states(run) == {
        "prepare": "reused",
        "train": "reused",
        "evaluate": "succeeded",
        "register": "reused",
    }
    why = json.loads(penstock("why", str(run["run"]), "evaluate", "-o", "json", cwd=digits).stdout)
    assert [part["part"] for part in why["parts"] if part["changed"]] == ["input:names"]


def test_a_demo_that_fails_says_so_with_its_exit_code(digits: Path) -> None:
    script = digits / "evaluate" / "evaluate.py"
    text = script.read_text()
    script.write_text(text.replace("accuracy = float(", "accuracy = flaot("))
    try:
        failed = penstock("demo", str(digits), cwd=digits.parent)
        assert failed.returncode == 1
        assert "flaot" in failed.stderr
    finally:
        script.write_text(text)
