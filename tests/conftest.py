"""Fixtures that every floor may use. Real servers come from penstock.testing.servers."""

import os
import secrets
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from penstock.bus.nats import NatsBus, connect
from penstock.contracts.subjects import Subjects
from penstock.testing import images
from penstock.testing.servers import NATS_BINARY, NatsServer, binary
from penstock.testing.stores import MinioServer, WeedServer, minio_binary


def needs_binary(name: str) -> None:
    """Skip the test by name where a program is missing; in CI a missing program is a failure."""
    if binary(name) is None:
        reason = f"{name} is neither beside this Python nor on PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server for the whole session. Tests that kill one start their own."""
    needs_binary(NATS_BINARY)
    server = NatsServer(
        tmp_path_factory.mktemp("nats"),
        max_file_bytes=1 << 40,  # reserved, not used: every test's streams count with their limits
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def workspace() -> str:
    """A workspace that no other test has used."""
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def names(workspace: str) -> Subjects:
    """The subjects of the test's workspace."""
    return Subjects(workspace)


@pytest.fixture
async def bus(nats: NatsServer, workspace: str) -> AsyncIterator[NatsBus]:
    """A connection to the session's server."""
    connection = await connect(nats.url, name=workspace)
    yield connection
    await connection.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one where it needs a server: there, servers are provided."""
    report = yield
    needs = item.get_closest_marker("server") or item.get_closest_marker("docker")
    if report.skipped and needs and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """A MinIO server for the whole session. Tests that kill one start their own."""
    needs_store(minio_binary(), "minio")
    server = MinioServer(tmp_path_factory.mktemp("minio"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def weed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedServer]:
    """A SeaweedFS server for the whole session. Tests that kill one start their own."""
    needs_store(binary("weed"), "weed")
    server = WeedServer(tmp_path_factory.mktemp("weed"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def image() -> str:
    """An image for steps, on an engine that is there."""
    problem = images.missing()
    if problem:
        pytest.skip(problem)
    return images.IMAGE


@pytest.fixture
def minio_url(minio_server: MinioServer) -> str:
    """The URL of a bucket on MinIO that no other test has used."""
    return minio_server.url(f"t{secrets.token_hex(6)}")


@pytest.fixture
def weed_url(weed_server: WeedServer) -> str:
    """The URL of a bucket on SeaweedFS that no other test has used."""
    return weed_server.url(f"t{secrets.token_hex(6)}")


def needs_store(program: Path | None, name: str) -> None:
    """Skip the test by name where a store's program is missing; in CI that is a failure."""
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
