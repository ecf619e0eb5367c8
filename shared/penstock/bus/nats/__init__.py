"""The bus on a real NATS server, through nats-py's core client; JetStream is spoken by ourselves.

nats-py gives bytes, subscriptions and pings. Everything above that is here, because it must fail
promptly and survive restarts: a mailbox for replies, pipelined appends whose futures always
resolve (nats.py #985), pull loops with a watchdog (a restarted server forgets pull requests), and
consumer fields that nats-py does not know (pinned priority groups).
"""

from penstock.bus.nats.adapter import NatsBus, connect

__all__ = ["NatsBus", "connect"]
