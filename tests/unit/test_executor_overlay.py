"""When a step gets a virtual environment of its own: when its command line calls pip."""

import pytest

from penstock_executor.overlay import calls_pip


@pytest.mark.parametrize(
    "command",
    [
        "pip install x",
        "pip3 install x && python a.py",
        "python -m pip install -r requirements.txt; python a.py",
        "cd a && pip install x -q",
        "uv pip install x",
        "(pip install x)",
    ],
)
def test_a_command_that_calls_pip_is_known(command: str) -> None:
    assert calls_pip(command)


@pytest.mark.parametrize(
    "command",
    [
        "python train.py",
        "python pip.py",
        "./pip-sync",
        "python a.py --pip=1",
        "pipeline run",
        "a/pip/b",
    ],
)
def test_a_command_that_does_not_is_left_alone(command: str) -> None:
    assert not calls_pip(command)
