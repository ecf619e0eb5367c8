import csv
import sys

rows, part, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with open(rows) as file:
    row = list(csv.DictReader(file))[part]
with open(f"{out}/part.csv", "w") as file:
    file.write(f"{row['region']},{int(row['count']) * float(row['price'])}\n")
