#!/bin/sh
# plain.sh PIPES FOLDER TEXT: run one command in an image without Python, its output into PIPES/out and
# PIPES/err. PIPES/alive ends when the executor goes, however it goes: then everything here is killed.
pipes=$1
cd "$2" || exit 126
shell=$(command -v bash || echo /bin/sh)
(
    trap "" TERM
    read -r never < "$pipes/alive"
    kill -s KILL -- -1
) > /dev/null 2>&1 &
trap 'kill -s TERM -- -1' TERM
"$shell" -c "$3" < /dev/null > "$pipes/out" 2> "$pipes/err" &
command=$!
while :; do
    wait "$command"
    status=$?
    kill -s 0 "$command" 2> /dev/null || exit "$status"    # else a signal has woken us
done
