"""The bus in memory, for tests and simulations: one MemoryServer, any number of connections.

Held to the same conformance suite as the real one. Nothing is durable, nothing is random: the same
calls in the same order give the same deliveries. Time is a Clock; a moved clock needs a call of
`MemoryServer.wake` to let timers, redeliveries and timeouts happen.

    server = MemoryServer(clock)          # without a clock: the machine's, waking by itself
    bus = await server.connect("planner-1")
    await server.advance(2.5)             # with a ManualClock
"""

from penstock.bus.memory.adapter import MemoryBus
from penstock.bus.memory.server import ManualClock, MemoryServer

__all__ = ["ManualClock", "MemoryBus", "MemoryServer"]
