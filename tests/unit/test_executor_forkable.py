"""Which commands may be forked, and that their words are those of the shell."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock_executor.decide.forkable import (
    Program,
    program_of,
    seen_by_python,
    start_variables,
    words_of,
)

BASH = shutil.which("bash")


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("python a.py", Program("python", (), "script", "a.py", ())),
        ("  python3 -u a.py x 'y z' \"q\" \n", Program("python3", ("-u",), "script", "a.py", ("x", "y z", "q"))),
        ("python -m pkg.mod --n 3", Program("python", (), "module", "pkg.mod", ("--n", "3"))),
        ("A=1 B='x y' python a.py", Program("python", (), "script", "a.py", (), {"A": "1", "B": "x y"})),
        ("python a.py \\\n  --x 1", Program("python", (), "script", "a.py", ("--x", "1"))),
        ("python -W error -OO a.py", Program("python", ("-W", "error", "-OO"), "script", "a.py", ())),
        ("python a.py '$HOME' \\*", Program("python", (), "script", "a.py", ("$HOME", "*"))),
    ],
)  # fmt: skip
def test_a_script_or_a_module_is_forkable(text: str, program: Program) -> None:
    assert program_of(text) == program
    assert program.typed[0] == program.name


@pytest.mark.parametrize(
    "text",
    [
        "", "A=1", "python", "python -c pass", "python -i a.py", "python -I a.py", "python -S a.py",
        "python -E a.py", "python -x a.py", "python -X dev a.py", "python -", "python -m", "python -m -x",
        "python --version", "python3.11 a.py", "/usr/bin/python a.py", "./a.py", "bash a.sh",
        "python a.py > out", "python a.py < in", "python a.py | cat", "python a.py && true", "python a.py;",
        "python a.py &", "python a.py\ntrue", "(python a.py)", "! python a.py", "python a.py $HOME",
        'python a.py "$HOME"', "python a.py `date`", 'python a.py "`date`"', "python *.py", "python a?.py",
        "python a.py [x]", "python {a,b}.py", "python ~/a.py", "python a.py # comment", "python a.py 'x",
        'python a.py "x', "python a.py \\", "python a.py $'x'", "PATH=/x python a.py", "IFS=x python a.py",
        "PYTHONPATH=x python a.py", "UID=3 python a.py", "time python a.py", "exec python a.py",
        "python a.py \x01", "A+=1 python a.py", "A[0]=1 python a.py", "python ''",
    ],
)  # fmt: skip
def test_anything_else_is_not(text: str) -> None:
    assert program_of(text) is None


PIECES = st.lists(
    st.one_of(
        st.sampled_from([" ", "  ", "\t", "'", '"', "\\", "\\\n", "\n", "=", "A=", "x", "é", "$", "`", "#", "~"]),
        st.text("abcXYZ019_@%+=:,./-", max_size=4),
        st.text(max_size=3),
    ),
    max_size=12,
).map("".join)  # fmt: skip


@pytest.mark.skipif(BASH is None, reason="no bash")
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(PIECES)
def test_words_are_those_that_bash_makes(tail: str) -> None:
    """`printf` is a builtin: one bash, nothing else."""
    words = words_of(f"printf '%s\\0' . {tail}")
    if words is None:
        return
    try:
        text = f"printf '%s\\0' . {tail}".encode()
    except UnicodeEncodeError:
        return
    done = subprocess.run(
        [BASH or "", "-c", text], capture_output=True, env={"LANG": "C.UTF-8"}, check=True
    )
    assert done.stderr == b""
    assert [word for word, _ in words][2:] == done.stdout.decode().split("\0")[:-1]


@pytest.mark.skipif(BASH is None, reason="no bash")
@pytest.mark.parametrize(
    "variables",
    [
        {"A": "1"},
        {"A": "", "AZURE_ML_INPUT_a-b": "x", "1x": "y", "a.b": "z"},
        {"SHLVL": "4", "_": "gone"},
        {"SHLVL": "x"},
        {"SHLVL": "0"},
        {"SHLVL": "1"},
        {"SHLVL": "-3"},
        {"SHLVL": "999"},
        {"SHLVL": "1000"},
        {"EPOCHS": "5", "OPTUNA": "x", "COLUMNS": "80", "TERM": "xterm", "PS": "x"},
    ],
)
def test_variables_are_those_that_bash_passes_on(variables: dict[str, str], tmp_path: Path) -> None:
    python = str(Path(sys.executable).with_name("python"))
    given = {
        **variables,
        "PATH": str(Path(python).parent),
        "PWD": str(tmp_path),
        "LC_CTYPE": "C.UTF-8",
    }
    text = "python -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(
        [BASH or "", "-c", text], capture_output=True, env=given, cwd=tmp_path, check=True
    )
    assert json.loads(done.stdout) == seen_by_python(given, python)


def test_what_an_interpreter_starts_with_is_told_from_what_a_step_is_given() -> None:
    variables = {
        "A": "1",
        "OMP_NUM_THREADS": "2",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": "x",
        "LANG": "C",
    }
    assert start_variables(variables) == {
        "OMP_NUM_THREADS": "2",
        "PYTHONHASHSEED": "0",
        "LANG": "C",
    }
    for name in ("PYTHONHOME", "PYTHONDEVMODE", "BASH_ENV", "BASH_FUNC_python%%", "ENV", "RANDOM"):
        assert start_variables({name: "x"}) is None
    assert start_variables({"PENSTOCK_FORK_SERVER": "off"}) is None
    assert start_variables({"PENSTOCK_FORK_SERVER": "on"}) == {}
