"""What a service imports, and then nothing: its memory in KiB is printed."""

import asyncio
from pathlib import Path

import msgspec
import structlog
from nats.aio.client import Client


async def main() -> None:
    """Be there, as a service would be."""
    Client()


assert msgspec
assert structlog
asyncio.run(main())
lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))
