import time

first = time.time()

import sys

with open(sys.argv[1] + "/out.txt", "w") as file:
    file.write(sys.argv[2])
print(first)
print(time.time())
