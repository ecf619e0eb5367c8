import argparse
import os

import joblib
from penstock.azureml.core.run import Run
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--train_path")
parser.add_argument("--model")
parser.add_argument("--kind")
args = parser.parse_args()

run = Run.get_context()
run.tag("kind-" + args.kind, os.environ["AML_PARAMETER_team"])
kinds = {
    "tree": DecisionTreeClassifier(max_depth=2, random_state=1),
    "linear": make_pipeline(StandardScaler(), LogisticRegression()),
}
features, labels = joblib.load(os.path.join(args.train_path, "rows.pkl"))
model = kinds[args.kind].fit(features, labels)
os.makedirs(args.model, exist_ok=True)
joblib.dump(model, os.path.join(args.model, "model.pkl"))
run.log("train_accuracy", model.score(features, labels))
