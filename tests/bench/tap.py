"""A listener in a process of its own: `python -m tests.bench.tap URL` prints when each message passed.

Its clock is the machine's, so its lines stand beside the client's moments and the steps' own.
"""

import asyncio
import signal
import sys
import time

from nats.aio.client import Client
from nats.aio.msg import Msg


async def main(url: str) -> None:
    """Print "seconds-since-1970 subject" for every message, until SIGTERM; "ready" first."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    heard: list[tuple[float, str]] = []

    async def take(message: Msg) -> None:
        heard.append((time.time(), message.subject))

    client = Client()
    await client.connect(url)
    await client.subscribe(">", cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await client.flush()
    print("ready", flush=True)
    await stopping.wait()
    await client.close()
    for at, subject in heard:
        print(at, subject)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
