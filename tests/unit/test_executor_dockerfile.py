"""What of a Dockerfile a virtual environment can stand for."""

from penstock.contracts.spec import BuildContext, EnvironmentSpec
from penstock_executor.decide.dockerfile import without_build

BUILD = EnvironmentSpec(name="own", build=BuildContext(context="artifact:x"), variables={"A": "b"})
FILES = {
    "requirements.txt": "pandas==2.2.3\n# a comment\njoblib\n",
    "conda.yml": "dependencies: [python=3.9, numpy]\n",
}


def packages(text: str) -> tuple[tuple[str, ...], str, str, int]:
    found, left_out = without_build(BUILD, text, FILES)
    assert (found.build, found.name, found.variables) == (None, "own", {"A": "b"})
    return found.pip, found.python, found.image, left_out


def test_pip_lines_and_requirement_files_are_taken() -> None:
    text = """
# syntax=docker/dockerfile:1
FROM --platform=linux/amd64 python:3.8-slim AS base
WORKDIR /app
COPY requirements.txt /app/
RUN pip install --no-cache-dir -U pip setuptools && \\
    pip3 install -r /app/requirements.txt 'scikit-learn<1.6' \\
      --find-links ./wheels
RUN python -m pip install -c other.txt rich -f ./more
"""
    assert packages(text) == (
        (
            "pandas==2.2.3",
            "# a comment",
            "joblib",
            "scikit-learn<1.6",
            "--find-links ./wheels",
            "rich",
            "-f ./more",
        ),
        "3.8",
        "python:3.8-slim",
        0,
    )


def test_a_conda_file_is_taken() -> None:
    text = "FROM mcr/x:1\nCOPY conda.yml .\nRUN conda env update -n base -f conda.yml && conda clean -a -y\n"
    found, left_out = without_build(BUILD, text, FILES)
    assert found.conda == {"dependencies": ["python=3.9", "numpy"]}
    assert left_out == 0


def test_what_is_not_done_is_counted() -> None:
    text = "FROM x\nRUN apt-get update && apt-get install -y git\nRUN pip install .\nRUN make 'x\nVOLUME /a\n"
    assert packages(text) == ((), "", "x", 5)
