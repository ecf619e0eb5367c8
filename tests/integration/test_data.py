"""Data that comes from elsewhere and goes elsewhere: through all services, on folders and on MinIO, and while we kill."""

import os
import secrets
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from minio import Minio

from penstock import Client
from penstock.azureml.core.datastore import Datastore as AzureDatastore
from penstock.azureml.core.datastore import listed
from penstock.contracts.data import DATASTORES
from penstock.contracts.queries import RunView, StepView
from penstock.contracts.spec import PipelineSpec
from penstock.sdk.definition import Definition
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.testing.stores import MinioServer
from penstock_executor.placing import WRITING
from penstock_executor.web import READ_S

pytestmark = pytest.mark.server

OTHERS = ("artifact", "planner", "scheduler", "trigger")
BLOB = "azureml://datastores/workspaceblobstore/paths/"
BIG = 3 * 1024 * 1024
WAIT_S = 120


# -- a web server that can misbehave ----------------------------------------------------------------
@dataclass
class Web:
    """Files under a URL. `troubles` is used up first, a status or a number of bytes per request."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    troubles: list[int] = field(default_factory=list)
    hanging: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    etags: bool = False
    sent: int = 0


@pytest.fixture
def web() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            trouble = found.troubles.pop(0) if found.troubles else 0
            if path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", f"/{path.removeprefix('/moved/')}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if 400 <= trouble < 600:
                self.send_error(trouble)
                return
            data = found.files.get(path)
            if data is None:
                self.send_error(404)
                return
            if found.hanging:
                found.reached.set()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                found.gate.wait(WAIT_S)
                return
            etag = f'"{zlib.crc32(data)}"'
            if found.etags and self.headers.get("If-None-Match") == etag:
                self.send_response(304)
                self.end_headers()
                return
            found.sent += 1
            self.send_response(200)
            if found.etags:
                self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(data[:trouble] if trouble else data)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Web(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


# -- a stack ----------------------------------------------------------------------------------------
@dataclass
class Stack:
    """All services, and what their datastores hold, whatever they lie on."""

    fleet: Fleet
    client: Client
    folder: Path | None = None
    s3: Minio | None = None
    bucket: str = ""

    def run(self, steps: dict[str, Any], state: str = "succeeded", **spec: Any) -> RunView:
        """Run a pipeline to its end."""
        body = {"name": "data", "steps": steps, **spec}
        run = self.client.submit(Definition(msgspec.convert(body, PipelineSpec)))
        run.wait_for_completion(timeout_seconds=WAIT_S, raise_on_error=False, show_output=False)
        view = self.client.view(run.id)
        logs = [line.text for line in self.client.lines(run.id)]
        assert view.state == state, ([step.error for step in view.steps], logs)
        return view

    def put(self, path: str, data: bytes, store: str = "workspaceblobstore") -> None:
        """Put a file onto a datastore, as somebody outside would."""
        if self.folder is not None:
            file = self.folder / store / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            return
        assert self.s3 is not None
        from io import BytesIO

        self.s3.put_object(self.bucket, f"stores/{store}/{path}", BytesIO(data), len(data))

    def files(self, path: str = "", store: str = "workspaceblobstore") -> dict[str, bytes]:
        """Return what lies below a path of a datastore, what waits to be put in place included."""
        if self.folder is not None:
            root = self.folder / store
            return {
                file.relative_to(root).as_posix(): file.read_bytes()
                for file in sorted((root / path).rglob("*"))
                if file.is_file()
            }
        assert self.s3 is not None
        prefix = f"stores/{store}/"
        found = {}
        for each in self.s3.list_objects(self.bucket, prefix + path, recursive=True):
            with self.s3.get_object(self.bucket, each.object_name or "") as answer:
                found[(each.object_name or "").removeprefix(prefix)] = answer.read()
        return found

    def output(self, view: RunView, step: str, output: str, into: Path) -> dict[str, bytes]:
        """Return the files of an output."""
        self.client.run(view.run).find_step_run(step)[0].download_output(output, into)
        return {file.name: file.read_bytes() for file in sorted(into.rglob("*")) if file.is_file()}


def by_name(view: RunView) -> dict[str, StepView]:
    return {step.step: step for step in view.steps}


@pytest.fixture
def fleet(nats: NatsServer, tmp_path: Path, workspace: str) -> Iterator[Fleet]:
    store = f"file:{tmp_path / 'store'}"
    with Fleet(tmp_path / "fleet", bus=nats.url, store=store, workspace=workspace) as fleet:
        for service in OTHERS:
            fleet.start(service)
        yield fleet


@pytest.fixture
def local(fleet: Fleet, tmp_path: Path) -> Iterator[Stack]:
    folder = tmp_path / "stores"
    fleet.start("executor", slots="4", datastores=str(folder))
    with Client(bus=fleet.bus, workspace=fleet.workspace) as client:
        yield Stack(fleet, client, folder=folder)


@pytest.fixture
def afar(fleet: Fleet, minio_server: MinioServer, tmp_path: Path) -> Iterator[Stack]:
    bucket = f"t{secrets.token_hex(6)}"
    endpoint = f"127.0.0.1:{minio_server.port}"
    s3 = Minio(endpoint, minio_server.key, minio_server.secret, secure=False)
    s3.make_bucket(bucket)
    options = tmp_path / "datastores.toml"
    options.touch(0o600)
    options.write_text(
        "".join(
            f'[{name}]\nkey = "{minio_server.key}"\nsecret = "{minio_server.secret}"\n'
            f'endpoint_url = "http://{endpoint}"\n'
            for name in ("workspaceblobstore", "examples")
        )
    )
    fleet.start(
        "executor", slots="4", datastores=f"s3://{bucket}/stores", datastores_file=str(options)
    )
    with Client(bus=fleet.bus, workspace=fleet.workspace) as client:
        yield Stack(fleet, client, s3=s3, bucket=bucket)


@pytest.fixture(params=["local", "afar"])
def stack(request: pytest.FixtureRequest) -> Stack:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Stack)
    return found


def copying(path: str, kind: str = "uri_folder", **fields: Any) -> dict[str, Any]:
    command = "cp -r ${{inputs.x}} ${{outputs.y}}/; basename ${{inputs.x}} > ${{outputs.y}}/name"
    return {
        "command": command,
        "inputs": {"x": {"type": kind, "path": path}},
        "outputs": {"y": {}},
        **fields,
    }


# -- from the web -----------------------------------------------------------------------------------
def test_a_file_on_the_web_reaches_the_step_and_equal_bytes_run_nothing_again(
    local: Stack, web: Web, tmp_path: Path
) -> None:
    web.files["/d/titanic+data.csv"] = data = os.urandom(BIG)
    steps = {"a": copying(f"{web.url}/moved/d/titanic%2Bdata.csv", "uri_file")}
    view = local.run(steps)
    found = local.output(view, "a", "y", tmp_path / "first")
    assert found == {"titanic+data.csv": data, "name": b"titanic+data.csv\n"}
    again = by_name(local.run(steps))
    assert again["import--a--x"].state == "succeeded"
    assert again["a"].state == "reused"
    web.files["/d/titanic+data.csv"] = b"changed"
    third = local.run(steps)
    assert by_name(third)["a"].state == "succeeded"
    assert local.output(third, "a", "y", tmp_path / "third")["titanic+data.csv"] == b"changed"


def test_what_looks_as_it_did_is_not_fetched_again(stack: Stack, web: Web) -> None:
    stack.put("x", b"1")
    web.files["/x"] = b"1"
    web.etags = True
    steps = {
        "a": copying(f"{web.url}/x", "uri_file"),
        "b": copying(BLOB + "x", "uri_file"),
    }

    def said() -> list[int]:
        view = stack.run(steps)
        return [
            sum(
                "unchanged" in line.text for line in stack.client.lines(view.run, f"import--{n}--x")
            )
            for n in steps
        ]

    far = int(stack.s3 is not None)
    assert said() == [0, 0]
    assert said() == [1, far]
    web.files["/x"] = b"2"
    stack.put("x", b"2")
    assert said() == [0, 0]
    assert web.sent == 2


def test_a_server_that_cuts_off_or_is_busy_is_asked_again(
    local: Stack, web: Web, tmp_path: Path
) -> None:
    web.files["/x.bin"] = data = os.urandom(BIG)
    web.troubles[:] = [BIG // 2, 503]
    view = local.run({"a": copying(f"{web.url}/x.bin", "uri_file")})
    assert by_name(view)["import--a--x"].attempts == 3
    assert local.output(view, "a", "y", tmp_path / "out")["x.bin"] == data


def test_a_run_that_waits_for_a_server_that_hangs_can_be_cancelled(
    local: Stack, web: Web, tmp_path: Path
) -> None:
    web.files["/x"] = b"never"
    web.hanging = True
    body = {"name": "hangs", "steps": {"a": copying(f"{web.url}/x")}}
    run = local.client.submit(Definition(msgspec.convert(body, PipelineSpec)))
    assert web.reached.wait(WAIT_S)
    run.cancel()
    # The server never answers, so whoever waited for it would wait for its whole time limit.
    view = local.client.wait(run.id, READ_S - 10)
    assert view.state == "cancelled"
    assert by_name(view)["a"].state in ("skipped", "cancelled")


def test_a_file_that_is_not_there_fails_at_once_and_says_so(local: Stack, web: Web) -> None:
    view = local.run({"a": copying(f"{web.url}/nothing.csv")}, "failed")
    steps = by_name(view)
    error = steps["import--a--x"].error
    assert error is not None
    assert (error.code, error.where) == ("E_DATA_MISSING", f"{web.url}/nothing.csv")
    assert steps["import--a--x"].attempts == 1
    assert steps["a"].state == "skipped"


# -- datastores -------------------------------------------------------------------------------------
def test_what_a_step_writes_to_a_datastore_is_read_by_a_step_of_the_same_run(
    stack: Stack, tmp_path: Path
) -> None:
    stack.put("models/old.txt", b"stays")
    make = {
        "command": "mkdir ${{outputs.y}}/deep; echo new > ${{outputs.y}}/new.txt;"
        f" head -c {BIG} /dev/zero > ${{{{outputs.y}}}}/deep/big",
        "outputs": {"y": {"path": BLOB + "models"}},
    }
    read = {
        "command": "cp -r ${{inputs.x}}/. ${{outputs.y}}/",
        "inputs": {"x": {"path": BLOB + "models/"}},
        "outputs": {"y": {}},
    }
    steps = {"make": make, "read": read}
    view = stack.run(steps)
    expected = {"old.txt": b"stays", "new.txt": b"new\n", "deep/big": bytes(BIG)}
    assert stack.files("models") == {f"models/{name}": data for name, data in expected.items()}
    found = stack.output(view, "read", "y", tmp_path / "out")
    assert found == {Path(name).name: data for name, data in expected.items()}
    # A reused step's output is written again, since the place may have changed.
    stack.put("models/new.txt", b"somebody else's")
    again = by_name(stack.run(steps))
    assert again["make"].state == "reused"
    assert again["copy--make--y"].state == "succeeded"
    assert again["read"].state == "reused"
    assert stack.files("models/new.txt" if stack.s3 else "models")["models/new.txt"] == b"new\n"


def test_a_file_output_lies_at_exactly_its_path_and_keeps_its_name(stack: Stack) -> None:
    make = {
        "command": "echo 1 > ${{outputs.y}}; basename ${{outputs.y}}",
        "outputs": {"y": {"type": "uri_file", "path": BLOB + "run/${{name}}/model.bin"}},
    }
    view = stack.run({"make": make})
    assert list(stack.files("run").items()) == [(f"run/{view.run}.make/model.bin", b"1\n")]
    assert [line.text for line in stack.client.lines(view.run, "make")] == ["model.bin"]


def test_a_pattern_brings_in_what_it_matches(stack: Stack, tmp_path: Path) -> None:
    for name in ("a/1.csv", "a/2.csv", "a/3.txt", "a/b/4.csv"):
        stack.put(name, name.encode())
    command = "find ${{inputs.x}} -type f -printf '%P\\n' | sort"
    said = {}
    for pattern in ("a/*.csv", "a/**/*.csv", "a/?.txt", "**/b/*"):
        step = {"command": command, "inputs": {"x": {"path": BLOB + pattern}}}
        view = stack.run({"list": step})
        said[pattern] = [line.text for line in stack.client.lines(view.run, "list")]
    assert said == {
        "a/*.csv": ["1.csv", "2.csv"],
        "a/**/*.csv": ["1.csv", "2.csv", "b/4.csv"],
        "a/?.txt": ["3.txt"],
        "**/b/*": ["a/b/4.csv"],
    }
    view = stack.run({"none": copying(BLOB + "a/*.parquet")}, "failed")
    error = by_name(view)["import--none--x"].error
    assert error is not None
    assert error.code == "E_DATA_MISSING"


def test_nothing_outside_of_a_datastore_is_read_or_written(local: Stack, tmp_path: Path) -> None:
    assert local.folder is not None
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("not yours")
    root = local.folder / "workspaceblobstore"
    root.mkdir(parents=True)
    (root / "out").symlink_to(secret)
    (root / "inside").mkdir()
    (root / "inside" / "link").symlink_to(secret / "key")
    codes = {}
    for path in ("out", "out/key", "inside", "inside/*", "inside/link"):
        view = local.run({"a": copying(BLOB + path)}, "failed")
        error = by_name(view)["import--a--x"].error
        codes[path] = error.code if error else ""
    assert codes == {
        "out": "E_PATH",
        "out/key": "E_PATH",
        "inside": "E_DATA_TYPE",
        "inside/*": "E_DATA_TYPE",
        "inside/link": "E_PATH",
    }
    make = {"command": "echo > ${{outputs.y}}/key", "outputs": {"y": {"path": BLOB + "out"}}}
    view = local.run({"make": make}, "failed")
    error = by_name(view)["copy--make--y"].error
    assert error is not None
    assert error.code == "E_PATH"
    assert (secret / "key").read_text() == "not yours"


def test_a_datastore_whose_credentials_nobody_holds_fails_at_once(
    afar: Stack, tmp_path: Path
) -> None:
    penstock(afar, tmp_path, "datastore", "create", "other", "--url", f"s3://{afar.bucket}/x")
    view = afar.run({"a": copying("azureml://datastores/other/paths/x")}, "failed")
    failed = by_name(view)["import--a--x"]
    assert failed.attempts == 1
    assert failed.error is not None
    assert failed.error.code == "E_DATA_PERMISSION"


def test_credentials_of_a_datastore_reach_no_step_no_message_and_no_log(afar: Stack) -> None:
    afar.put("x", b"1")
    secret = afar.fleet.members["executor-1"].flags["datastores-file"]
    password = Path(secret).read_text().split('secret = "')[1].partition('"')[0]
    view = afar.run({"a": copying(BLOB + "x"), "env": {"command": "env; cat /proc/self/environ"}})
    told = [line.text for line in afar.client.lines(view.run)]
    assert password not in "".join(told) + msgspec.json.encode(view).decode()
    assert all(password not in afar.fleet.tail(name, 10**6) for name in afar.fleet.members)


# -- names ------------------------------------------------------------------------------------------
def test_an_output_with_a_name_can_be_used_by_that_name_also_when_its_step_is_reused(
    local: Stack, tmp_path: Path
) -> None:
    make = {
        "command": "echo 1 > ${{outputs.y}}/x",
        "outputs": {"y": {"name": "prepared", "path": BLOB + "prepared"}},
    }
    view = local.run({"make": make})
    said = [line.text for line in local.client.lines(view.run, "copy--make--y")]
    assert said[-1] == "[penstock: registered as azureml:prepared:1, a data asset]"
    local.run({"make": make})  # the same content is the same version
    use = {"command": "cat ${{inputs.x}}/x", "inputs": {"x": {"path": "azureml:prepared@latest"}}}
    view = local.run({"use": use})
    assert [line.text for line in local.client.lines(view.run, "use")] == ["1"]
    more = {**make, "command": "echo 2 > ${{outputs.y}}/x"}
    view = local.run({"make": more})
    said = [line.text for line in local.client.lines(view.run, "copy--make--y")]
    assert said[-1] == "[penstock: registered as azureml:prepared:2, a data asset]"
    taken = {**more, "outputs": {"y": {"name": "prepared", "version": "1"}}}
    view = local.run({"make": taken}, "failed")
    failed = by_name(view)["copy--make--y"]
    assert failed.attempts == 1
    assert failed.error is not None
    assert failed.error.code == "E_EXISTS"


# -- values, artifacts, modes -----------------------------------------------------------------------
def test_a_value_that_one_step_writes_is_a_literal_of_the_next(local: Stack) -> None:
    make: dict[str, Any] = {
        "command": "echo 7 > ${{outputs.n}}; printf True > ${{outputs.b}};"
        " printf 'two words' > ${{outputs.s}}",
        "outputs": {
            "n": {"type": "integer"}, "b": {"type": "boolean"}, "s": {"type": "string"},
        },
    }  # fmt: skip
    use = {
        "command": 'echo "$((${{inputs.n}} + 1)) ${{inputs.b}} ${{inputs.s}} $AZUREML_PARAMETER_n"',
        "inputs": {
            "n": {"type": "integer", "value": "${{parent.jobs.make.outputs.n}}"},
            "b": "${{parent.jobs.make.outputs.b}}",
            "s": "${{parent.jobs.make.outputs.s}}",
        },
    }
    view = local.run({"make": make, "use": use})
    assert [line.text for line in local.client.lines(view.run, "use")] == ["8 True two words 7"]
    # Another step that comes to the same values makes nothing run again.
    again = local.run({"make": {**make, "command": make["command"] + "; true"}, "use": use})
    assert {step.step: step.state for step in again.steps} == {"make": "succeeded", "use": "reused"}


def test_a_value_that_does_not_read_as_its_type_fails_the_step_that_wrote_it(local: Stack) -> None:
    make = {"command": "echo seven > ${{outputs.n}}", "outputs": {"n": {"type": "integer"}}}
    error = by_name(local.run({"make": make}, "failed"))["make"].error
    assert error is not None
    assert (error.code, error.message) == (
        "E_OUTPUT_TYPE",
        "output 'n' is no integer: b'seven\\n'",
    )


def test_the_output_called_artifacts_holds_what_the_step_left_and_wrote(local: Stack) -> None:
    make = {
        "command": "echo 1 > outputs/model; mkdir logs/x; echo 2 > logs/x/y; ln -s /etc outputs/l;"
        " echo said; echo cried >&2",
        "outputs": {"artifacts": {}},
    }
    read = {
        "command": "cd ${{inputs.a}}; find . -type f | sort; cat user_logs/std_log.txt",
        "inputs": {"a": "${{parent.jobs.make.outputs.artifacts}}"},
    }
    view = local.run({"make": make, "read": read})
    assert [line.text for line in local.client.lines(view.run, "read")] == [
        "./logs/x/y", "./outputs/model", "./user_logs/std_log.txt", "said", "cried",
    ]  # fmt: skip


def test_a_folder_in_direct_mode_is_not_made_before_the_step_makes_it(local: Stack) -> None:
    make = {
        "command": "test ! -e ${{outputs.y}} && mkdir ${{outputs.y}} && echo 1 > ${{outputs.y}}/z",
        "outputs": {"y": {"mode": "direct", "path": BLOB + "spark"}},
    }
    local.run({"make": make})
    assert local.files() == {"spark/z": b"1\n"}


# -- the command line -------------------------------------------------------------------------------
def penstock(stack: Stack, folder: Path, *words: str, code: int = 0) -> str:
    environ = {**os.environ, "PENSTOCK_BUS": stack.fleet.bus}
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", *words],
        cwd=folder,
        env=environ | {"PENSTOCK_WORKSPACE": stack.fleet.workspace},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == code, done
    return done.stdout if code == 0 else done.stderr


def test_files_go_onto_a_datastore_and_off_it_by_way_of_an_executor(
    stack: Stack, tmp_path: Path
) -> None:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "a.csv").write_text("1")
    (tmp_path / "src" / "deep" / "b.txt").write_text("2")
    upload = ("datastore", "upload", "workspaceblobstore")
    said = penstock(stack, tmp_path, *upload, "src", "data")
    assert said == "azureml://datastores/workspaceblobstore/paths/data\n"
    said = penstock(stack, tmp_path, *upload, "src/a.csv", "data/more/")
    assert said == "azureml://datastores/workspaceblobstore/paths/data/more/a.csv\n"
    penstock(stack, tmp_path, *upload, "src/a.csv", "named.csv")
    assert stack.files() == {
        "data/a.csv": b"1",
        "data/deep/b.txt": b"2",
        "data/more/a.csv": b"1",
        "named.csv": b"1",
    }
    download = ("datastore", "download", "workspaceblobstore")
    penstock(stack, tmp_path, *download, "data/**/*.csv", "got")
    got = {str(p.relative_to(tmp_path / "got")) for p in (tmp_path / "got").rglob("*.csv")}
    assert got == {"a.csv", "more/a.csv"}
    penstock(stack, tmp_path, *download, "named.csv", "one")
    assert (tmp_path / "one" / "named.csv").read_text() == "1"
    said = penstock(stack, tmp_path, *download, "nothing", code=3)
    assert said.startswith(
        "penstock: E_DATA_MISSING azureml://datastores/workspaceblobstore/paths/nothing"
    )


def test_a_registered_datastore_is_read_by_its_name_and_by_its_addresses_in_azure(
    stack: Stack, tmp_path: Path
) -> None:
    (tmp_path / "blob.yml").write_text(
        "$schema: https://azuremlschemas.azureedge.net/latest/azureBlob.schema.json\n"
        "name: examples\ntype: azure_blob\ndescription: public data\n"
        "account_name: azuremlexamples\ncontainer_name: datasets\n"
        "credentials: {account_key: XXXX}\n"
    )
    if stack.folder is not None:
        place = ("--folder", str(stack.folder / "examples"))
    else:
        place = ("--url", f"s3://{stack.bucket}/stores/examples")
    said = penstock(stack, tmp_path, "datastore", "create", "--file", "blob.yml", *place)
    assert said.splitlines()[1] == "  also https://azuremlexamples.blob.core.windows.net/datasets/"
    stack.put("titanic/t.csv", b"1", "examples")
    paths = (
        "https://azuremlexamples.blob.core.windows.net/datasets/titanic/t.csv",
        "wasbs://datasets@azuremlexamples.blob.core.windows.net/titanic/t.csv",
        "azureml://datastores/examples/paths/titanic/t.csv",
    )
    for path in paths:
        view = stack.run({"a": copying(path)})
        assert by_name(view)["import--a--x"].outputs["data"].files == 1
    listed = penstock(stack, tmp_path, "datastore", "list", "-o", "name").split()
    assert listed == ["examples", *sorted(DATASTORES)]
    assert "XXXX" not in penstock(stack, tmp_path, "datastore", "show", "examples", "-o", "json")
    penstock(stack, tmp_path, "datastore", "delete", "examples")
    refused = penstock(stack, tmp_path, "datastore", "show", "examples", code=3)
    assert refused.startswith("penstock: E_NOT_FOUND request.name: no datastore 'examples'")


def test_a_script_for_sdk_v1_registers_a_container_once_and_uses_it(
    local: Stack, tmp_path: Path
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "t.csv").write_text("1")

    def register(container: str) -> AzureDatastore:
        return AzureDatastore.register_azure_blob_container(
            local.client, "blob", container, account_name="account"
        )

    store = register("data")
    store.upload(tmp_path / "src", "titanic")
    view = local.run({"a": copying("wasbs://data@account.blob.core.windows.net/titanic")})
    assert by_name(view)["import--a--x"].outputs["data"].files == 1
    assert register("other").name == "blob"  # what it is, somebody may have changed: it stays
    assert local.files(store="blob") == {"titanic/t.csv": b"1"}
    assert "blob" in listed(local.client)
    store.unregister()
    assert "blob" not in listed(local.client)
    assert local.files(store="blob") == {"titanic/t.csv": b"1"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--url", "nowhere"), "E_PATH request.datastore.url: 'nowhere' is no URL"),
        (("--url", "s3://key:secret@bucket/x"), "E_PATH request.datastore.url: a URL with a secret"),
        (("--url", "s3://b/x", "--alias", "https://a/?sig=1"), "E_PATH request.datastore.aliases: a URL with a secret"),
        (("--url", "s3://b/x", *(["--alias", "s3://q"] * 21)), "E_LIMIT request.datastore.aliases: 21"),
    ],
)  # fmt: skip
def test_a_datastore_that_cannot_be_is_refused_in_these_words(
    local: Stack, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    found = penstock(local, tmp_path, "datastore", "create", "lake", *words, code=2)
    assert found.startswith(f"penstock: {said}")
    assert "secret@" not in found


def test_a_parameter_of_a_yaml_file_may_name_a_place(
    local: Stack, web: Web, tmp_path: Path
) -> None:
    web.files["/rows.csv"] = b"from the web\n"
    local.put("rows.csv", b"from a datastore\n")
    (tmp_path / "rows.csv").write_text("from here\n")
    (tmp_path / "pipeline.yml").write_text(
        "type: pipeline\nname: places\n"
        f"inputs: {{rows: {{type: uri_file, path: {web.url}/rows.csv}}}}\n"
        "outputs: {out: {type: uri_file, path: 'azureml://datastores/workspaceblobstore/paths/o/${{name}}.txt'}}\n"
        "jobs:\n"
        "  a:\n"
        "    command: cat ${{inputs.rows}} > ${{outputs.out}}; echo 1 > outputs/model\n"
        '    inputs: {rows: "${{parent.inputs.rows}}"}\n'
        '    outputs: {out: "${{parent.outputs.out}}"}\n'
    )
    submit = ("submit", "pipeline.yml", "--watch")
    said = {
        words: penstock(local, tmp_path, *submit, *words).split()[1]
        for words in (
            (),
            ("-p", f"rows={BLOB}rows.csv"),
            ("-p", "rows=rows.csv"),
            ("-p", f"rows=file://{tmp_path}/rows.csv"),
        )
    }
    written = local.files("o")
    texts = [written[f"o/{run}.txt"].decode() for run in said.values()]
    assert texts == ["from the web\n", "from a datastore\n", "from here\n", "from here\n"]
    run = said[()]
    penstock(local, tmp_path, "run", "download", run, "all", "--artifacts")
    assert (tmp_path / "all" / "a" / "outputs" / "model").read_text() == "1\n"


# -- kills ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "point", ["executor.after-bring", "executor.mid-write:2", "executor.after-write"]
)
def test_an_executor_killed_in_the_middle_of_a_transfer_loses_and_halves_nothing(
    local: Stack, web: Web, point: str, tmp_path: Path
) -> None:
    web.files["/x"] = data = os.urandom(BIG)
    local.put("there/old", b"stays")
    make = {
        "command": "for n in 1 2 3 4; do cp ${{inputs.x}} ${{outputs.y}}/$n; done",
        "inputs": {"x": {"type": "uri_file", "path": f"{web.url}/x"}},
        "outputs": {"y": {"path": BLOB + "there"}},
    }
    local.fleet.kill("executor-1")
    local.fleet.restart("executor-1", environ={"PENSTOCK_CRASH_AT": point})
    dying = local.fleet.members["executor-1"].process
    seen: list[dict[str, bytes]] = []

    def revive() -> None:
        dying.wait(WAIT_S)
        seen.append(local.files("there"))
        local.fleet.restart("executor-1")

    thread = threading.Thread(target=revive)
    thread.start()
    view = local.run({"make": make})
    thread.join()
    assert dying.returncode == -9
    for found in seen:  # each file is whole or not there
        assert set(found.values()) <= {data, b"stays"}
        assert found["there/old"] == b"stays"
    expected = {f"there/{n}": data for n in "1234"} | {"there/old": b"stays"}
    assert local.files("") == expected
    assert local.folder is not None
    assert not (local.folder / "workspaceblobstore" / WRITING).exists()
    assert all(step.state == "succeeded" for step in view.steps)
