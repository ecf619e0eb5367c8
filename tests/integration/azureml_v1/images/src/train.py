import argparse
import glob
import os

from azureml.core import Run
from sklearn.linear_model import LogisticRegression

parser = argparse.ArgumentParser()
parser.add_argument("--regularization", type=float, dest="reg", default=0.5)
parser.add_argument("--prepared")
args = parser.parse_args()

run = Run.get_context()
print("run", run.id)

features, labels = [], []
for path in glob.glob(os.path.join(args.prepared, "*.csv")):
    with open(path) as file:
        for line in file:
            numbers = [float(text) for text in line.split(",")]
            features.append(numbers[:-1])
            labels.append(int(numbers[-1]))

model = LogisticRegression(C=1.0 / args.reg, max_iter=200).fit(features, labels)
run.log("accuracy", float(model.score(features, labels)))
run.log("regularization", args.reg)
