# chain.sh N: N Python processes that do nothing, one after the other.
folder=$(dirname "$0")
for number in $(seq "$1"); do "$PYTHON" "$folder/noop.py" "$number" || exit 1; done
