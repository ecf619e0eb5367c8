"""MLflow around a step: where its code logs to, and what of it becomes the step's metrics.

With a tracking server (`penstock up --mlflow`) each attempt is a run there, made before user code starts: the step gets
MLFLOW_TRACKING_URI and MLFLOW_RUN_ID. Without one, or while it is away, MLflow writes into the attempt's folder. How
a step has ended is never asked of MLflow; it is told.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import urllib3

from penstock.contracts.work import WorkItem
from penstock_executor.decide.layout import Place
from penstock_executor.decide.metrics import METRICS_BYTES_MAX
from penstock_executor.decide.tracked import NAME, PARENT, Tracked, run_of, started, values_of
from penstock_executor.reach import Reach

API = "/api/2.0/mlflow/"
TIMEOUT_S = 5.0
AGAIN_S = 20.0
"""How long nobody asks a server that was away."""
CHILDREN_MAX = 200
FILES_MAX = 10_000
FILE_BYTES_MAX = 8 * 1024 * 1024
META_BYTES_MAX = 64 * 1024
"""Of what says what a run is, and of one tag."""


class Away(Exception):
    """The tracking server does not answer, or not as it should."""


class Tracking:
    """Where attempts of this executor log to."""

    def __init__(self, url: str = "") -> None:
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(timeout=TIMEOUT_S, retries=False, maxsize=8)
        self._experiments: dict[str, str] = {}
        self._not_before = 0.0

    async def begun(
        self, item: WorkItem, place: Place, note: Callable[[str], None]
    ) -> "AttemptTracking":
        """Return what a step gets. A server that is away is told, and gone without."""
        if not self._url:
            return AttemptTracking(self, Path(place.mlflow))
        if time.monotonic() < self._not_before:
            note("the MLflow server is away, so MLflow logs into the attempt's folder")
            return AttemptTracking(self, Path(place.mlflow))
        try:
            with _as_expected():
                experiment, run = await asyncio.to_thread(self._begin, item)
        except Away as error:
            self._not_before = time.monotonic() + AGAIN_S
            note(f"the MLflow server is away, so MLflow logs into the attempt's folder: {error}")
            return AttemptTracking(self, Path(place.mlflow))
        return AttemptTracking(self, Path(place.mlflow), self._url, experiment, run)

    def _begin(self, item: WorkItem) -> tuple[str, str]:
        name = item.experiment or item.pipeline
        experiment = self._experiments.get(name)
        if experiment is None:
            experiment = self._experiments[name] = self._experiment(name)
        tags = {
            NAME: item.step,
            "penstock.run": item.run,
            "penstock.step": item.step,
            "penstock.attempt": str(item.attempt),
            **item.tags,
        }
        made = self.ask(
            "runs/create",
            {
                "experiment_id": experiment,
                "run_name": item.step,
                "start_time": _now_ms(),
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            },
        )
        return experiment, made["run"]["info"]["run_id"]

    def _experiment(self, name: str) -> str:
        query = urlencode({"experiment_name": name})
        status, found = self._asked("GET", f"experiments/get-by-name?{query}")
        if status != 200:  # noqa: PLR2004 - HTTP
            status, found = self._asked("POST", "experiments/create", {"name": name})
            if status == 200:  # noqa: PLR2004
                return str(found["experiment_id"])
            status, found = self._asked(
                "GET", f"experiments/get-by-name?{query}"
            )  # made by another
        if status != 200:  # noqa: PLR2004
            raise Away(str(found)[:200])
        return str(found["experiment"]["experiment_id"])

    def ask(self, what: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the server's answer.

        Raises:
            Away: it has none.
        """
        status, found = self._asked("GET" if body is None else "POST", what, body)
        if status != 200:  # noqa: PLR2004
            raise Away(f"{status}: {str(found)[:200]}")
        return found

    def _asked(
        self, method: str, what: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, Any]:
        data = None if body is None else msgspec.json.encode(body)
        try:
            answer = self._pool.request(
                method,
                self._url + API + what,
                body=data,
                headers={"content-type": "application/json"},
            )
            return answer.status, msgspec.json.decode(answer.data)
        except (urllib3.exceptions.HTTPError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Away(str(error)[:200]) from error


class AttemptTracking:
    """What one attempt logs to."""

    def __init__(
        self, tracking: Tracking, folder: Path, url: str = "", experiment: str = "", run: str = ""
    ) -> None:
        self._tracking = tracking
        self._folder = folder
        self._url = url
        self._experiment = experiment
        self.run = run
        """Id of the run on the server; empty: there is none."""

    @property
    def variables(self) -> dict[str, str]:
        """What the step sees."""
        if self.run:
            return {
                "MLFLOW_TRACKING_URI": self._url,
                "MLFLOW_RUN_ID": self.run,
                "MLFLOW_EXPERIMENT_ID": self._experiment,
            }
        return {
            "MLFLOW_TRACKING_URI": f"file://{self._folder}",
            "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3 refuses one otherwise
        }

    async def ended(self, state: str, note: Callable[[str], None]) -> list[Tracked]:
        """Return what was logged; tell the server how the step has ended ("FINISHED", "FAILED", "KILLED")."""
        if not self.run:
            reach = Reach(self._folder.parent)
            if not reach.is_folder(self._folder):  # most steps do not use it
                return []
            return await asyncio.to_thread(runs_in, reach, self._folder)
        try:
            with _as_expected():
                return await asyncio.to_thread(self._end, state)
        except Away as error:
            note(f"the MLflow server is away, so its metrics are not among the run's: {error}")
            return []

    def _end(self, state: str) -> list[Tracked]:
        ask = self._tracking.ask
        ask("runs/update", {"run_id": self.run, "status": state, "end_time": _now_ms()})
        own = run_of(ask(f"runs/get?{urlencode({'run_id': self.run})}")["run"])
        query = {
            "experiment_ids": [self._experiment],
            "filter": f"tags.`{PARENT}` = '{self.run}'",
            "max_results": CHILDREN_MAX,
        }
        children = ask("runs/search", query).get("runs", [])
        return [own, *(run_of(one) for one in children)]


def runs_in(reach: Reach, folder: Path) -> list[Tracked]:
    """Return the runs of a folder that MLflow has written: <experiment>/<run>/{metrics,tags}/<name>.

    The step's code may have written anything else there: what is no file, or not readable, is left out.
    """
    found = []
    reader = _Reader(reach)
    for run in (
        folder / experiment / name
        for experiment, _ in reach.entries(folder)
        for name, _ in reach.entries(folder / experiment)
    ):
        meta = reader.text(run / "meta.yaml", META_BYTES_MAX)
        if meta is None or not reach.is_folder(run / "metrics"):
            continue
        tags = dict(reader.texts(run / "tags", META_BYTES_MAX))
        texts = reader.texts(run / "metrics", FILE_BYTES_MAX)
        metrics = {name: values_of(text) for name, text in texts}
        one = Tracked(run.name, tags.get(NAME, ""), tags.get(PARENT, ""), metrics, tags)
        found.append((started(meta), one))
    return [one for _, one in sorted(found, key=itemgetter(0))]


class _Reader:
    """Reads files of a step, up to a bound of all files and bytes: they become this process's memory."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._files = FILES_MAX
        self._bytes = METRICS_BYTES_MAX

    def text(self, path: Path, limit: int) -> str | None:
        """Return a file's first bytes as text; None: it is no file, or beyond the bounds."""
        if self._files <= 0 or self._bytes <= 0:
            return None
        try:
            data = self._reach.read(path, min(limit, self._bytes))
        except OSError:
            return None
        self._files -= 1
        self._bytes -= len(data)
        return data.decode(errors="replace")

    def texts(self, folder: Path, limit: int) -> Iterator[tuple[str, str]]:
        """Iterate over the files below a folder, by their path in it."""
        for name in self._reach.files(folder):
            text = self.text(folder / name, limit)
            if text is not None:
                yield name, text


@contextlib.contextmanager
def _as_expected() -> Iterator[None]:
    """Take an answer that is not as it should be for none: it must not become the step's failure."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise Away(f"an answer of another form: {type(error).__name__}: {error}"[:200]) from error


def _now_ms() -> int:
    return int(time.time() * 1000)
