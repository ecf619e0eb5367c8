"""A replica in its own process, to be frozen or killed: `pinned_member.py <url> <workspace>`.

It takes a partition over with one compare-and-set, commits what it is delivered behind that fence,
and repeats its last commit every 0.1 s (under a new id) until it is refused.
"""

import asyncio
import sys

from penstock.bus import ConsumerSpec, Delivery, Expect
from penstock.bus.nats import connect
from penstock.errors import Conflict


def say(text: str) -> None:
    """Tell the test."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main(url: str, workspace: str) -> None:
    """Be a member until killed."""
    bus = await connect(url, name="member")
    fence = 0

    async def elected() -> None:
        nonlocal fence
        last = await bus.last(f"{workspace}-r", f"{workspace}.r.own")
        expect = Expect(last.sequence if last else 0)
        fence = (await bus.append(f"{workspace}.r.own", b"", expect=expect)).sequence
        say("elected")

    async def take(delivery: Delivery) -> None:
        data = delivery.message.data
        await commit(data, data.decode())
        await delivery.ack()

    async def commit(data: bytes, message_id: str) -> None:
        try:
            done = await bus.append(
                f"{workspace}.r.log",
                data,
                message_id=message_id,
                expect=Expect(fence, f"{workspace}.r.own"),
            )
        except Conflict as error:
            say(f"refused {error.code}")
            return
        if not done.duplicate:
            say(f"committed {data.decode()}")

    spec = ConsumerSpec(
        f"{workspace}-s", "c", (f"{workspace}.s.>",), pinned=True, pinned_ttl_s=2, ack_wait_s=2
    )
    await bus.consume(spec, take, on_elected=elected)
    say("ready")
    while True:
        await asyncio.sleep(0.1)
        if fence:
            await commit(b"0", "0")


asyncio.run(main(sys.argv[1], sys.argv[2]))
