"""The agent of a sweep step: runs a command with values from a search space, and keeps the best trial.

It lies beside the step's code and runs on nothing but Python:

    python penstock_sweep.py '{"space": …, "objective": …, "outputs": {"model": PATH}, …}' <<'END' … END

The command comes on standard input; @@penstock:NAME@@ stands for a chosen value. Every trial runs in a copy of the
working directory with outputs of its own; those of the best one become the step's. A trial tells its metrics
to MLflow, which writes them into files of that trial, or with penstock's and Azure's `run.log`, whose socket
is answered here.
"""

import itertools
import json
import math
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HOLE = re.compile(r"@@penstock:([A-Za-z_][A-Za-z0-9_]*)@@")
GRID_MAX = 10_000


# -- what to try ----------------------------------------------------------------------------------


def points(space, sampling, count):
    """Return at most `count` points of the search space, each a mapping of names to values."""
    if sampling.get("type", "random") == "grid":
        lists = [choices(name, entry) for name, entry in space.items()]
        return [
            dict(zip(space, values))
            for values in itertools.islice(itertools.product(*lists), min(count, GRID_MAX))
        ]
    chance = random.Random(sampling.get("seed") or 0)
    return [{name: drawn(entry, chance) for name, entry in space.items()} for _ in range(count)]


def choices(name, entry):
    if entry["type"] == "choice":
        return entry["values"]
    if entry["type"] == "randint":
        return list(range(int(entry["upper"])))
    sys.exit("a grid needs choices; %s is %s" % (name, entry["type"]))


def drawn(entry, chance):
    """Return one value of a distribution (Azure ML's names; log: exp of the bound)."""
    kind = entry["type"]
    if kind == "choice":
        return chance.choice(entry["values"])
    if kind == "randint":
        return chance.randrange(int(entry["upper"]))
    if kind.endswith("normal"):
        value = chance.gauss(entry["mu"], entry["sigma"])
    else:
        value = chance.uniform(entry["min_value"], entry["max_value"])
    if "log" in kind:
        value = math.exp(value)
    return round(value / entry["q"]) * entry["q"] if kind.startswith("q") else value


# -- a trial --------------------------------------------------------------------------------------


class Ear:
    """Listens to what one trial logs: lines of JSON, of which a flush and an image want an answer."""

    def __init__(self, path):
        self.path, self.told = path, {}
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(path)
        self.server.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.listen, args=(connection,), daemon=True).start()

    def listen(self, connection):
        with connection, connection.makefile("rwb") as lines:
            for line in lines:
                point = json.loads(line)
                if point["kind"] == "scalar":
                    self.told[point["name"]] = point["value"]
                elif point["kind"] in ("flush", "image"):
                    answer = {
                        "path": "%s-%s%s"
                        % (self.path, point.get("name", ""), point.get("suffix", ""))
                    }
                    lines.write(json.dumps(answer).encode() + b"\n")
                    lines.flush()


class Trial:
    """One run of the command."""

    def __init__(self, number, point, plan, command, source, root):
        self.number, self.point = number, point
        self.folder = os.path.join(root, "trial-%d" % number)
        self.home = os.path.join(self.folder, "code")
        shutil.copytree(source, self.home, symlinks=True)
        self.outputs = {}
        text = HOLE.sub(lambda hole: str(point.get(hole.group(1), hole.group(0))), command)
        for name, path in plan["outputs"].items():
            own = os.path.join(self.folder, "out", name, os.path.basename(path))
            os.makedirs(own if os.path.isdir(path) else os.path.dirname(own), exist_ok=True)
            self.outputs[name] = own
            text = text.replace(path, own)
        self.tracking = os.path.join(self.folder, "mlruns")
        environment = {
            key: value
            for key, value in os.environ.items()
            if key not in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
        }
        environment["MLFLOW_TRACKING_URI"] = "file:" + self.tracking
        environment["MLFLOW_ALLOW_FILE_STORE"] = "true"
        self.ear = Ear(os.path.join(plan["ears"], str(number)))
        environment["PENSTOCK_STEP_SOCKET"] = self.ear.path
        self.log = open(os.path.join(self.folder, "log.txt"), "wb")
        self.since = time.monotonic()
        self.process = subprocess.Popen(
            ["bash", "-c", text], cwd=self.home, env=environment, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def over(self, limit):
        """Say whether the trial has ended; one that takes too long is ended."""
        if self.process.poll() is None and 0 < limit < time.monotonic() - self.since:
            self.kill()
        return self.process.poll() is not None

    def kill(self):
        """End the trial. What it has started stays in the step's process group, and ends with the step."""
        self.process.kill()
        self.process.wait()

    def metric(self, name):
        """Return the last value of a metric that is a number; None: it was not told."""
        found = None
        for folder, _, files in os.walk(self.tracking):
            if os.path.basename(folder) == "metrics" and name in files:
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    lines = file.read().split("\n")
                found = [float(line.split()[1]) for line in lines if line.strip()][-1]
        told = self.ear.told.get(name)
        found = float(told) if isinstance(told, (int, float)) else found
        return None if found is None or math.isnan(found) else found


def tried(plan, command, root):
    """Run all trials, so many at a time; return those that ended well and told the metric."""
    limits, objective = plan["limits"], plan["objective"]
    waiting = list(enumerate(points(plan["space"], plan["sampling"], limits["total"])))
    until = time.monotonic() + limits["timeout"]
    running, good = [], []
    source = os.path.join(root, "source")
    shutil.copytree(os.getcwd(), source, symlinks=True)
    while waiting or running:
        if time.monotonic() > until:
            for trial in running:
                trial.kill()
            print("the sweep's time is up: %d trials are left out" % len(waiting), flush=True)
            waiting = []
        while waiting and len(running) < limits["concurrent"]:
            number, point = waiting.pop(0)
            running.append(Trial(number, point, plan, command, source, root))
        for trial in [one for one in running if one.over(limits["trial_timeout"])]:
            running.remove(trial)
            trial.log.close()
            with open(trial.log.name, "rb") as log:
                print("--- trial %d: %s" % (trial.number, json.dumps(trial.point)), flush=True)
                sys.stdout.buffer.write(log.read())
                sys.stdout.flush()
            value = trial.metric(objective["primary_metric"])
            print(
                "--- trial %d: exit %d, %s = %s"
                % (trial.number, trial.process.returncode, objective["primary_metric"], value),
                flush=True,
            )
            if trial.process.returncode == 0 and value is not None:
                good.append((value, trial))
        time.sleep(0.05)
    return good


def main():
    plan, command = json.loads(sys.argv[1]), sys.stdin.read()
    # The path of a socket has at most 107 characters, and a step's own folder for temporary files may be deep.
    ears = tempfile.TemporaryDirectory(prefix="sweep-", dir="/tmp")
    with tempfile.TemporaryDirectory(prefix="sweep-") as root, ears as plan["ears"]:
        good = tried(plan, command, root)
        if not good:
            sys.exit("no trial ended well and told %r" % plan["objective"]["primary_metric"])
        sign = -1 if plan["objective"]["goal"].lower() == "maximize" else 1
        value, best = min(good, key=lambda one: (sign * one[0], one[1].number))
        print(
            "best: trial %d with %s = %s: %s"
            % (best.number, plan["objective"]["primary_metric"], value, json.dumps(best.point)),
            flush=True,
        )
        for name, own in best.outputs.items():
            target = plan["outputs"][name]
            if os.path.isdir(own):
                shutil.copytree(own, target, dirs_exist_ok=True)
            elif os.path.exists(own):
                shutil.copyfile(own, target)
        tell({plan["objective"]["primary_metric"]: value, "best_trial": best.number})
        os.makedirs("outputs", exist_ok=True)
        with open(os.path.join("outputs", "best_trial.json"), "w", encoding="utf-8") as file:
            json.dump({"trial": best.number, "values": best.point, "metric": value}, file)


def tell(metrics):
    """Give the best trial's metric to the step, where penstock is to be had."""
    try:
        import penstock

        run = penstock.current_run()
    except Exception:  # in an image of somebody else's
        return
    for name, value in metrics.items():
        run.log(name, value)


if __name__ == "__main__":
    main()
