"""The agent of a parallel step: cuts its input into mini-batches and hands them to an entry script.

It lies beside the step's code and runs on nothing but Python (and pandas, where the script takes tables):

    python penstock_parallel.py --input DIR --entry score.py --size 10 … -- arguments of the script

The contract of the script is Azure ML's: init() once per process, run(mini_batch[, context]) for each batch,
shutdown() at the end. Workers are processes of their own, so that one that hangs or dies costs one batch, which
is tried again. What they say to the agent goes through a pipe; what they print is the step's output.
"""

import argparse
import collections
import importlib
import inspect
import json
import logging
import os
import re
import selectors
import subprocess
import sys
import time
import traceback
import types

UNITS = {"": 1, "b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}
OURS = (
    "error_threshold", "allowed_failed_count", "allowed_failed_percent", "task_overhead_timeout",
    "progress_update_timeout", "first_task_creation_timeout", "copy_logs_to_parent", "metrics_name_prefix",
    "push_metrics_to_parent", "resource_monitor_interval",
)  # fmt: skip
"""Arguments among the script's that are meant for the agent; they may be shortened, and the script sees them too."""


def options_of(words):
    """Return the agent's options and the script's arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", required=True)
    parser.add_argument("--entry", required=True)
    parser.add_argument("--size", default="")
    parser.add_argument("--keys", default="")
    parser.add_argument("--append", default="")
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--retries", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--errors", type=int, default=-1)
    parser.add_argument("--batch-errors", type=int, default=-1)
    parser.add_argument("--level", default="INFO")
    parser.add_argument("--worker", type=int, default=-1)
    parser.add_argument("--pipe", type=int, default=-1)
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    options.arguments = words[split + 1 :]
    for word, value in zip(options.arguments, options.arguments[1:]):
        name = word[2:].split("=")[0]
        if word.startswith("--") and len(name) > 8 and "error_threshold".startswith(name):
            options.errors = int(value)
    return options


# -- batches --------------------------------------------------------------------------------------


def batches_of(options):
    """Return the batches: lists of paths, or of a table rows from-to or the values of its keys."""
    table = table_of(options.input)
    if table is None:
        files = files_in(options.input)
        size = max(1, int(re.sub(r"\D", "", options.size) or 1))
        return [files[at : at + size] for at in range(0, len(files), size)]
    if options.keys:
        keys = options.keys.split(",")
        return [
            dict(zip(keys, values if isinstance(values, tuple) else (values,)))
            for values, _ in table.groupby(keys if len(keys) > 1 else keys[0], sort=True)
        ]
    rows = rows_per_batch(table, options.size or "1mb")
    return [[at, min(at + rows, len(table))] for at in range(0, len(table), rows)]


def rows_per_batch(table, size):
    """Return how many rows make up a size such as 10kb; a bare number is rows."""
    number, unit = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", size.lower()).groups()
    if not unit:
        return max(1, int(float(number)))
    each = max(1.0, len(table.head(1000).to_csv(index=False)) / max(1, min(1000, len(table))))
    return max(1, int(float(number) * UNITS[unit] / each))


def files_in(path):
    """Return all files of a folder in the order of their names, or the one file."""
    if os.path.isfile(path):
        return [path]
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        found += [os.path.join(folder, name) for name in sorted(names) if name != "MLTable"]
    return sorted(found)


def table_of(path):
    """Return the table in a folder with an MLTable file that reads one; None: files."""
    file = os.path.join(path, "MLTable")
    if not os.path.isfile(file):
        return None
    with open(file, encoding="utf-8") as handle:
        if not re.search(r"read_(delimited|parquet|json_lines|delta)", handle.read()):
            return None
    return importlib.import_module("mltable").load(path).to_pandas_dataframe()


# -- a worker -------------------------------------------------------------------------------------


class Context:
    """What a script with a second parameter learns of its batch."""

    def __init__(self, index, keys):
        self.minibatch_index = index
        self.partition_key_value = keys
        self.dataset = None


def give_helpers(options):
    """Make `from azureml_user.parallel_run import EntryScript` work."""

    class EntryScript:
        def __init__(self):
            self.logger = logging.getLogger("EntryScript")
            self.log_dir = os.path.abspath(os.path.join("logs", "user"))
            self.agent_name = "process%03d" % options.worker
            self.output_dir = options.append and os.path.dirname(options.append) or os.getcwd()
            self.working_dir = os.getcwd()
            os.makedirs(self.log_dir, exist_ok=True)

    package, module = (
        types.ModuleType("azureml_user"),
        types.ModuleType("azureml_user.parallel_run"),
    )
    module.EntryScript = EntryScript
    package.parallel_run = module
    sys.modules.setdefault("azureml_user", package)
    sys.modules.setdefault("azureml_user.parallel_run", module)


def work(options):
    """Run batches as they are asked for, until there are no more."""
    logging.basicConfig(level=options.level, stream=sys.stderr)
    answers = os.fdopen(options.pipe, "w", buffering=1)
    give_helpers(options)
    sys.path.insert(0, os.path.dirname(os.path.abspath(options.entry)))
    sys.path.insert(0, os.getcwd())
    sys.argv = [options.entry, *options.arguments]
    try:
        name = os.path.splitext(os.path.basename(options.entry))[0]
        script = importlib.import_module(name)
        if hasattr(script, "init"):
            script.init()
    except BaseException:  # SystemExit of an argument parser included
        traceback.print_exc()
        answers.write(json.dumps({"init": False}) + "\n")
        return 1
    answers.write(json.dumps({"init": True}) + "\n")
    parameters = len(inspect.signature(script.run).parameters)
    table = table_of(options.input)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            batch, keys = content_of(task["batch"], table)
            given = (batch, Context(task["index"], keys)) if parameters > 1 else (batch,)
            result = script.run(*given)
            rows, count = rows_of(result)
            answer = {"ok": True, "rows": rows, "count": count, "items": len(batch)}
        except Exception as error:
            traceback.print_exc()
            answer = {"ok": False, "error": "%s: %s" % (type(error).__name__, error)}
        sys.stdout.flush()
        answers.write(json.dumps(answer) + "\n")
    if hasattr(script, "shutdown"):
        script.shutdown()
    return 0


def content_of(batch, table):
    """Return what the script gets, and the keys of its partition."""
    if table is None:
        return batch, {}
    if isinstance(batch, list):
        return table.iloc[batch[0] : batch[1]].reset_index(drop=True), {}
    chosen = table
    for key, value in batch.items():
        chosen = chosen[chosen[key] == value]
    return chosen.reset_index(drop=True), {key: str(value) for key, value in batch.items()}


def rows_of(result):
    """Return the lines of a result, and how many items succeeded; None: the script does not say."""
    if result is None:
        return [], None
    if hasattr(result, "to_csv"):
        text = result.to_csv(sep=" ", header=False, index=False)
        return text.splitlines(), len(result)
    if isinstance(result, (str, bytes)):
        raise TypeError("run() must return a list or a DataFrame, not %s" % type(result).__name__)
    items = list(result)
    return [str(item) for item in items], len(items)


# -- the agent ------------------------------------------------------------------------------------


class Worker:
    """One process, and the batch that it has."""

    def __init__(self, options, number):
        read, write = os.pipe()
        os.set_inheritable(write, True)
        words = [sys.executable, os.path.abspath(__file__), *options.words]
        own = ["--worker", str(number), "--pipe", str(write)]
        self.process = subprocess.Popen(
            words[:2] + own + words[2:], stdin=subprocess.PIPE, pass_fds=(write,), text=True
        )
        os.close(write)
        self.answers = os.fdopen(read, "r")
        self.task = None
        self.ready = False
        self.since = time.monotonic()

    def give(self, task):
        self.task, self.since = task, time.monotonic()
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: its pipe says so

    def end(self, kill=False):
        if kill:
            self.process.kill()
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()
        self.answers.close()


class Agent:
    """Hands batches out, takes results in, counts what failed."""

    def __init__(self, options):
        self.options = options
        self.batches = batches_of(options)
        self.waiting = collections.deque(
            {"index": index, "batch": batch, "tries": 0} for index, batch in enumerate(self.batches)
        )
        self.rows = {}
        self.failed_batches = self.failed_items = 0
        self.selector = selectors.DefaultSelector()
        self.numbers = 0

    def run(self):
        count = self.options.processes or os.cpu_count() or 1
        workers = [self.start() for _ in range(min(count, len(self.batches)))]
        left = len(self.batches)
        print("%d mini-batches, %d processes" % (left, len(workers)), flush=True)
        while left:
            for key, _ in self.selector.select(timeout=1.0):
                left -= self.heard(key.data)
            left -= self.look_at_clocks()
            self.check()
        for key in list(self.selector.get_map().values()):
            key.data.end()
        self.write()
        return 0

    def start(self):
        self.numbers += 1
        worker = Worker(self.options, self.numbers - 1)
        self.selector.register(worker.answers, selectors.EVENT_READ, worker)
        return worker

    def heard(self, worker):
        """Take in what a worker says; return how many batches are done with."""
        line = worker.answers.readline()
        if not line:
            return self.lost(worker, "its process ended")
        answer = json.loads(line)
        if not worker.ready:
            if not answer["init"]:
                self.stop("init() failed")
            worker.ready = True
            return self.feed(worker)
        task, worker.task = worker.task, None
        done = self.finished(task, answer) if answer["ok"] else self.again(task, answer["error"])
        return done + self.feed(worker)

    def feed(self, worker):
        if self.waiting:
            worker.give(self.waiting.popleft())
        return 0

    def finished(self, task, answer):
        self.rows[task["index"]] = answer["rows"]
        counts = self.options.append or self.options.errors >= 0
        if counts and answer["count"] is not None and answer["count"] < answer["items"]:
            self.failed_items += answer["items"] - answer["count"]
        return 1

    def again(self, task, why):
        """Have a batch tried again, or count it as failed."""
        print("mini-batch %d failed: %s" % (task["index"], why), file=sys.stderr, flush=True)
        if task["tries"] < self.options.retries:
            self.waiting.append({**task, "tries": task["tries"] + 1})
            idle = [
                k.data for k in self.selector.get_map().values() if k.data.ready and not k.data.task
            ]
            for worker in idle[:1]:
                self.feed(worker)
            return 0
        self.failed_batches += 1
        batch = task["batch"]
        self.failed_items += batch[1] - batch[0] if self.is_rows(batch) else len(batch)
        return 1

    @staticmethod
    def is_rows(batch):
        return isinstance(batch, list) and len(batch) == 2 and isinstance(batch[0], int)

    def lost(self, worker, why):
        """Replace a worker that is gone."""
        self.selector.unregister(worker.answers)
        worker.end(kill=True)
        if not worker.ready:
            self.stop("a worker ended in init()")
        self.start()
        return self.again(worker.task, why) if worker.task else 0

    def look_at_clocks(self):
        done = 0
        for key in list(self.selector.get_map().values()):
            worker = key.data
            if worker.task and time.monotonic() - worker.since > self.options.timeout > 0:
                done += self.lost(worker, "no result within %g s" % self.options.timeout)
        return done

    def check(self):
        if 0 <= self.options.batch_errors < self.failed_batches:
            self.stop("%d mini-batches failed" % self.failed_batches)
        if 0 <= self.options.errors < self.failed_items:
            self.stop("%d items failed" % self.failed_items)

    def stop(self, why):
        for key in list(self.selector.get_map().values()):
            key.data.end(kill=True)
        sys.exit("parallel step: %s" % why)

    def write(self):
        total = len(self.batches)
        print(
            "%d of %d mini-batches done, %d items failed"
            % (total - self.failed_batches, total, self.failed_items),
            flush=True,
        )
        os.makedirs("logs", exist_ok=True)
        with open(os.path.join("logs", "job_result.txt"), "w", encoding="utf-8") as file:
            json.dump({"mini_batches": total, "failed": self.failed_batches}, file)
        if not self.options.append:
            return
        target = self.options.append
        if os.path.isdir(target):
            target = os.path.join(target, "parallel_run_step.txt")
        with open(target, "w", encoding="utf-8") as file:
            for index in sorted(self.rows):
                file.writelines(row + "\n" for row in self.rows[index])


def main(words):
    options = options_of(words)
    options.words = words
    return work(options) if options.worker >= 0 else Agent(options).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
