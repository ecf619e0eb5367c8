# fan.sh N: N Python processes that do nothing, two at a time.
folder=$(dirname "$0")
seq "$1" | xargs -P2 -n1 "$PYTHON" "$folder/noop.py"
