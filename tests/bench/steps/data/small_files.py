"""small_files.py write OUT COUNT SALT · read IN COUNT SALT: files of 4 KiB in 50 folders, no two equal."""

import os
import random
import sys

SIZE = 4096


def write(folder, count, salt):
    body = bytearray(random.Random(salt).randbytes(SIZE))
    for number in range(50):
        os.makedirs(f"{folder}/{number:02}", exist_ok=True)
    for number in range(count):
        body[:8] = number.to_bytes(8, "big")
        with open(f"{folder}/{number % 50:02}/{number:05}.bin", "wb", buffering=0) as file:
            file.write(body)


def read(folder, count, salt):
    for number in range(count):
        with open(f"{folder}/{number % 50:02}/{number:05}.bin", "rb", buffering=0) as file:
            body = file.read()
        assert len(body) == SIZE and body[:8] == number.to_bytes(8, "big"), number


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), sys.argv[4])
