import argparse
import os
import socket
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--out")
parser.add_argument("--text")
args = parser.parse_args()
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:  # all others meet it, which shows that they run side by side
    server = socket.create_server(address)
    for _ in range(size - 1):
        server.accept()[0].sendall(b"met")
else:
    for _ in range(600):
        try:
            with socket.create_connection(address) as line:
                assert line.recv(3) == b"met"
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    else:
        raise SystemExit("nobody at rank 0")
node, local = os.environ["NODE_RANK"], os.environ["LOCAL_RANK"]
Path(args.out, f"{rank}.txt").write_text(f"{rank} of {size}, {local} on {node}: {args.text}")
