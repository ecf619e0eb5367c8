"""Train a classifier on the images."""

import argparse
import pickle
from pathlib import Path

import numpy as np
from penstock import current_run
from sklearn.svm import SVC

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--C", type=float, default=10.0)
parser.add_argument("--gamma", type=float, default=0.001)
options = parser.parse_args()

rows = np.loadtxt(options.data / "train.csv", delimiter=",")
digits, images = rows[:, 0].astype(int), rows[:, 1:]
model = SVC(C=options.C, gamma=options.gamma).fit(images, digits)

run = current_run()
run.log("train_accuracy", model.score(images, digits))
run.log("support_vectors", int(model.n_support_.sum()))

# The same protocol everywhere, so that the same model is the same bytes and is reused.
options.out.mkdir(parents=True, exist_ok=True)
(options.out / "model.pkl").write_bytes(pickle.dumps(model, protocol=5))
print(f"learned from {len(rows)} images")
