"""The rooms of the house: one list of services, kept in four places, and the rules on imports."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = sorted(
    p.name for p in (ROOT / "services").iterdir() if p.is_dir() and any(p.glob("*.py"))
)
SERVICES = [folder.removeprefix("penstock_") for folder in FOLDERS]
CONTRACTS = {c["name"]: c for c in PROJECT["tool"]["importlinter"]["contracts"]}


def test_every_service_folder_has_its_entry_point() -> None:
    points = PROJECT["project"]["entry-points"]["penstock.services"]
    assert points == {name: f"penstock_{name}.main:main" for name in SERVICES}


def test_every_service_has_an_extra_of_its_own() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(SERVICES) <= set(extras)


def test_the_extra_called_all_holds_what_every_service_needs() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    needed = {requirement for name in SERVICES for requirement in extras[name]}
    assert set(extras["all"]) == needed


def test_the_import_rules_name_every_service() -> None:
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == {"penstock", *FOLDERS}
    layers = CONTRACTS["services stand on shared and never on each other"]["layers"]
    assert layers == [" | ".join(FOLDERS), "penstock"]
    inside = CONTRACTS["inside a service: main, shell, decide, state"]["containers"]
    assert sorted(inside) == FOLDERS


def test_the_import_rules_are_kept() -> None:
    answer = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_service_says_what_it_is_for(folder: str) -> None:
    docstring = importlib.import_module(folder).__doc__ or ""
    for word in ("Consumes", "Emits", "Remembers"):
        assert word.lower() in docstring.lower(), f"{folder}: {word}?"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_service_has_the_files_that_all_services_have(folder: str) -> None:
    for name in ("main.py", "settings.py"):
        assert (ROOT / "services" / folder / name).is_file()
    assert (ROOT / "services" / folder / "shell.py").is_file() or (
        ROOT / "services" / folder / "shell"
    ).is_dir()


def test_every_command_of_the_table_is_there() -> None:
    from penstock.cli.main import COMMANDS

    for name, (module, line) in COMMANDS.items():
        command = importlib.import_module(module).command
        assert command.callback is not None, name
        assert line.endswith("."), f"{name}: a sentence ends with a point"


def test_importing_penstock_loads_no_network_library() -> None:
    code = (
        "import sys, penstock; "
        "print(sorted({'nats', 'asyncio', 'minio', 'msgspec', 'rich'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_the_help_of_the_command_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['penstock', '--help']\n"
        "from penstock.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'nats', 'asyncio', 'minio', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stderr.strip() == "[]"
