import argparse
from pathlib import Path

import penstock

parser = argparse.ArgumentParser()
parser.add_argument("--a", type=float)
parser.add_argument("--b", type=float)
parser.add_argument("--out")
args = parser.parse_args()
penstock.current_run().log("score", args.a * args.b)
Path(args.out, "b.txt").write_text(str(args.b))
