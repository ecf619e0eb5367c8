"""talk.py LINES SALT: write so many lines of 80 characters."""

import sys

lines, salt = int(sys.argv[1]), sys.argv[2]
for number in range(lines):
    sys.stdout.write(f"{number:>12} {salt} {'x' * 49}\n")
