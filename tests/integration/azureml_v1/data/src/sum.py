import argparse
import os

from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--rows")
parser.add_argument("--out")
args = parser.parse_args()
run = Run.get_context()
total = 0
for name in os.listdir(args.rows):
    with open(os.path.join(args.rows, name)) as file:
        total += sum(int(line) for line in file if line.strip().isdigit())
run.log("total", total)
frame = run.input_datasets["table"].to_pandas_dataframe()
run.log("mean", float(frame["b"].mean()))
with open(os.path.join(args.out, "total.txt"), "w") as file:
    file.write(str(total))
