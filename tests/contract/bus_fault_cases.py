"""What a killed and restarted server may not change."""

import asyncio

import pytest
from tests.contract.bus_conformance import Heard, Rig, plain, queue, reader

from penstock.bus import Appended, Delivery, Outgoing, Received, Stored
from penstock.bus.lanes import Lane
from penstock.errors import BusUnavailable


class FaultCases:
    """Run with a fixture `rig` whose server may be killed."""

    async def test_an_append_waits_for_the_server_and_is_stored_once(self, rig: Rig) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names))
        root = f"{rig.names.workspace}.s"
        await bus.append(f"{root}.a", b"1")
        await rig.kill()
        appending = asyncio.ensure_future(
            bus.append(f"{root}.a", b"2", message_id="i", timeout_s=30)
        )
        await asyncio.sleep(0)
        await rig.start()
        await rig.wait(asyncio.wait({appending}))
        assert appending.result().sequence == 2
        found: list[bytes] = []
        await bus.replay(rig.names.stream("s"), [], lambda stored: found.append(stored.data))
        assert found == [b"1", b"2"]

    async def test_an_append_does_not_wait_for_ever(self, rig: Rig) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names))
        root = f"{rig.names.workspace}.s"
        await rig.kill()
        both = [
            asyncio.ensure_future(bus.append(f"{root}.a", b"", timeout_s=0.5)),
            asyncio.ensure_future(bus.append(f"{root}.a", b"", message_id="i", timeout_s=0.5)),
        ]
        await rig.wait(asyncio.wait(both), 5)
        for appending in both:
            with pytest.raises(BusUnavailable) as caught:
                appending.result()
            assert caught.value.code == "E_BUS"
        await rig.start()

    async def test_appends_in_flight_are_stored_once_and_in_order_over_a_kill(
        self, rig: Rig
    ) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names))
        root = f"{rig.names.workspace}.s"
        futures = []
        for number in range(3000):
            if number == 1500:
                await rig.kill()
            futures.append(
                await bus.append_soon(f"{root}.a", b"%d" % number, message_id=str(number))
            )
            if number % 50 == 0:
                await asyncio.sleep(0)
        await rig.start()
        every = asyncio.gather(*futures)
        await rig.wait(every, 20)
        found: list[int] = []
        await bus.replay(rig.names.stream("s"), [], lambda stored: found.append(int(stored.data)))
        assert found == list(range(3000))
        assert [a.sequence for a in every.result()] == list(range(1, 3001))

    @pytest.mark.parametrize("turns", [1, 30, 300, 1_000])
    async def test_what_goes_together_is_stored_once_and_in_order_over_a_kill(
        self, rig: Rig, turns: int
    ) -> None:
        """A kill before, amid and behind a batch: none of it is lost, none of it is there twice."""
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names, allow_together=True))
        lane = Lane(bus)
        working = asyncio.create_task(lane.work())
        subject = f"{rig.names.workspace}.s.a"
        futures = [lane.put(Outgoing(subject, b"%d" % n, message_id=str(n))) for n in range(4000)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await rig.kill()
        await rig.start()
        every = asyncio.gather(*futures)
        await rig.wait(every, 30)
        working.cancel()
        found: list[int] = []
        await bus.replay(rig.names.stream("s"), [], lambda stored: found.append(int(stored.data)))
        assert found == list(range(4000))
        assert [a.sequence for a in every.result()] == list(range(1, 4001))

    async def test_appends_without_an_id_resolve_over_a_kill(self, rig: Rig) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names))
        root = f"{rig.names.workspace}.s"
        futures = [await bus.append_soon(f"{root}.a", b"%d" % n) for n in range(500)]
        await rig.kill()
        await rig.start()
        results = asyncio.gather(*futures, return_exceptions=True)
        await rig.wait(results, 20)
        found: list[int] = []
        await bus.replay(rig.names.stream("s"), [], lambda stored: found.append(int(stored.data)))
        assert len(found) == len(set(found))  # an unknown one may be there, but only once
        acknowledged = {n for n, r in enumerate(results.result()) if isinstance(r, Appended)}
        assert acknowledged <= set(found)
        assert all(isinstance(r, Appended | BusUnavailable) for r in results.result())

    async def test_consuming_goes_on_after_a_kill(self, rig: Rig) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(queue(rig.names))
        root = f"{rig.names.workspace}.s"
        got: Heard[bytes] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(delivery.message.data)
            await delivery.ack()

        await bus.consume(reader(rig.names, ack_wait_s=1), take)
        for number in range(3):
            await bus.append(f"{root}.a", b"%d" % number, message_id=f"{number}")
            await rig.wait(got.until(lambda items, n=number: b"%d" % n in items))  # type: ignore[misc]
            await rig.kill()
            await rig.start()
        await bus.append(f"{root}.a", b"last", message_id="last")
        await rig.wait(got.until(lambda items: b"last" in items))
        assert set(got.items) == {b"0", b"1", b"2", b"last"}

    async def test_a_member_is_elected_anew_after_a_kill(self, rig: Rig) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(queue(rig.names))
        log: Heard[str] = Heard()

        async def elected() -> None:
            log.add("elected")

        async def take(delivery: Delivery) -> None:
            log.add(delivery.message.data.decode())
            await delivery.ack()

        spec = reader(rig.names, pinned=True, ack_wait_s=1)
        await bus.consume(spec, take, on_elected=elected)
        await bus.append(f"{rig.names.workspace}.s.a", b"0", message_id="0")
        await rig.wait(log.count(2))
        await bus.flush()
        await rig.kill()
        await rig.start()
        await bus.append(f"{rig.names.workspace}.s.a", b"1", message_id="1", timeout_s=30)
        await rig.wait(log.until(lambda items: "1" in items))
        assert log.items[:3] == ["elected", "0", "elected"]

    async def test_slots_survive_a_kill(self, rig: Rig) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(queue(rig.names))
        got: Heard[bytes] = Heard()

        async def take(delivery: Delivery) -> None:
            got.add(delivery.message.data)
            await delivery.ack()

        consumption = await bus.consume(reader(rig.names), take, batch=0)
        consumption.allow(2)
        await rig.pass_time(0.1)
        await rig.kill()
        await rig.start()
        for number in range(4):
            await bus.append(f"{rig.names.workspace}.s.a", b"%d" % number, message_id=f"{number}")
        await rig.wait(got.count(2))
        await rig.pass_time(0.5)
        assert got.items == [b"0", b"1"]

    async def test_following_has_no_gap_and_no_repetition_over_kills(self, rig: Rig) -> None:
        bus, writer = await rig.connect("reads"), await rig.connect("writes")
        await bus.ensure_stream(plain(rig.names))
        root = f"{rig.names.workspace}.s"
        heard: Heard[int] = Heard()

        async def hear(stored: Stored) -> None:
            heard.add(int(stored.data))

        await bus.follow(rig.names.stream("s"), [f"{root}.>"], hear)
        for number in range(90):
            await writer.append(f"{root}.a", b"%d" % number, message_id=str(number), timeout_s=30)
            if number % 30 == 29:
                await rig.kill()
                await rig.start()
        await rig.wait(heard.count(90), 20)
        assert heard.items == list(range(90))

    async def test_following_news_misses_nothing_over_a_kill(self, rig: Rig) -> None:
        bus, writer = await rig.connect("reads"), await rig.connect("writes")
        await bus.ensure_stream(plain(rig.names))
        root = f"{rig.names.workspace}.s"
        await writer.append(f"{root}.a", b"old")
        heard: Heard[bytes] = Heard()

        async def hear(stored: Stored) -> None:
            heard.add(stored.data)

        await bus.follow(rig.names.stream("s"), [f"{root}.>"], hear, new_only=True)
        await rig.kill()
        await rig.start()
        for number in range(5):
            await writer.append(f"{root}.a", b"%d" % number, message_id=f"{number}", timeout_s=30)
        await rig.wait(heard.count(5), 20)
        assert heard.items == [b"0", b"1", b"2", b"3", b"4"]

    async def test_subscriptions_and_services_come_back(self, rig: Rig) -> None:
        bus, asker = await rig.connect("serves"), await rig.connect("asks")
        root = rig.names.workspace
        back: Heard[str] = Heard()
        heard: Heard[bytes] = Heard()

        async def serve(message: Received) -> None:
            await bus.publish(message.reply, b"here")

        async def hear(message: Received) -> None:
            heard.add(message.data)

        async def found_bus() -> None:
            back.add("bus")

        async def found_asker() -> None:
            back.add("asker")

        bus.on_reconnect(found_bus)
        asker.on_reconnect(found_asker)
        await bus.serve("svc", {f"{root}.q": serve})
        await bus.subscribe(f"{root}.news", hear)
        assert (await asker.request(f"{root}.q", b"")).data == b"here"
        await rig.kill()
        await rig.start()
        await rig.wait(back.count(2))
        assert sorted(back.items) == ["asker", "bus"]
        assert (await asker.request(f"{root}.q", b"")).data == b"here"
        await asker.publish(f"{root}.news", b"1")
        await rig.wait(heard.count(1))

    async def test_a_request_under_way_fails_when_the_server_dies(self, rig: Rig) -> None:
        bus = await rig.connect()
        asked: Heard[bytes] = Heard()

        async def ignore(message: Received) -> None:
            asked.add(message.data)

        subject = f"{rig.names.workspace}.silent"
        await bus.subscribe(subject, ignore)
        asking = asyncio.ensure_future(bus.request(subject, b"", timeout_s=60))
        await rig.wait(asked.count(1))
        await rig.kill()
        await rig.wait(asyncio.wait({asking}), 10)
        with pytest.raises(BusUnavailable) as caught:
            asking.result()
        assert caught.value.code == "E_BUS"
        await rig.start()

    async def test_timers_survive_a_kill(self, rig: Rig) -> None:
        root = rig.names.workspace
        bus = await rig.connect()
        await bus.ensure_stream(
            queue(
                rig.names,
                subjects=(f"{root}.timer.>", f"{root}.due.>"),
                discard="old",
                allow_schedules=True,
            )
        )
        due: Heard[bytes] = Heard()

        async def hear(delivery: Delivery) -> None:
            due.add(delivery.message.data)
            await delivery.ack()

        for number in range(3):
            at = rig.now() + 0.3 + number / 2
            await (
                await bus.schedule(f"{root}.timer.{number}", f"{root}.due.x", b"%d" % number, at)
            )
        await rig.kill()
        await rig.start()
        await bus.consume(reader(rig.names, filter_subjects=(f"{root}.due.>",)), hear)
        await rig.wait(due.count(3))
        await rig.pass_time(0.3)
        assert due.items == [b"0", b"1", b"2"]

    async def test_a_publish_while_the_server_is_away_is_sent_when_it_is_back(
        self, rig: Rig
    ) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names))
        gone: Heard[str] = Heard()

        async def found() -> None:
            gone.add("back")

        bus.on_reconnect(found)
        await rig.kill()
        await rig.pass_time(0.3)  # until the loss is noticed; before that a publish may be lost
        await bus.publish(f"{rig.names.workspace}.s.a", b"kept")
        await rig.start()
        await rig.wait(gone.count(1))
        await bus.flush()
        stored = await bus.last(rig.names.stream("s"), f"{rig.names.workspace}.s.a")
        assert stored is not None
        assert stored.data == b"kept"
