"""The MLflow tracking server of a local stack: how it is started, and where it keeps things.

    <dir>/mlflow/mlflow.db    runs, metrics, parameters
    <dir>/mlflow/artifacts/   artifacts, handed out by the server itself

It listens on 127.0.0.1 only. Steps learn its address; nobody else needs it, except a browser.
"""

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from penstock.errors import Invalid
from penstock.runtime.nats_server import PORTS, free_port

NAME = "mlflow"
READY = "Application startup complete"
PORT_FIRST = 32_000 - PORTS
PORT_FILE = "port"


def program() -> tuple[str, ...]:
    """Return how to start `mlflow`: of this interpreter, else the one on the PATH.

    Raises:
        Invalid: E_EXTRA, there is none.
    """
    if importlib.util.find_spec("mlflow") is not None:
        return (sys.executable, "-m", "mlflow")
    found = shutil.which("mlflow")
    if found is None:
        raise Invalid(
            "there is no MLflow beside this Python or on the PATH",
            code="E_EXTRA",
            where="up --mlflow",
            hint="pip install 'penstock[mlflow]'",
        )
    return (found,)


def prepared(folder: Path) -> int:
    """Make the folder; return the port, the same as last time if it is free."""
    (folder / "artifacts").mkdir(mode=0o700, parents=True, exist_ok=True)
    known = _known_port(folder)
    port = free_port(int(known) if known.isdigit() else PORT_FIRST)
    (folder / PORT_FILE).write_text(str(port), encoding="utf-8")
    return port


def known_url(folder: Path) -> str:
    """Return the address that the server of a folder was started with."""
    return f"http://127.0.0.1:{_known_port(folder)}"


def _known_port(folder: Path) -> str:
    try:
        return (folder / PORT_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def words(folder: Path, port: int) -> tuple[str, ...]:
    """Return the command line."""
    return (
        *program(),
        *("server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    )


def environment(common: Mapping[str, str]) -> dict[str, str]:
    """Return its variables: none of ours."""
    kept = {n: v for n, v in common.items() if not n.startswith(("PENSTOCK_", "MLFLOW_"))}
    return kept | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONPATH": str(Path(__file__).with_name("lifeline")),
        "PYTHONUNBUFFERED": "1",
    }


def url(port: int) -> str:
    """Return its address."""
    return f"http://127.0.0.1:{port}"
