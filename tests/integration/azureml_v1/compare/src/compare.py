import argparse
import os
import shutil

import joblib
from penstock.azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--test_path")
parser.add_argument("--models", nargs="+")
parser.add_argument("--best")
parser.add_argument("--threshold", type=float)
args = parser.parse_args()

run = Run.get_context()
features, labels = joblib.load(os.path.join(args.test_path, "rows.pkl"))
scores = {
    path: joblib.load(os.path.join(path, "model.pkl")).score(features, labels)
    for path in args.models
}
best = max(scores, key=scores.get)
for number, path in enumerate(args.models):
    run.log_row("scores", model=number, accuracy=scores[path])
run.log("accuracy", scores[best])
run.parent.log("best", args.models.index(best))
if scores[best] < args.threshold:
    raise SystemExit("no model is good enough")
shutil.copy(os.path.join(best, "model.pkl"), os.path.join(args.best, "model.pkl"))
