"""The files for operators agree with the code: services, variables, limits, versions."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from penstock.runtime import nats_server
from penstock.runtime.launch import services
from penstock.testing.servers import NATS_BINARY, binary

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
UNITS = {"MB": 1000**2, "GB": 1000**3}


def test_compose_runs_every_service_of_penstock() -> None:
    commands = [
        service["command"][1]
        for service in COMPOSE["services"].values()
        if service.get("command", [""])[0] == "serve"
    ]
    assert sorted(commands) == sorted(services())


def test_compose_gives_the_key_of_the_store_to_the_artifact_service_only() -> None:
    for name, service in COMPOSE["services"].items():
        told = yaml.safe_dump(service.get("environment", {}))
        if service.get("command", [""])[0] == "serve":
            assert ("PENSTOCK_STORE" in told) == (name == "artifact"), name


def test_compose_holds_no_password_and_opens_no_port_to_others() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    for line in (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines():
        if "PASSWORD" in line:
            assert line.endswith("="), line
    for variable in re.findall(r"\$\{(\w*PASSWORD)([^}]*)\}", text):
        assert variable[1].startswith(":?"), f"{variable[0]} must be asked for"
    for service in COMPOSE["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("${BIND:-127.0.0.1}:"), port


def test_every_container_of_ours_is_confined() -> None:
    for service in COMPOSE["services"].values():
        if service.get("command", [""])[0] == "serve":
            assert service["cap_drop"] == ["ALL"]
            assert service["read_only"]
            assert service["init"]


@pytest.mark.server
def test_nats_accepts_its_configuration(tmp_path: Path) -> None:
    program = binary(NATS_BINARY)
    if program is None:
        pytest.skip(f"{NATS_BINARY} is neither beside this Python nor on PATH")
    text = (DEPLOY / "nats.conf").read_text(encoding="utf-8")
    file = tmp_path / "nats.conf"
    file.write_text(text.replace('"/data"', f'"{tmp_path}"'), encoding="utf-8")
    answer = subprocess.run(
        [program, "--config", file, "-t"],
        env={"NATS_PASSWORD": "a", "NATS_CLIENT_PASSWORD": "b"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_nats_fsyncs_and_has_room_for_every_stream() -> None:
    text = (DEPLOY / "nats.conf").read_text(encoding="utf-8")
    assert "sync_interval: always" in text
    number, unit = re.search(r"max_file_store: (\d+)(\w+)", text).groups()  # type: ignore[union-attr]
    assert int(number) * UNITS[unit] >= nats_server.store_bytes(1, 0)


def test_the_images_requirements_are_those_that_are_tested() -> None:
    tested = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    pins = re.findall(
        r"^([a-z0-9-]+==\S+)", (DEPLOY / "requirements.txt").read_text(), re.MULTILINE
    )
    assert len(pins) > 10
    assert [
        pin for pin in pins if not re.search(rf"^{re.escape(pin)}\s", tested, re.MULTILINE)
    ] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["all"]]
    wanted = {re.split(r"[\[<>=~! ]", name)[0].lower() for name in named}
    assert wanted <= {pin.partition("==")[0] for pin in pins}
