"""The tables of environments, read: those that come with penstock (tables.yaml), and a file laid over them."""

from importlib import resources
from pathlib import Path

import msgspec

from penstock.environments.lookups import Tables, laid_over
from penstock.errors import Invalid

FILE = "tables.yaml"
FILE_BYTES_MAX = 1024 * 1024


def tables_of(text: bytes, where: str) -> Tables:
    """Return the tables of a file.

    Raises:
        Invalid: E_CONFIG, it is none.
    """
    try:
        return msgspec.yaml.decode(text, type=Tables)
    except msgspec.MsgspecError as error:
        raise Invalid(
            f"no tables of environments: {error}",
            code="E_CONFIG",
            where=where,
            hint="allowed: curated, images, replaced, conda_names, conda_native; see docs/environments.md",
        ) from error


def shipped() -> Tables:
    """Return the tables that come with penstock."""
    text = resources.files(__package__).joinpath(FILE).read_bytes()
    return tables_of(text, FILE)


def tables(own_file: str = "") -> Tables:
    """Return the shipped tables, with those of a file laid over them if there is one.

    Raises:
        Invalid: E_CONFIG, the file cannot be read, or holds none.
    """
    if not own_file:
        return shipped()
    where = f"environment_tables={own_file}"
    try:
        with Path(own_file).open("rb") as file:
            text = file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise Invalid(error.strerror or str(error), code="E_CONFIG", where=where) from error
    return laid_over(tables_of(text, own_file), shipped())
