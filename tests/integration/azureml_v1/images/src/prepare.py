"""Turns the raw images of a folder into one table, as Azure's tutorial does with Fashion-MNIST."""

import os
import sys

mounted_input_path = sys.argv[1]
mounted_output_path = sys.argv[2]

os.makedirs(mounted_output_path, exist_ok=True)
rows = []
for name in os.listdir(mounted_input_path):
    with open(os.path.join(mounted_input_path, name)) as file:
        rows += file.read().splitlines()
with open(os.path.join(mounted_output_path, "mnist_train.csv"), "w") as file:
    file.write("\n".join(rows))
print(len(rows), "images")
