"""Say how good the classifier is."""

import argparse
import json
import pickle
from pathlib import Path

import pandas as pd
from sklearn.metrics import accuracy_score, roc_auc_score

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path)
parser.add_argument("--model", type=Path)
parser.add_argument("--out", type=Path)
given = parser.parse_args()

table = pd.read_csv(given.data / "test.csv")
model = pickle.loads((given.model / "model.pickle").read_bytes())
features, label = table.drop(columns="label"), table["label"]
scores = {
    "accuracy": accuracy_score(label, model.predict(features)),
    "auc": roc_auc_score(label, model.predict_proba(features)[:, 1]),
}
given.out.mkdir(parents=True, exist_ok=True)
(given.out / "scores.json").write_text(json.dumps(scores))
