"""The hooks of a step's interpreter: listings in name order, stand-ins found last, nothing else noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock_executor.preparing import IN_STEP

LISTINGS = """
import glob, os, pathlib
print(os.listdir('d'), [e.name for e in os.scandir('d')], os.listdir(b'd'))
with os.scandir('d') as entries:
    print(next(entries).name)
print([p.name for p in pathlib.Path('d').iterdir()], [p.name for p in pathlib.Path('d').glob('*')])
print(glob.glob('d/*'), [names for _, _, names in os.walk('d')])
"""
NAMES = ["a", "b", "m", "z"]


def ran(code: str, folder: Path, *options: str, **variables: str) -> str:
    """Return what an interpreter of a step prints; without what is installed here."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{IN_STEP.folder}/site",
        "PENSTOCK_PACKAGE": IN_STEP.package,
        **variables,
    }
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        cwd=folder, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_directories_are_listed_in_name_order(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in reversed(NAMES):
        (tmp_path / "d" / name).touch()
    bytes_ = [os.fsencode(name) for name in NAMES]
    assert ran(LISTINGS, tmp_path) == (
        f"{NAMES} {NAMES} {bytes_}\na\n{NAMES} {NAMES}\n{[f'd/{n}' for n in NAMES]} [{NAMES}]\n"
    )


def test_the_hook_leaves_no_trace_on_the_path(tmp_path: Path) -> None:
    code = "import sys; print([p for p in sys.path if 'in_step' in p], 'hooks' in sys.modules)"
    assert ran(code, tmp_path) == "[] False\n"


def test_another_sitecustomize_is_run_as_ever(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('own', __name__)\n")
    path = f"{IN_STEP.folder}/site:{tmp_path / 'own'}"
    assert ran("print('step')", tmp_path, PYTHONPATH=path) == "own sitecustomize\nstep\n"


@pytest.mark.parametrize("options", [["-S"], ["-I"], ["-E"]])
def test_an_interpreter_that_wants_no_hooks_has_none(tmp_path: Path, options: list[str]) -> None:
    code = "import sys; print([f for f in sys.meta_path if type(f).__name__ == 'Last'])"
    assert ran(code, tmp_path, *options) == "[]\n"


def test_penstock_is_found_where_it_is_not_installed(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p"
        " and not p.endswith(('shared', 'services'))]\n"
        "import penstock; run = penstock.current_run(); print(run.id, run.offline)\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('msgspec', 'nats', 'yaml')])"
    )
    assert ran(code, tmp_path) == "offline True\n[]\n"


def test_what_is_really_there_comes_before_a_stand_in(tmp_path: Path) -> None:
    (tmp_path / "mltable.py").write_text("real = True\n")
    assert ran("import mltable; print(mltable.real)", tmp_path) == "True\n"
    (tmp_path / "azureml" / "mlflow").mkdir(parents=True)
    (tmp_path / "azureml" / "mlflow" / "__init__.py").write_text("real = True\n")
    code = "import azureml.mlflow, azureml.core; print(azureml.mlflow.real, azureml.core.Run)"
    assert ran(code, tmp_path).startswith("True <class 'azureml.core")
