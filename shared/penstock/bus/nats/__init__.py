"""The bus on a real NATS server, through nats-py's core client; JetStream is spoken by ourselves.

nats-py gives bytes, subscriptions and pings. Everything above that is here, because it must fail
promptly and survive restarts: a mailbox for replies, pipelined appends whose futures always
resolve (nats.py #985), pull loops with a watchdog (a restarted server forgets pull requests), and
consumer fields that nats-py does not know (pinned priority groups).
"""

import sys

# nats-py imports aiohttp where it is installed, for websockets, which we do not speak: 100 ms of every start.
_hidden = "aiohttp" not in sys.modules
if _hidden:
    sys.modules["aiohttp"] = None  # type: ignore[assignment]
try:
    from penstock.bus.nats.adapter import NatsBus, connect
finally:
    if _hidden:
        del sys.modules["aiohttp"]

__all__ = ["NatsBus", "connect"]
