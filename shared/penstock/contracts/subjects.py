"""The only place where a subject, a stream or a bucket is spelled.

The first token of every subject is the workspace. Outsiders see `request`, `query`, `event` and
`log`; everything else is between services and may change with any version.

| stream (prefix `<workspace>-`) | subjects                | holds                                     |
|--------------------------------|-------------------------|-------------------------------------------|
| requests                       | request.*               | wishes of outsiders until planned         |
| inbox                          | inbox.>                 | what scheduler partitions have to take in |
| runs                           | own.*, runlog.*         | the run log: the only truth               |
| timers                         | timer.>, due.>          | timers of the scheduler                   |
| work                           | work.>                  | attempts waiting for an executor          |
| events                         | event.>                 | what everybody may read                   |
| logs                           | log.>                   | what steps write                          |
| dead                           | dead.> and advisories   | messages nobody could take in             |

Buckets (`KV_<workspace>-<bucket>`, keys under `$KV.<workspace>-<bucket>.`, readable with `nats kv`):
pipelines, specs, keys (idempotency), runs, reuse, latest, schedules, cursors, artifacts, datastores,
computes, assets (components, environments, data, models).
"""

from dataclasses import dataclass

from penstock.ids import is_name, partition_of


def token(text: str) -> str:
    """Return `text` if it is one subject token; a broken token here is a bug, not bad input."""
    assert is_name(text), text  # noqa: S101
    return text


@dataclass(frozen=True)
class Subjects:
    """Subjects of one workspace."""

    workspace: str = "penstock"

    # -- public ----------------------------------------------------------------------------------
    def request(self, what: str) -> str:
        """Return where a wish goes: run, cancel, rerun."""
        return f"{self.workspace}.request.{what}"

    def query(self, what: str) -> str:
        """Return where a question goes, such as "runs" or "pipeline.create"."""
        return f"{self.workspace}.query.{what}"

    def run_event(self, pipeline: str, run: str, what: str) -> str:
        """Return the subject of a run's event."""
        return f"{self.workspace}.event.{token(pipeline)}.{token(run)}.run.{what}"

    def step_event(self, pipeline: str, run: str, step: str, what: str) -> str:
        """Return the subject of a step's event."""
        return f"{self.workspace}.event.{token(pipeline)}.{token(run)}.step.{token(step)}.{what}"

    def trigger_event(self, trigger: str, what: str) -> str:
        """Return the subject of a trigger's event."""
        return f"{self.workspace}.event.trigger.{token(trigger)}.{what}"

    def data_event(self, dataset: str, what: str) -> str:
        """Return the subject of a dataset's event."""
        return f"{self.workspace}.event.data.{token(dataset)}.{what}"

    def run_events(self, run: str) -> str:
        """Return the filter for everything that happens to one run."""
        return f"{self.workspace}.event.*.{token(run)}.>"

    def run_only_events(self, run: str) -> str:
        """Return the filter for what happens to one run itself, its steps left out."""
        return f"{self.workspace}.event.*.{token(run)}.run.*"

    def run_step_events(self, run: str, step: str) -> str:
        """Return the filter for what happens to one step of a run."""
        return f"{self.workspace}.event.*.{token(run)}.step.{token(step)}.*"

    def events(self) -> str:
        """Return the filter for all events."""
        return f"{self.workspace}.event.>"

    def log(self, run: str, step: str, attempt: int, stream: str) -> str:
        """Return the subject of a log chunk."""
        return f"{self.workspace}.log.{token(run)}.{token(step)}.{attempt}.{stream}"

    def logs(self, run: str, step: str = "*", attempt: str = "*", stream: str = "*") -> str:
        """Return the filter for a run's log chunks."""
        return f"{self.workspace}.log.{run}.{step}.{attempt}.{stream}"

    # -- between services ------------------------------------------------------------------------
    def inbox(self, run: str, source: str, kind: str, step: str = "-") -> str:
        """Return where a scheduler partition takes in something about `run`."""
        return f"{self.workspace}.inbox.{partition_of(run)}.{token(run)}.{source}.{kind}.{step}"

    def wake(self, partition: int) -> str:
        """Return where a partition is woken, so that somebody becomes its owner."""
        return f"{self.workspace}.inbox.{partition}.-.scheduler.wake.-"

    def inbox_of(self, partition: int) -> str:
        """Return the filter for one partition's inbox."""
        return f"{self.workspace}.inbox.{partition}.>"

    def anchor(self, queue: str) -> str:
        """Return where a message lies that no consumer of a queue ("inbox", "work") takes."""
        return f"{self.workspace}.{queue}.anchor"

    def own(self, partition: int) -> str:
        """Return the subject whose last message says who owns a partition."""
        return f"{self.workspace}.own.{partition}"

    def runlog(self, partition: int) -> str:
        """Return the subject of a partition's commits."""
        return f"{self.workspace}.runlog.{partition}"

    def timer(self, run: str, step: str, kind: str) -> str:
        """Return the subject that holds one timer; publishing again moves it."""
        return f"{self.workspace}.timer.{partition_of(run)}.{token(run)}.{step or '-'}.{kind}"

    def timers_of(self, run: str) -> str:
        """Return the filter for all timers of a run."""
        return f"{self.workspace}.timer.{partition_of(run)}.{token(run)}.>"

    def due(self, run: str, step: str, kind: str) -> str:
        """Return where a timer fires."""
        return f"{self.workspace}.due.{partition_of(run)}.{token(run)}.{step or '-'}.{kind}"

    def due_of(self, partition: int) -> str:
        """Return the filter for one partition's fired timers."""
        return f"{self.workspace}.due.{partition}.>"

    def work(self, target: str, run: str, step: str, attempt: int) -> str:
        """Return where an attempt waits for an executor."""
        return f"{self.workspace}.work.{token(target)}.{token(run)}.{token(step)}.{attempt}"

    def work_of(self, target: str) -> str:
        """Return the filter for one compute target's work."""
        return f"{self.workspace}.work.{token(target)}.>"

    def work_of_run(self, run: str) -> str:
        """Return the filter for everything of a run that waits for an executor."""
        return f"{self.workspace}.work.*.{token(run)}.>"

    def stop(self, run: str = "*", step: str = "*") -> str:
        """Return where executors hear that an attempt must end (core NATS)."""
        return f"{self.workspace}.stop.{run}.{step}"

    def presence(self, executor: str = "*") -> str:
        """Return where executors say that they are there (core NATS)."""
        return f"{self.workspace}.presence.executor.{executor}"

    def answer(self, key: str) -> str:
        """Return where the planner that holds a caller's reply address waits for the answer."""
        return f"{self.workspace}.answer.{key}"

    def artifact(self, verb: str) -> str:
        """Return where the artifact service answers: stage, upload, commit, fetch, exist."""
        return f"{self.workspace}.artifact.{verb}"

    def owner_query(self, partition: int) -> str:
        """Return where a partition's owner answers questions of its fellow replicas."""
        return f"{self.workspace}.owner.{partition}"

    def dead(self, stream: str = "*", letter: str = "*") -> str:
        """Return where messages of a stream go that nobody could take in, or the filter for them."""
        return f"{self.workspace}.dead.{stream}.{letter}"

    # -- streams and buckets ---------------------------------------------------------------------
    def stream(self, name: str) -> str:
        """Return the name of a stream."""
        return f"{self.workspace}-{name}"

    def bucket(self, name: str) -> str:
        """Return the name of a key-value bucket."""
        return f"{self.workspace}-{name}"

    def key(self, bucket: str, key: str) -> str:
        """Return the subject that holds a key of a bucket."""
        return f"$KV.{self.bucket(bucket)}.{key}"
