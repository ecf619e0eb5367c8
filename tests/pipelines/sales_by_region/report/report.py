import argparse
import json
import os

import pandas as pd

parser = argparse.ArgumentParser()
parser.add_argument("--clean")
parser.add_argument("--report")
args = parser.parse_args()
frame = pd.read_csv(os.path.join(args.clean, "clean.csv"))
sums = frame.groupby("region")["value"].sum()
with open(args.report, "w") as file:
    json.dump({region: round(float(value), 6) for region, value in sums.items()}, file)
