"""Real object stores on loopback, for tests: MinIO and SeaweedFS, each with identities set.

SeaweedFS without identities is open to everybody, reports to its vendor, binds every interface and
opens Iceberg and Lance ports that make a second instance die: all of that is turned off here, and its
filer, which knows no identities, asks for a signed token.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import ClassVar
from urllib.request import urlopen

from minio import Minio
from minio.error import MinioException
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from penstock.testing.servers import ServerFailed, binary, free_port

START_WAIT_S = 60.0
STOP_WAIT_S = 30.0
MINIO_BINARY = "minio"
WEED_BINARY = "weed"


def minio_binary() -> Path | None:
    """Return MinIO's program: beside this interpreter, on PATH, or where `go install` puts it."""
    found = binary(MINIO_BINARY)
    if found is None:
        folder = os.environ.get("GOBIN") or Path(
            os.environ.get("GOPATH") or Path.home() / "go", "bin"
        )
        path = Path(folder, MINIO_BINARY)
        found = path if os.access(path, os.X_OK) else None
    return found


class _StoreServer:
    """A server with one key, in a directory of its own."""

    name: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = "penstock"
        self.secret = secrets.token_hex(16)
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, bucket: str) -> str:
        """Return the URL of a bucket, with credentials."""
        return f"s3+http://{self.key}:{self.secret}@127.0.0.1:{self.port}/{bucket}"

    def start(self) -> None:
        """Start the server, on the same port and data as before when there is one.

        Raises:
            ServerFailed: it ended, or did not answer in time.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        command, environment = self._command()
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
                cwd=self.directory,
            )
        deadline = time.monotonic() + START_WAIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerFailed(f"{self.name} ended at once: {self._tail()}")
            if self._answers():
                return
            time.sleep(0.05)
        self.kill()
        raise ServerFailed(f"{self.name} did not answer within {START_WAIT_S:g} s: {self._tail()}")

    def kill(self) -> int:
        """End the server with SIGKILL; SeaweedFS takes 12 to 16 s for a SIGTERM."""
        process, self.process = self.process, None
        assert process is not None, "the server is not running"  # noqa: S101
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        return process.wait(STOP_WAIT_S)

    def pause(self) -> None:
        """Make the server keep its sockets and answer nothing."""
        assert self.process is not None  # noqa: S101
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        assert self.process is not None  # noqa: S101
        self.process.send_signal(signal.SIGCONT)

    def _command(self) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    def _answers(self) -> bool:
        """Say whether the server answers its own key; a health check may be satisfied too early."""
        store = Minio(
            f"127.0.0.1:{self.port}",
            access_key=self.key,
            secret_key=self.secret,
            secure=False,
            region="us-east-1",
            http_client=PoolManager(timeout=2, retries=False),
        )
        try:
            store.list_buckets()
        except (MinioException, HTTPError, OSError):
            return False
        return True

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            log = self.directory / "server.log"
            return log.read_text(encoding="utf-8", errors="replace")[-800:]
        return ""


class MinioServer(_StoreServer):
    """A MinIO server."""

    name = MINIO_BINARY

    def __init__(self, directory: Path, *, synced: bool = False) -> None:
        """Make a server; a `synced` one has fsynced what it acknowledges, which MinIO else does not."""
        super().__init__(directory)
        self.synced = synced

    def _command(self) -> tuple[list[str], dict[str, str]]:
        program = minio_binary()
        if program is None:
            raise ServerFailed(f"no {MINIO_BINARY} beside this Python, on PATH or in ~/go/bin")
        data = self.directory / "data"
        address = ["--address", f"127.0.0.1:{self.port}"]
        console = ["--console-address", f"127.0.0.1:{free_port()}"]
        return [str(program), "server", *address, *console, str(data)], {
            "MINIO_ROOT_USER": self.key,
            "MINIO_ROOT_PASSWORD": self.secret,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
            "MINIO_FS_OSYNC": "on" if self.synced else "off",
            "GOMEMLIMIT": "400MiB",
        }


class WeedServer(_StoreServer):
    """A SeaweedFS server with its S3 door; the other doors are on loopback and locked."""

    name = WEED_BINARY

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.signing_key = secrets.token_hex(16)
        self.ports: dict[str, int] = {}

    def _command(self) -> tuple[list[str], dict[str, str]]:
        program = binary(WEED_BINARY)
        if program is None:
            raise ServerFailed(f"no {WEED_BINARY} beside this Python or on PATH")
        identities = {
            "identities": [
                {
                    "name": "penstock",
                    "credentials": [{"accessKey": self.key, "secretKey": self.secret}],
                    "actions": ["Admin", "Read", "Write", "List"],
                }
            ]
        }
        (self.directory / "s3.json").write_text(json.dumps(identities), encoding="utf-8")
        (self.directory / "data").mkdir(exist_ok=True)
        for door in ("master", "volume", "filer", "s3", "admin"):
            self.ports.setdefault(door, self.port if door == "s3" else free_port())
            self.ports.setdefault(f"{door}.grpc", free_port())
        doors = [
            f"-{door.partition('.')[0]}.port{'.grpc' if door.endswith('.grpc') else ''}={port}"
            for door, port in self.ports.items()
        ]
        return [
            str(program),
            "-logtostderr=true",
            "mini",
            "-dir=data",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *doors,
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=256",
            "-volume.max=64",
            "-volume.index=leveldb",
            "-s3.config=s3.json",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.cacheCapacityMB=32",
            f"-s3.localSocket={self.directory / 's3.sock'}",
            f"-filer.localSocket={self.directory / 'filer.sock'}",
            "-webdav=false",
            "-admin.ui=false",
        ], {
            "GOMEMLIMIT": "400MiB",
            "WEED_JWT_FILER_SIGNING_KEY": self.signing_key,
            "WEED_JWT_FILER_SIGNING_READ_KEY": self.signing_key,
        }

    def _answers(self) -> bool:
        """Say whether the S3 door answers and a volume has joined, so that a write can succeed."""
        if not super()._answers():
            return False
        status = f"http://127.0.0.1:{self.ports['master']}/dir/assign"
        try:
            with urlopen(status, timeout=2) as response:
                return b'"fid"' in response.read()
        except OSError:
            return False
