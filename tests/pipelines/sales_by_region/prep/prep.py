import argparse
import os

import pandas as pd

parser = argparse.ArgumentParser()
parser.add_argument("--raw")
parser.add_argument("--least", type=float)
parser.add_argument("--clean")
args = parser.parse_args()
files = os.listdir(args.raw)
print("files in the order of the folder:", files)
frame = pd.concat([pd.read_csv(os.path.join(args.raw, name)) for name in files])
frame["value"] = frame["count"] * frame["price"]
frame[frame["value"] >= args.least].to_csv(os.path.join(args.clean, "clean.csv"), index=False)
