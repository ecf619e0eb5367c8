# realistic.sh SOURCES FOLDER SALT: prepare, train and evaluate, as a person would type it.
set -e
"$PYTHON" "$1/prepare.py" --out "$2/data" --salt "$3"
"$PYTHON" "$1/train.py" --data "$2/data" --out "$2/model"
"$PYTHON" "$1/evaluate.py" --data "$2/data" --model "$2/model" --out "$2/report"
