"""Make a table of measurements, clean it, split it."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path)
parser.add_argument("--salt")
given = parser.parse_args()

random = np.random.default_rng(int(given.salt, 16))
table = pd.DataFrame(random.normal(size=(2000, 8)), columns=[f"f{n}" for n in range(8)])
table["label"] = (table["f0"] + table["f1"] * table["f2"] > 0).astype(int)
table = table.dropna().drop_duplicates()
train, test = train_test_split(table, test_size=0.25, random_state=0)
given.out.mkdir(parents=True, exist_ok=True)
train.to_csv(given.out / "train.csv", index=False)
test.to_csv(given.out / "test.csv", index=False)
