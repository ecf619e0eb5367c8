"""`--help` answers before anything heavy is imported: it reads a table, it does not connect."""

import subprocess
import sys

HEAVY = {"asyncio", "msgspec", "nats", "rich", "ssl", "subprocess", "yaml", "importlib.metadata"}
PROGRAM = """
import sys
import click
from penstock.cli.main import COMMANDS, penstock

def helped(command, words):
    with click.Context(command, info_name=words[-1]) as context:
        assert command.get_help(context)
        for name in getattr(command, "commands", ()):
            helped(command.commands[name], [*words, name])

for name in COMMANDS:
    helped(penstock.get_command(None, name), ["penstock", name])
    print(name, *sys.modules)
"""


def test_the_help_of_no_command_imports_what_is_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    loaded: set[str] = set()
    for line in done.stdout.splitlines():
        name, *modules = line.split()
        heavy = HEAVY & (set(modules) - loaded)
        assert not heavy, f"penstock {name} --help imports {', '.join(sorted(heavy))}"
        loaded |= set(modules)
    assert "penstock.cli.schedule" in loaded
