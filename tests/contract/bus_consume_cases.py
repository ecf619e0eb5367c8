"""Durable consumers: loans, redelivery, sharing, slots, and the pinned member."""

import asyncio

import pytest
from tests.contract.bus_conformance import Heard, Rig, plain, queue, reader

from penstock.bus import Bus, ConsumerSpec, Delivery, Standing
from penstock.errors import NotAllowed

Seen = tuple[bytes, int]


def seen(delivery: Delivery) -> Seen:
    """Return what a delivery brought, and for which time."""
    return delivery.message.data, delivery.deliveries


async def filled(rig: Rig, number: int, **changes: object) -> tuple[Bus, str]:
    """Return a connection to a work queue of `number` messages, and its subjects' root."""
    bus = await rig.connect()
    await bus.ensure_stream(queue(rig.names, **changes))
    root = f"{rig.names.workspace}.s"
    await asyncio.gather(*[await bus.append_soon(f"{root}.a", b"%d" % n) for n in range(number)])
    return bus, root


async def emptied(rig: Rig, bus: Bus) -> None:
    """Return when the stream holds nothing any more; fail when that takes too long."""
    for _ in range(100):
        if await bus.last(rig.names.stream("s"), ">") is None:
            return
        await rig.pass_time(0.05)
    raise AssertionError("messages are left")


async def left(rig: Rig, bus: Bus) -> int:
    """Return how many messages the stream still holds."""
    return await bus.purge(rig.names.stream("s"), ">")


class ConsumeCases:
    """Run with a fixture `rig`."""

    async def test_deliveries_come_in_order_and_acks_empty_a_work_queue(self, rig: Rig) -> None:
        bus, root = await filled(rig, 1000)
        got: Heard[int] = Heard()

        async def take(delivery: Delivery) -> None:
            assert delivery.deliveries == 1
            got.add(delivery.message.sequence)
            await delivery.ack()

        await bus.consume(reader(rig.names), take, batch=64)
        await rig.wait(got.count(1000))
        await bus.append(f"{root}.b", b"")
        await rig.wait(got.count(1001))
        assert got.items == list(range(1, 1002))
        await emptied(rig, bus)

    async def test_what_is_not_settled_comes_again(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 2)
        got: Heard[Seen] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(seen(delivery))
            if delivery.deliveries == 2:
                await delivery.ack()

        await bus.consume(reader(rig.names, ack_wait_s=0.5), take)
        await rig.wait(got.count(4))
        assert sorted(got.items) == [(b"0", 1), (b"0", 2), (b"1", 1), (b"1", 2)]
        await bus.flush()
        await rig.pass_time(1.5)
        assert len(got.items) == 4

    async def test_a_nak_brings_it_again_at_once_or_later(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 1)
        times: Heard[float] = Heard()

        async def take(delivery: Delivery) -> None:
            times.add(rig.now())
            if delivery.deliveries == 1:
                await delivery.nak()
            elif delivery.deliveries == 2:
                await delivery.nak(0.6)
            else:
                await delivery.ack()

        await bus.consume(reader(rig.names, ack_wait_s=30), take)
        await rig.wait(times.count(3))
        one, two, three = times.items
        assert two - one < 0.5
        assert 0.55 < three - two < 2

    async def test_progress_keeps_a_loan(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 1)
        got: Heard[Seen] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(seen(delivery))
            if delivery.deliveries == 1:
                for _ in range(8):
                    await rig.pass_time(0.25)
                    await delivery.in_progress()
            await delivery.ack()

        async def never() -> None:
            await got.count(2)

        await bus.consume(reader(rig.names, ack_wait_s=1), take)
        await rig.wait(got.count(1))
        waiting = asyncio.ensure_future(never())
        await rig.pass_time(3.5)
        assert not waiting.done()
        waiting.cancel()

    async def test_a_terminated_message_never_comes_again(self, rig: Rig) -> None:
        bus, root = await filled(rig, 1)
        got: Heard[Seen] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(seen(delivery))
            await delivery.term("not ours:\nbroken")

        await bus.consume(reader(rig.names, ack_wait_s=0.3), take)
        await rig.wait(got.count(1))
        await bus.append(f"{root}.b", b"next")
        await rig.wait(got.count(2))
        await rig.pass_time(1)
        assert got.items == [(b"0", 1), (b"next", 1)]
        await emptied(rig, bus)

    async def test_deliveries_end_at_their_limit(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 1)
        got: Heard[Seen] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(seen(delivery))
            await delivery.nak()

        await bus.consume(reader(rig.names, max_deliver=3), take)
        await rig.wait(got.count(3))
        await rig.pass_time(0.5)
        assert got.items == [(b"0", 1), (b"0", 2), (b"0", 3)]
        assert await left(rig, bus) == 1  # it stays, for whoever looks

    async def test_a_handler_that_fails_does_not_end_the_loop(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 3)
        got: Heard[Seen] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(seen(delivery))
            if seen(delivery) == (b"1", 1):
                raise RuntimeError("once")
            await delivery.ack()

        await bus.consume(reader(rig.names, ack_wait_s=30), take)
        await rig.wait(got.count(4))
        assert got.items == [(b"0", 1), (b"1", 1), (b"2", 1), (b"1", 2)]

    async def test_members_share_without_repeating(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 0)
        other = await rig.connect("other")
        got: Heard[tuple[str, bytes]] = Heard()

        async def take_one(delivery: Delivery) -> None:
            got.add(("one", delivery.message.data))
            await delivery.ack()

        async def take_two(delivery: Delivery) -> None:
            got.add(("two", delivery.message.data))
            await delivery.ack()

        await bus.consume(reader(rig.names), take_one, batch=8)
        await other.consume(reader(rig.names), take_two, batch=8)
        for number in range(200):
            await bus.append_soon(f"{rig.names.workspace}.s.a", b"%d" % number)
        await rig.wait(got.count(200))
        assert sorted(int(data) for _, data in got.items) == list(range(200))
        assert {who for who, _ in got.items} == {"one", "two"}

    async def test_a_filter_keeps_others_messages_away(self, rig: Rig) -> None:
        bus, root = await filled(rig, 0)
        got: Heard[str] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(delivery.message.subject)
            await delivery.ack()

        spec = reader(rig.names, filter_subjects=(f"{root}.gpu.>", f"{root}.tpu.>"))
        await bus.consume(spec, take)
        for subject in ("cpu.1", "gpu.1", "tpu.1", "cpu.2", "gpu.2"):
            await bus.append(f"{root}.{subject}", b"")
        await rig.wait(got.count(3))
        assert got.items == [f"{root}.gpu.1", f"{root}.tpu.1", f"{root}.gpu.2"]

    async def test_a_consumer_of_news_skips_what_was_there(self, rig: Rig) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names))
        root = f"{rig.names.workspace}.s"
        await bus.append(f"{root}.a", b"old")
        got: Heard[bytes] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(delivery.message.data)
            await delivery.ack()

        await bus.consume(reader(rig.names, start="new"), take)
        await bus.append(f"{root}.a", b"new")
        await rig.wait(got.count(1))
        assert got.items == [b"new"]

    async def test_a_member_that_closes_leaves_the_rest_to_others(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 100)
        first: Heard[bytes] = Heard()
        second: Heard[bytes] = Heard()
        hold = asyncio.Event()

        async def take_first(delivery: Delivery) -> None:
            if len(first.items) == 10:
                await hold.wait()
            await delivery.ack()
            first.add(delivery.message.data)

        async def take_second(delivery: Delivery) -> None:
            await delivery.ack()
            second.add(delivery.message.data)

        spec = reader(rig.names, ack_wait_s=60)
        consumption = await bus.consume(spec, take_first, batch=50)
        await rig.wait(first.count(10))
        closing = asyncio.ensure_future(consumption.close())
        await asyncio.sleep(0)
        hold.set()  # the eleventh was in hand, and is finished
        await closing
        assert len(first.items) == 11
        other = await rig.connect("other")
        await other.consume(spec, take_second)
        await rig.wait(second.count(89))
        assert sorted(int(d) for d in first.items + second.items) == list(range(100))

    async def test_a_consumption_may_be_ensured_and_started_by_many_at_once(self, rig: Rig) -> None:
        bus, root = await filled(rig, 0)
        spec = reader(rig.names)
        buses = [await rig.connect(str(n)) for n in range(4)]
        got: Heard[bytes] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(delivery.message.data)
            await delivery.ack()

        await asyncio.gather(*(b.ensure_consumer(spec) for b in buses))
        await asyncio.gather(*(b.consume(spec, take) for b in buses))
        await bus.append(f"{root}.a", b"x")
        await rig.wait(got.count(1))
        await rig.pass_time(0.2)
        assert got.items == [b"x"]

    # -- slots ----------------------------------------------------------------------------------
    async def test_only_as_many_come_as_are_allowed(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 20)
        got: Heard[Delivery] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(delivery)

        consumption = await bus.consume(reader(rig.names), take, batch=0)
        await rig.pass_time(0.3)
        assert got.items == []
        consumption.allow(3)
        await rig.wait(got.count(3))
        await rig.pass_time(0.3)
        assert len(got.items) == 3
        for delivery in got.items[:2]:
            await delivery.ack()
        consumption.allow(2)
        await rig.wait(got.count(5))
        consumption.allow(0)
        await rig.pass_time(0.3)
        assert [d.message.data for d in got.items] == [b"0", b"1", b"2", b"3", b"4"]

    async def test_slots_wait_for_work(self, rig: Rig) -> None:
        bus, root = await filled(rig, 0)
        got: Heard[bytes] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(delivery.message.data)
            await delivery.ack()

        consumption = await bus.consume(reader(rig.names), take, batch=0)
        consumption.allow(1)
        consumption.allow(2)
        for number in range(4):
            await bus.append(f"{root}.a", b"%d" % number)
        await rig.wait(got.count(2))
        await rig.pass_time(0.3)
        assert got.items == [b"0", b"1"]
        consumption.allow(5)
        await rig.wait(got.count(4))

    async def test_slots_that_are_taken_back_bring_nothing(self, rig: Rig) -> None:
        bus, root = await filled(rig, 0)
        other = await rig.connect("other")
        got: Heard[tuple[str, bytes, int]] = Heard()

        async def take_one(delivery: Delivery) -> None:
            got.add(("one", *seen(delivery)))
            await delivery.ack()

        async def take_two(delivery: Delivery) -> None:
            got.add(("two", *seen(delivery)))
            await delivery.ack()

        draining = await bus.consume(reader(rig.names, ack_wait_s=60), take_one, batch=0)
        draining.allow(5)
        await rig.pass_time(0.2)
        draining.allow(0)
        await rig.pass_time(0.2)
        staying = await other.consume(reader(rig.names, ack_wait_s=60), take_two, batch=0)
        staying.allow(5)
        for number in range(3):
            await bus.append(f"{root}.a", b"%d" % number)
        await rig.wait(got.count(3), 5)
        assert got.items == [("two", b"%d" % number, 1) for number in range(3)]

    async def test_a_consumer_tells_where_it_stands(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 4)
        spec = reader(rig.names)
        assert await bus.standing(spec.stream, "nobody") == Standing()
        await bus.ensure_consumer(spec)
        assert await bus.standing(spec.stream, spec.name) == Standing(0, 4, 0)
        got: Heard[Delivery] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(delivery)

        consumption = await bus.consume(spec, take, batch=0)
        consumption.allow(2)
        await rig.wait(got.count(2))
        assert await bus.standing(spec.stream, spec.name) == Standing(0, 2, 2)
        await got.items[0].ack()
        for _ in range(100):
            found = await bus.standing(spec.stream, spec.name)
            if found.floor == 1:
                break
            await rig.pass_time(0.05)
        assert found.floor == 1
        assert found.pending + found.on_loan == 3

    async def test_pulling_that_is_denied_fails_the_call(self, rig: Rig) -> None:
        bus, _ = await filled(rig, 0)
        spec = reader(rig.names, name="forbidden")
        await bus.ensure_consumer(spec)
        limited = await rig.limited()

        async def take(delivery: Delivery) -> None:
            raise AssertionError

        with pytest.raises(NotAllowed) as caught:
            await asyncio.wait_for(limited.consume(spec, take), 5)
        assert "MSG.NEXT" in caught.value.message


class Member:
    """One replica at a pinned consumer."""

    def __init__(self, name: str, rig: Rig, log: Heard[tuple[str, str]]) -> None:
        self.name = name
        self.rig = rig
        self.log = log
        self.bus: Bus

    async def join(self, spec: ConsumerSpec) -> None:
        """Connect and take part."""
        self.bus = await self.rig.connect(self.name)
        self.consumption = await self.bus.consume(spec, self.take, on_elected=self.elected)

    async def elected(self) -> None:
        """Note the election, slowly."""
        self.log.add((self.name, "electing"))
        await asyncio.sleep(0)
        self.log.add((self.name, "elected"))

    async def take(self, delivery: Delivery) -> None:
        """Note and settle a message."""
        self.log.add((self.name, delivery.message.data.decode()))
        await delivery.ack()


class PinnedCases:
    """Run with a fixture `rig`."""

    async def test_one_member_is_elected_before_its_first_delivery(self, rig: Rig) -> None:
        bus, root = await filled(rig, 0)
        log: Heard[tuple[str, str]] = Heard()
        spec = reader(rig.names, pinned=True, pinned_ttl_s=1)
        members = [Member(name, rig, log) for name in "ab"]
        for member in members:
            await member.join(spec)
        for number in range(30):
            await bus.append(f"{root}.x", b"%d" % number)
        await rig.wait(log.count(32))
        names = {name for name, _ in log.items}
        assert len(names) == 1
        assert [what for _, what in log.items] == [
            "electing",
            "elected",
            *(str(n) for n in range(30)),
        ]

    async def test_an_idle_member_stays_elected(self, rig: Rig) -> None:
        bus, root = await filled(rig, 0)
        log: Heard[tuple[str, str]] = Heard()
        spec = reader(rig.names, pinned=True, pinned_ttl_s=0.5)
        for name in "ab":
            await Member(name, rig, log).join(spec)
        await bus.append(f"{root}.x", b"0")
        await rig.wait(log.count(3))
        await rig.pass_time(2.5)
        await bus.append(f"{root}.x", b"1")
        await rig.wait(log.count(4))
        assert [what for _, what in log.items] == ["electing", "elected", "0", "1"]

    async def test_another_is_elected_when_the_first_closes(self, rig: Rig) -> None:
        bus, root = await filled(rig, 0)
        log: Heard[tuple[str, str]] = Heard()
        spec = reader(rig.names, pinned=True, pinned_ttl_s=60)
        one, two = Member("one", rig, log), Member("two", rig, log)
        await one.join(spec)
        await bus.append(f"{root}.x", b"0")
        await rig.wait(log.count(3))
        await two.join(spec)
        await one.consumption.close()
        await bus.append(f"{root}.x", b"1")
        await rig.wait(log.count(6), 5)  # well before the time to live is over
        assert log.items[3:] == [("two", "electing"), ("two", "elected"), ("two", "1")]

    async def test_another_is_elected_when_the_first_dies(self, rig: Rig) -> None:
        bus, root = await filled(rig, 0)
        log: Heard[tuple[str, str]] = Heard()
        spec = reader(rig.names, pinned=True, pinned_ttl_s=1, ack_wait_s=2)
        one, two = Member("one", rig, log), Member("two", rig, log)
        await one.join(spec)
        await bus.append(f"{root}.x", b"0")
        await rig.wait(log.count(3))
        await two.join(spec)
        await rig.crash(one.bus)
        began = rig.now()
        await bus.append(f"{root}.x", b"1")
        await rig.wait(log.until(lambda items: ("two", "1") in items))
        assert rig.now() - began < 5
        assert log.items[3:5] == [("two", "electing"), ("two", "elected")]

    async def test_taking_over_is_tried_until_it_succeeds(self, rig: Rig) -> None:
        bus, root = await filled(rig, 0)
        log: Heard[str] = Heard()

        async def elected() -> None:
            log.add("try")
            if len(log.items) < 3:
                raise RuntimeError("not yet")

        async def take(delivery: Delivery) -> None:
            log.add("message")
            await delivery.ack()

        await bus.consume(reader(rig.names, pinned=True), take, on_elected=elected)
        await bus.append(f"{root}.x", b"")
        await rig.wait(log.count(4))
        assert log.items == ["try", "try", "try", "message"]
