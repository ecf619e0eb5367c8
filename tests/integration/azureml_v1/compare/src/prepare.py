import argparse
import os

import joblib
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--train_path", type=str)
parser.add_argument("--test_path", type=str)
parser.add_argument("--test_size", type=float)
args = parser.parse_args()

features, labels = load_wine(return_X_y=True)
parts = train_test_split(features, labels, test_size=args.test_size, random_state=7)
for folder, names in ((args.train_path, (0, 2)), (args.test_path, (1, 3))):
    os.makedirs(folder, exist_ok=True)
    joblib.dump([parts[n] for n in names], os.path.join(folder, "rows.pkl"))
