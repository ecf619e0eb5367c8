import argparse
import json
import pickle
from pathlib import Path

import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--training_data")
parser.add_argument("--test_share", type=float)
parser.add_argument("--seed", type=int)
parser.add_argument("--model")
parser.add_argument("--held_back")
args = parser.parse_args()

frame = pd.concat(pd.read_csv(path) for path in sorted(Path(args.training_data).glob("*.csv")))
train, test = train_test_split(frame, test_size=args.test_share, random_state=args.seed)
model = LinearRegression().fit(train[["x"]], train["y"])
with open(Path(args.model) / "model.pkl", "wb") as file:
    pickle.dump(model, file)
test.to_csv(Path(args.held_back) / "test.csv", index=False)
print(json.dumps({"rows": len(train)}))
