import os
import sys
import zipfile

from lib.words import loud

with zipfile.ZipFile("packed.zip") as archive:
    inside = archive.read("packed/inside.txt").decode().strip()
with open(sys.argv[2], "w") as file:
    file.write(f"{loud(sys.argv[1])} {inside} {sorted(os.listdir('.'))}")
