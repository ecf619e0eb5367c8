"""link.py OUT TEXT [IN]: read what the step before wrote, write one small file."""

import sys

text = sys.argv[2]
if len(sys.argv) > 3:
    with open(sys.argv[3] + "/link.txt") as file:
        text = file.read() + "."
with open(sys.argv[1] + "/link.txt", "w") as file:
    file.write(text)
