#!/bin/sh
# start.sh FOLDER SOCKET: serve steps until the executor goes; 97: there is no Python here that can.
command -v python3 > /dev/null 2>&1 || exit 97
python3 -I -S -c 'import ctypes, sys; sys.exit(sys.version_info < (3, 10))' > /dev/null 2>&1 || exit 97
exec python3 -I -S "$1/attend.py" "$2"
