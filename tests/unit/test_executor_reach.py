"""What a step has left in its folders, touched by an executor with other rights: no link is followed at any level."""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from penstock.clock import SystemClock
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.work import WorkItem
from penstock_executor.archive import copied_artifacts, gathered, scattered
from penstock_executor.decide.layout import Place
from penstock_executor.decide.tracked import Value, started, values_of
from penstock_executor.logs import Stream
from penstock_executor.place import output_problem
from penstock_executor.reach import Reach
from penstock_executor.step_socket import StepSocket
from penstock_executor.storing import archived
from penstock_executor.surroundings import Surroundings
from penstock_executor.tracking import AttemptTracking, Tracking, runs_in
from penstock_executor.workshop import Patience, Workshop

FILE = PlannedOutput(type="uri_file", file="m.bin")
FOLDER = PlannedOutput(type="uri_folder")
DIRECT = PlannedOutput(type="uri_folder", mode="direct")
OF_HOST = "of the host"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder that no step may reach, with all names that an executor looks for in a step's folders."""
    host = tmp_path / "host"
    for name in (
        "secret", "m.bin", "meta.yaml", "stdout.txt", "metrics.jsonl", "metrics/m", "tags/t", "r/meta.yaml",
        "r/metrics/m", "r/tags/t", "0/r/meta.yaml", "0/r/metrics/m", "0/r/tags/t", "outputs/x", "logs/x", "o/m.bin",
        "user_logs/std_log.txt",
    ):  # fmt: skip
        path = host / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"1700000000000 7 0\n{OF_HOST}\n")
    return host


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An attempt's folder as it is when a step begins."""
    place = Place(str(tmp_path / "attempt"))
    for folder in (place.log, place.outputs, f"{place.code}/outputs", f"{place.code}/logs"):
        Path(folder).mkdir(parents=True)
    return place


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what lies below a folder: modes, owners and bytes."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            path.lstat().st_uid,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(root.rglob("*"))
    }


def replaced(path: str | Path, target: Path) -> None:
    """Put a link in the place of whatever is there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() or path.is_symlink():
        path.rename(path.with_name(f"{path.name}.away"))
    path.symlink_to(target)


# -- what is written --------------------------------------------------------------------------------
LINKS: tuple[tuple[str, str], ...] = (
    ("user_logs/std_log.txt", "secret"),
    ("user_logs/std_log.txt", "new"),  # to nothing
    ("user_logs", ""),
    ("user_logs", "new"),
    ("outputs", ""),
    ("outputs", "new"),
    ("outputs/deep", ""),
    ("outputs/deep/model", "secret"),
    ("outputs/deep/model", "new"),
    ("", ""),
    ("", "new"),
)


@pytest.mark.parametrize(("link", "target"), LINKS)
def test_artifacts_are_not_written_through_a_link(
    place: Place, host: Path, link: str, target: str
) -> None:
    Path(place.code, "outputs", "deep").mkdir()
    Path(place.code, "outputs", "deep", "model").write_text("m")
    Path(place.log, "stdout.txt").write_text("said\n")
    into = Path(place.output("artifacts", FOLDER))
    replaced(into / link if link else into, host / target if target else host)
    before = everything(host)
    copied_artifacts(place, into)
    assert everything(host) == before
    if link.startswith("user_logs"):
        assert (into / "outputs" / "deep" / "model").read_text() == "m", "the rest is there"
    if link.startswith("outputs"):
        assert (into / "user_logs" / "std_log.txt").read_text() == "said\n"


@pytest.mark.parametrize("link", ["", "code", "code/outputs", "code/outputs/deep", "log"])
def test_artifacts_are_not_read_through_a_link(place: Place, host: Path, link: str) -> None:
    into = Path(place.output("artifacts", FOLDER))
    into.mkdir()
    replaced(Path(place.root, link) if link else place.root, host)
    before = everything(host)
    copied_artifacts(place, into)
    assert everything(host) == before
    found = everything(into) if link else {}
    assert not any(OF_HOST.encode() in data for _, _, data in found.values()), found


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT | os.O_APPEND])
@pytest.mark.parametrize("target", ["secret", "new", ""])
def test_a_file_that_is_a_link_is_not_opened(
    place: Place, host: Path, flags: int, target: str
) -> None:
    link = Path(place.outputs, "link")
    link.symlink_to(host / target)
    before = everything(host)
    with pytest.raises(OSError, match="symbolic link"):
        Reach(place.root).opened(link, flags)
    assert everything(host) == before


def test_what_a_step_put_into_its_artifacts_itself_stays_and_modes_are_kept(place: Place) -> None:
    into = Path(place.output("artifacts", FOLDER))
    (into / "user_logs").mkdir(parents=True)
    (into / "user_logs" / "std_log.txt").write_text("mine")
    Path(place.log, "stdout.txt").write_text("said\n")
    tool = Path(place.code, "outputs", "tool")
    tool.write_text("t")
    tool.chmod(0o4755)
    os.mkfifo(Path(place.code, "outputs", "pipe"))
    copied_artifacts(place, into)
    assert (into / "user_logs" / "std_log.txt").read_text() == "mine"
    assert (into / "outputs" / "tool").stat().st_mode & 0o7777 == 0o755
    assert not (into / "outputs" / "pipe").exists()


@pytest.mark.parametrize("link", ["log", "log/stdout.txt"])
def test_a_log_is_not_begun_through_a_link(place: Place, host: Path, link: str) -> None:
    replaced(Path(place.root, link), host / "stdout.txt" if "." in link else host)
    before = everything(host)
    path = Path(place.log, "stdout.txt")
    stream = Stream("stdout", path, None, SystemClock(), Reach(place.root))
    stream.take(b"said")
    assert everything(host) == before
    assert stream.problem
    assert stream.last == b"said"


# -- what is archived -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "link", ["code", "code/outputs", "code/logs", "images", "mlflow", "mlflow/0", "images/a/b"]
)
def test_nothing_is_archived_through_a_link_and_what_is_there_is_not_moved(
    place: Place, host: Path, link: str
) -> None:
    replaced(Path(place.root, link), host)
    before = everything(host)
    assert scattered(place)
    left_out = gathered(place)
    assert everything(host) == before
    found = everything(Path(place.log))
    assert not any(OF_HOST.encode() in data for _, _, data in found.values()), found
    assert link == "code" or left_out == [link.removeprefix("code/")]


async def test_a_link_in_place_of_the_log_folder_is_not_archived(place: Place, host: Path) -> None:
    replaced(place.log, host)
    shop = cast("Workshop", None)  # it would be asked to store what lies there
    patience = Patience(SystemClock(), lambda *_: None)
    with pytest.raises(NotADirectoryError):
        await archived(shop, ITEM, place, patience, print)


def test_the_archive_takes_files_only_and_says_what_it_left_out(place: Place) -> None:
    root = Path(place.code, "outputs")
    (root / "sub").mkdir()
    (root / "sub" / "x").write_text("x")
    (root / "link").symlink_to("/etc/passwd")
    (root / "nothing").symlink_to("/nowhere")
    os.mkfifo(root / "sub" / "pipe")
    files, gone = Reach(place.root).only_files(root)
    assert files == 1
    assert sorted(gone) == ["outputs/link", "outputs/nothing", "outputs/sub/pipe"]
    assert list(root.iterdir()) == [root / "sub"]


@pytest.mark.parametrize(("name", "depth"), [("d", 1100), ("d" * 100, 50)])
def test_a_folder_deeper_than_a_stack_or_a_path_ends_nothing(
    place: Place, name: str, depth: int
) -> None:
    outputs = f"{place.code}/outputs"
    handle = os.open(outputs, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=handle)
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)
    Path(outputs, "top").write_text("t")
    try:
        found = list(Reach(place.root).files(outputs))
    finally:
        subprocess.run(["rm", "-r", outputs], check=True)  # pytest's own way recurses
    assert "top" in found
    assert (found[-1].rpartition("/")[2] == "bottom") == (name == "d")


def test_what_mlflow_alone_has_written_is_archived(place: Place) -> None:
    assert not scattered(place)
    note = Path(place.mlflow, "0", "r", "artifacts", "notes.txt")
    note.parent.mkdir(parents=True)
    note.write_text("kept")
    assert scattered(place)
    assert gathered(place) == []
    assert Path(place.log, "mlflow", "0", "r", "artifacts", "notes.txt").read_text() == "kept"


def test_a_line_of_metrics_that_a_full_disk_cut_off_costs_itself_alone(place: Place) -> None:
    row = b'{"time":1.0,"name":"t","kind":"row","value":{"a":1}}\n'
    bad = b'{"time":1.0,"name":"\xff","kind":"row","value":{"a":3}}\n'
    Path(place.log, "metrics.jsonl").write_bytes(row + bad + row[:30] + b'"kind":"row"\n' + row)
    assert gathered(place) == []
    assert Path(place.log, "tables", "t.csv").read_text().split() == ["a", "1", "1"]


# -- outputs ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("link", "output"),
    [("out/o", FILE), ("out", FILE), ("out/o", FOLDER), ("out", FOLDER), ("out/o", DIRECT)],
)
def test_an_output_below_a_link_is_refused(
    place: Place, host: Path, link: str, output: PlannedOutput
) -> None:
    replaced(Path(place.root, link), host)
    assert Path(place.output("o", output)).exists() or output is DIRECT
    if output is DIRECT:
        (host / "o" / "y").mkdir(exist_ok=True)
    problem = output_problem(place, "o", output)
    assert problem is not None
    assert problem[0] == "E_OUTPUT_TYPE"
    assert "link" in problem[1]


# -- what MLflow has written ------------------------------------------------------------------------
def run_in(place: Place, name: str = "r", at: int = 1700000000000) -> Path:
    """Make a run as MLflow writes it, and return its folder."""
    run = Path(place.mlflow, "0", name)
    (run / "metrics").mkdir(parents=True)
    (run / "tags").mkdir()
    (run / "meta.yaml").write_text(f"run_id: {name}\nstart_time: {at}\nend_time: null\n")
    (run / "metrics" / "m").write_text("1700000000000 0.25 0\n1700000001000 0.75 1\n")
    (run / "tags" / "team").write_text("vision")
    return run


def found_in(place: Place) -> list[Any]:
    return runs_in(Reach(place.root), Path(place.mlflow))


def test_runs_are_found_with_all_their_values_the_first_one_first(place: Place) -> None:
    run_in(place, "a", at=1700000000009)
    run_in(place, "b", at=170000000000)
    later, first = found_in(place)[::-1]
    assert (first.id, later.id) == ("b", "a")
    assert first.tags == {"team": "vision"}
    assert first.metrics == {"m": [Value(0.25, 1700000000), Value(0.75, 1700000001)]}


@pytest.mark.parametrize(
    "link",
    ["", "0", "0/r", "0/r/meta.yaml", "0/r/metrics", "0/r/metrics/m", "0/r/tags", "0/r/tags/team"],
)
def test_nothing_is_read_through_a_link_among_mlflows_files(
    place: Place, host: Path, link: str
) -> None:
    run_in(place)
    target = {"meta.yaml": "secret", "m": "metrics/m", "team": "tags/t"}.get(
        Path(link).name if link else "", ""
    )
    replaced(Path(place.mlflow, link) if link else place.mlflow, host / target if target else host)
    found = found_in(place)
    assert OF_HOST not in repr(found)
    assert "Value(value=7" not in repr(found)


MESSES: dict[str, str | bytes | Callable[[Path], object]] = {
    "a list": "- 1\n- 2\n",
    "bad YAML": "a: [\n\t{{: &x *y",
    "deep YAML": "[" * 60_000,
    "a start that is a text": "start_time: soon\n",
    "no bytes": b"",
    "no text": b"\xff\x00" * 100,
    "a pipe": lambda run: os.mkfifo(run / "meta.yaml"),
    "a folder": lambda run: (run / "meta.yaml").mkdir(),
    "nothing": lambda run: None,
    "a link to nothing": lambda run: (run / "meta.yaml").symlink_to("/nowhere"),
}
"""What a run's meta.yaml may be."""
PIPES = ("0/metrics", "0/pipe", "pipe", "0/odd/metrics/pipe", "0/odd/tags/pipe")
LINES: dict[str, str] = {
    "cut off": "17000",
    "words": "ab cd ef\n",
    "too few": "1\n",
    "bytes": "\x00\n",
}


def found_soon(place: Place) -> list[Any]:
    """Return what is found, without waiting for somebody who writes to a pipe."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(found_in(place)), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits for somebody who writes to a pipe"
    return found


@pytest.mark.parametrize("mess", MESSES)
def test_whatever_a_runs_meta_yaml_is_the_other_runs_are_read(place: Place, mess: str) -> None:
    run_in(place, "good")
    odd = run_in(place, "odd")
    (odd / "meta.yaml").unlink()
    match MESSES[mess]:
        case str(text):
            (odd / "meta.yaml").write_text(text)
        case bytes(data):
            (odd / "meta.yaml").write_bytes(data)
        case make:
            make(odd)
    found = found_soon(place)
    assert [one.metrics["m"][-1].value for one in found if one.id == "good"] == [0.75]


@pytest.mark.parametrize("pipe", PIPES)
def test_a_pipe_among_mlflows_files_is_not_waited_for(place: Place, pipe: str) -> None:
    run_in(place, "odd")
    os.mkfifo(Path(place.mlflow, pipe))
    (found,) = found_soon(place)
    assert found.metrics.keys() == {"m"}
    assert found.tags.keys() == {"team"}


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_is_none_costs_itself_alone(place: Place, line: str) -> None:
    run = run_in(place)
    with (run / "metrics" / "m").open("a") as file:
        file.write(LINES[line])
    (found,) = found_in(place)
    assert [one.value for one in found.metrics["m"]] == [0.25, 0.75]


def test_a_metric_is_as_good_as_its_whole_lines() -> None:
    text = "1700000000000 0.5 0\nx 1 0\n1700000000000 y 0\n\n5\n1e3 2 0\n1700000001000 nan 1\n"
    huge = f"{'9' * 400} 1 0\n{'9' * 5000} 1 0\n"
    first, second = values_of(text + huge + "1700000002000 0.7")
    assert first == Value(0.5, 1700000000)
    assert second.at == 1700000001
    assert started("start_time: 12\n") == 12
    assert started("start_time: null") == started("- a") == started("") == 0


# -- what a tracking server says --------------------------------------------------------------------
@pytest.fixture
def told() -> Iterator[tuple[str, dict[str, Any]]]:
    """A server that answers each path with what is said here."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            data = json.dumps(answers[self.path.partition("mlflow/")[2].partition("?")[0]]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - called so by the server

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", answers
    server.shutdown()
    server.server_close()
    thread.join()


GOOD = {"experiment": {"experiment_id": "1"}}
ITEM = WorkItem(run="r", step="s", attempt=1, pipeline="p", command="true")


@pytest.mark.parametrize(
    ("experiment", "run"),
    [({}, {}), ([], {}), (GOOD, {}), (GOOD, []), (GOOD, {"run": 5}), (GOOD, None)],
)
async def test_a_server_that_begins_no_run_is_gone_without(
    place: Place, told: tuple[str, dict[str, Any]], experiment: Any, run: Any
) -> None:
    url, answers = told
    answers |= {"experiments/get-by-name": experiment, "runs/create": run}
    notes: list[str] = []
    tracking = await Tracking(url).begun(ITEM, place, notes.append)
    assert tracking.variables["MLFLOW_TRACKING_URI"] == f"file://{place.mlflow}"
    assert "the MLflow server is away" in notes[0]


def answered(metrics: Any) -> dict[str, Any]:
    return {"run": {"info": {"run_id": "r"}, "data": {"metrics": metrics}}}


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"run": None},
        answered([{"key": "m"}]),
        answered([{"key": "m", "value": "x", "timestamp": "y"}]),
        answered([{"key": 5, "value": 1, "timestamp": 1}]),
        answered(7),
    ],
)
async def test_a_step_ends_as_it_did_whatever_the_server_says(
    place: Place, told: tuple[str, dict[str, Any]], run: Any
) -> None:
    url, answers = told
    answers |= {"runs/update": {}, "runs/get": run, "runs/search": {}}
    tracking = AttemptTracking(Tracking(url), Path(place.mlflow), url, "1", "r")
    notes: list[str] = []
    with closing(StepSocket(Path(place.root), Path(place.images), SystemClock(), print)) as socket:
        await Surroundings(None, tracking).end(socket, None, notes.append)
        assert socket.logged.metrics == {}
    assert len(notes) == 1
    assert "MLflow" in notes[0]


async def test_images_do_not_go_where_a_link_leads_and_end_nothing(
    place: Place, host: Path
) -> None:
    replaced(place.images, host / "new")
    point = msgspec.json.encode({"kind": "image", "name": "a"})
    with closing(StepSocket(Path(place.root), Path(place.images), SystemClock(), print)) as socket:
        assert b"path" in socket.take(point)
    assert not (host / "new").exists()


def test_what_is_owned_again_is_the_steps_alone(place: Place, host: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    (host / "outputs" / "x").chmod(0o600)
    replaced(place.code, host)
    Path(place.outputs, "mine").write_text("m")
    Path(place.outputs, "theirs").symlink_to(host / "secret")
    before = everything(host)
    reach = Reach(place.root)
    reach.own(f"{place.code}/outputs", 4321, 4321)
    reach.own(place.outputs, 4321, 4321)
    assert everything(host) == before
    assert Path(place.outputs, "mine").stat().st_uid == 4321
    assert Path(place.outputs).stat().st_uid == 4321
