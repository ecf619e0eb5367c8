import sys

with open(sys.argv[sys.argv.index("--out") + 1], "w") as file:
    file.write(repr(sys.argv[1:2]))
