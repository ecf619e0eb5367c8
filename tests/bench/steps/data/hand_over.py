"""hand_over.py write OUT MIB SALT · read IN MIB SALT: one big file in blocks of 1 MiB, no two of them equal."""

import os
import random
import sys

BLOCK = 1024 * 1024


def write(folder, mib, salt):
    block = bytearray(random.Random(salt).randbytes(BLOCK))
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/big.bin", "wb", buffering=0) as file:
        for number in range(mib):
            block[:8] = number.to_bytes(8, "big")
            file.write(block)


def read(folder, mib, salt):
    count = 0
    block = bytearray(BLOCK)
    with open(f"{folder}/big.bin", "rb", buffering=0) as file:
        while size := file.readinto(block):
            assert size == BLOCK and block[:8] == count.to_bytes(8, "big"), "not what was written"
            count += 1
    assert count == mib, f"{count} MiB instead of {mib}"


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), sys.argv[4])
