# talk.sh SCRIPT LINES SALT FILE: what a step writes, into a file, durable.
"$PYTHON" "$1" "$2" "$3" > "$4" && sync "$4"
