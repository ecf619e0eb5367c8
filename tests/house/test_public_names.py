"""The public SDK: exactly these names, each at its home, and none of them costs anything to import."""

import subprocess
import sys

import penstock

PUBLIC = {
    "Client",
    "CommandStep",
    "Experiment",
    "File",
    "Folder",
    "OutputFileDatasetConfig",
    "Pipeline",
    "PipelineParameter",
    "PythonScriptStep",
    "Run",
    "current_run",
    "pipeline",
    "step",
}
HEAVY = ("nats", "minio", "rich", "click", "yaml", "asyncio", "msgspec", "structlog", "pathspec")


def loaded_by(code: str) -> set[str]:
    """Return the modules that are loaded after `code` in a fresh interpreter."""
    program = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_public_names_are_these() -> None:
    assert set(penstock.__all__) == PUBLIC
    assert set(dir(penstock)) == PUBLIC


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in PUBLIC - {"File", "Folder"}:  # two annotations
        thing = getattr(penstock, name)
        assert thing.__name__ == name
        assert thing.__doc__


def test_importing_penstock_loads_nothing_heavy() -> None:
    assert not loaded_by("import penstock") & set(HEAVY)


def test_writing_a_pipeline_loads_no_network_library_before_it_is_submitted() -> None:
    assert "nats" not in loaded_by("from penstock import current_run")


def test_help_loads_nothing_that_only_a_command_needs() -> None:
    loaded = loaded_by("import penstock.cli.main as m; m.penstock.get_help")
    assert not loaded & {"nats", "minio", "rich", "yaml", "asyncio", "msgspec", "structlog"}


def test_every_command_of_the_table_is_there() -> None:
    from penstock.cli.main import COMMANDS, Lazy
    from penstock.cli.main import penstock as group

    assert isinstance(group, Lazy)
    import click

    with click.Context(group) as context:
        for name in COMMANDS:
            command = group.get_command(context, name)
            assert command is not None
            assert command.get_short_help_str()
