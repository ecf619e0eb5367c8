"""Examine the model on images it has never seen."""

import argparse
import csv
import json
import pickle
from pathlib import Path

import numpy as np
from penstock import current_run
from sklearn.metrics import confusion_matrix

parser = argparse.ArgumentParser()
for name in ("data", "model", "names", "out"):
    parser.add_argument(f"--{name}", type=Path, required=True)
options = parser.parse_args()

rows = np.loadtxt(options.data / "test.csv", delimiter=",")
digits, images = rows[:, 0].astype(int), rows[:, 1:]
model = pickle.loads((options.model / "model.pkl").read_bytes())
guesses = model.predict(images)
accuracy = float((guesses == digits).mean())
with options.names.open(newline="") as file:
    names = [row["name"] for row in csv.DictReader(file)]
confusion = confusion_matrix(digits, guesses)

run = current_run()
run.log("accuracy", accuracy)
table = {name: confusion[:, column].tolist() for column, name in enumerate(names)}
run.log_table("confusion", {"is": names, **table})

options.out.mkdir(parents=True, exist_ok=True)
metrics = {"accuracy": accuracy, "images": len(rows), "wrong": int((guesses != digits).sum())}
(options.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
print(f"accuracy {accuracy:.4f}")
