"""Fit a classifier."""

import argparse
import pickle
from pathlib import Path

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path)
parser.add_argument("--out", type=Path)
given = parser.parse_args()

table = pd.read_csv(given.data / "train.csv")
model = make_pipeline(PolynomialFeatures(2), StandardScaler(), LogisticRegression(max_iter=500))
model.fit(table.drop(columns="label"), table["label"])
given.out.mkdir(parents=True, exist_ok=True)
(given.out / "model.pickle").write_bytes(pickle.dumps(model))
