import argparse
import json
import pickle
from pathlib import Path

import pandas as pd
from sklearn.metrics import mean_absolute_error

parser = argparse.ArgumentParser()
for name in ("--model", "--test_data", "--report"):
    parser.add_argument(name)
args = parser.parse_args()
model = pickle.loads((Path(args.model) / "model.pkl").read_bytes())
frame = pd.read_csv(Path(args.test_data) / "test.csv")
error = mean_absolute_error(frame["y"], model.predict(frame[["x"]]))
result = {
    "slope": round(float(model.coef_[0]), 6),
    "intercept": round(float(model.intercept_), 6),
    "rows": len(frame),
    "error": round(float(error), 6),
}
Path(args.report).write_text(json.dumps(result, sort_keys=True))
