"""Split the images into those to learn from and those for the examination."""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--test-size", type=float, default=0.25)
parser.add_argument("--seed", type=int, default=7)
options = parser.parse_args()

images, digits = load_digits(return_X_y=True)  # 1,797 images of 8 x 8 pixels, 0 to 16
rows = np.column_stack([digits, images])
train, test = train_test_split(
    rows, test_size=options.test_size, random_state=options.seed, stratify=digits
)

options.out.mkdir(parents=True, exist_ok=True)
np.savetxt(options.out / "train.csv", train, fmt="%d", delimiter=",")
np.savetxt(options.out / "test.csv", test, fmt="%d", delimiter=",")
print(f"{len(train)} images to learn from, {len(test)} for the examination")
