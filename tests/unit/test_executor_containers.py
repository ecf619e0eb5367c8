"""Containers as values: what a step's may have, and what it may not ask for."""

import pytest

from penstock.contracts.resources import Resources
from penstock.contracts.spec import EnvironmentSpec
from penstock.errors import Invalid
from penstock.units import GIB, MIB
from penstock_executor.decide.containers import (
    Mount,
    Options,
    Rules,
    box_of,
    is_nowhere,
    options_of,
    spec_of,
)
from penstock_executor.decide.packages import packages_of

RULES = Rules("10001:10001", memory_bytes=8 * GIB, cores=4)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("--shm-size 2g", Options(shm_bytes=2 * GIB)),
        (["--shm-size=2g", "--init"], Options(shm_bytes=2 * GIB)),
        ("-m 512m --cpus 1.5 --network none", Options(memory_bytes=512 * MIB, cores=1.5, offline=True)),
        ("--ulimit nofile=1024:2048 --ipc private", Options(ulimits=(("nofile", 1024, 2048),))),
        ("", Options()),
    ],
)  # fmt: skip
def test_options_on_the_list_are_understood(given: str | list[str], options: Options) -> None:
    assert options_of(given, "a") == options


@pytest.mark.parametrize(
    "given",
    [
        "--privileged",
        "--cap-add SYS_ADMIN",
        "-v /:/host",
        "--network host",
        "--ipc=host",
        "--pid=host",
        "--security-opt seccomp=unconfined",
        "--device /dev/sda",
        "--user 0",
        "--ulimit nofile=lots",
        "--read-only=false",
        "--shm-size",
        "--shm-size 'unclosed",
        "image --init",
    ],
)
def test_any_other_option_is_refused(given: str) -> None:
    with pytest.raises(Invalid) as refused:
        options_of(given, "train.resources.docker_args")
    assert refused.value.code == "E_RESOURCES"
    assert refused.value.where == "train.resources.docker_args"


def test_a_container_is_hardened_whatever_a_step_asks_for() -> None:
    asked = Resources(cores=2, memory="1g", shm_size="256m", docker_args="--pids-limit 100000")
    box = box_of(
        asked, RULES, image="sha256:1", owner="run", gpus=("0",), mounts=[Mount("/a", "/b")]
    )
    spec = spec_of(box, ["sh"], {"l": "1"}, {"A": "b"})
    host = spec["HostConfig"]
    assert (spec["User"], spec["NetworkDisabled"], host["NetworkMode"]) == (
        "10001:10001",
        True,
        "none",
    )
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"], host["Init"]) == (
        True,
        ["ALL"],
        ["no-new-privileges"],
        True,
    )
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (GIB, GIB, 2_000_000_000)
    assert host["PidsLimit"] == 256
    assert host["ShmSize"] == 256 * MIB
    assert [m["ReadOnly"] for m in host["Mounts"]] == [True]
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["0"]
    assert "Privileged" not in host


def test_no_step_gets_more_than_its_target_offers() -> None:
    box = box_of(Resources(cores=64, memory="1t"), RULES, image="i", owner="")
    assert (box.memory_bytes, box.nano_cores) == (8 * GIB, 4_000_000_000)
    assert box_of(Resources(), RULES, image="i", owner="").memory_bytes == 8 * GIB


def test_a_conda_file_becomes_requirements() -> None:
    conda = {
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11", "pip", "numpy=1.26", "conda-forge::scipy>=1.2",
                         "pandas=2.1.*", {"pip": ["joblib==1.4"]}],
    }  # fmt: skip
    spec = EnvironmentSpec(image="i", conda=conda, pip=("joblib==1.4", "rich"))
    assert packages_of(spec, "a") == (
        "numpy==1.26.*",
        "scipy>=1.2",
        "pandas==2.1.*",
        "joblib==1.4",
        "rich",
    )
    with pytest.raises(Invalid, match="names no package"):
        packages_of(EnvironmentSpec(conda={"dependencies": ["???"]}), "a")


@pytest.mark.parametrize(
    ("said", "nowhere"),
    [
        ('Get "http://localhost:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused', True),
        ('Get "https://typo/v2/": dial tcp: lookup typo on 10.0.0.1:53: no such host', True),
        ("received unexpected HTTP status: 503 Service Unavailable", False),
        ('Get "https://r/v2/": net/http: TLS handshake timeout', False),
        ("the Docker engine does not answer: [Errno 111] Connection refused", False),
    ],
)
def test_a_registry_that_is_nowhere_is_told_from_one_in_trouble(said: str, nowhere: bool) -> None:
    assert is_nowhere(said) == nowhere
