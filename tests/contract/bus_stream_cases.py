"""Streams: appends and their conditions, reading, following, purging, timers."""

import asyncio
from contextlib import aclosing

import pytest
from tests.contract.bus_conformance import Heard, Rig, plain, queue, reader

from penstock.bus import (
    TOGETHER_MAX,
    Appended,
    Bus,
    Expect,
    Outgoing,
    Stored,
    StreamSpec,
    dead,
)
from penstock.bus.buckets import Bucket, bucket_spec
from penstock.bus.lanes import Lane
from penstock.errors import BusUnavailable, Conflict, Corrupt, Invalid, NotAllowed, PenstockError


async def made(rig: Rig, **changes: object) -> tuple[Bus, str]:
    """Return a connection and the root of a fresh stream's subjects."""
    bus = await rig.connect()
    await bus.ensure_stream(plain(rig.names, **changes))
    return bus, f"{rig.names.workspace}.s"


class StreamCases:
    """Run with a fixture `rig`."""

    # -- appending ------------------------------------------------------------------------------
    async def test_appends_are_numbered_and_read_back(self, rig: Rig) -> None:
        bus, root = await made(rig)
        assert await bus.append(f"{root}.a", b"1", {"h": "v"}) == Appended(1)
        assert await bus.append(f"{root}.b", b"2") == Appended(2)
        stored = await bus.last(rig.names.stream("s"), f"{root}.a")
        assert stored is not None
        assert (stored.subject, stored.data, stored.sequence) == (f"{root}.a", b"1", 1)
        assert stored.headers["h"] == "v"
        assert abs(stored.at - rig.now()) < 60

    async def test_a_dead_letter_that_fills_a_message_is_kept_by_its_beginning(
        self, rig: Rig
    ) -> None:
        workspace = rig.names.workspace
        both = (f"{workspace}.s.>", f"{workspace}.dead.>")
        bus, root = await made(rig, subjects=both)
        whole = b"x" * (1024 * 1024 - 10)
        for number, data in enumerate((b"small", whole)):
            own = {"ce-id": "1", "Nats-Msg-Id": "x"}
            letter = Stored(f"{root}.a", data, number + 1, 0.0, own)
            for _ in range(2):
                why = Corrupt("not\r\nours")
                await dead.keep(bus, rig.names, "s", letter, why, deliveries=5)
        kept: list[Stored] = []
        await bus.replay(rig.names.stream("s"), [rig.names.dead("s")], kept.append)
        assert [stored.data for stored in kept] == [b"small", whole[: dead.KEPT_BYTES]]
        assert {stored.headers["Penstock-Reason"] for stored in kept} == {"not ours"}
        assert kept[1].headers["Penstock-Truncated"] == str(len(whole))
        about = kept[0].headers
        assert (about["ce-id"], about[dead.CODE], about[dead.DELIVERIES]) == ("1", "E_CORRUPT", "5")
        assert about["Nats-Msg-Id"] == "dead.s.1-0"

    async def test_two_appends_with_one_id_are_one(self, rig: Rig) -> None:
        bus, root = await made(rig)
        other = await rig.connect("other")
        assert await bus.append(f"{root}.a", b"1", message_id="i") == Appended(1)
        assert await other.append(f"{root}.a", b"1", message_id="i") == Appended(1, duplicate=True)
        both = [await bus.append_soon(f"{root}.b", b"", message_id="j") for _ in range(2)]
        assert await asyncio.gather(*both) == [Appended(2), Appended(2, duplicate=True)]
        assert await bus.append(f"{root}.a", b"1") == Appended(3)

    async def test_an_id_is_forgotten_after_the_window(self, rig: Rig) -> None:
        bus, root = await made(rig, duplicate_window_s=0.3)
        await bus.append(f"{root}.a", b"1", message_id="i")
        await rig.pass_time(1.0)
        assert await bus.append(f"{root}.a", b"1", message_id="i") == Appended(2)

    async def test_an_expectation_that_is_not_met_is_a_conflict(self, rig: Rig) -> None:
        bus, root = await made(rig)
        assert await bus.append(f"{root}.a", b"", expect=Expect(0)) == Appended(1)
        with pytest.raises(Conflict) as caught:
            await bus.append(f"{root}.a", b"", expect=Expect(0))
        assert (caught.value.code, caught.value.where) == ("E_CONFLICT", f"{root}.a")
        assert await bus.append(f"{root}.a", b"", expect=Expect(1)) == Appended(2)
        await bus.append(f"{root}.b", b"", expect=Expect(2, f"{root}.a"))
        with pytest.raises(Conflict):
            await bus.append(f"{root}.c", b"", expect=Expect(2, f"{root}.>"))
        assert await bus.append(f"{root}.c", b"", expect=Expect(3, f"{root}.>")) == Appended(4)

    async def test_messages_stored_together_follow_each_other(self, rig: Rig) -> None:
        bus, root = await made(rig, allow_together=True)
        await bus.append(f"{root}.before", b"")
        many = [
            Outgoing(f"{root}.{n % 3}", b"%d" % n, {"h": str(n)}, f"id{n}", None)
            for n in range(300)
        ]
        assert await bus.append_together(many) == [Appended(n + 2) for n in range(300)]
        assert await bus.append_together([]) == []
        found: list[Stored] = []
        await bus.replay(rig.names.stream("s"), [f"{root}.*"], found.append, after=1)
        assert [(s.subject, s.data, s.headers["h"]) for s in found] == [
            (m.subject, m.data, (m.headers or {})["h"]) for m in many
        ]
        again = await bus.append(f"{root}.x", b"", message_id="id7")
        assert again == Appended(9, duplicate=True)

    async def test_of_messages_stored_together_all_are_stored_or_none(self, rig: Rig) -> None:
        bus, root = await made(rig, allow_together=True)
        await bus.append(f"{root}.a", b"", message_id="i")
        fine = Outgoing(f"{root}.b", b"", expect=Expect(0))
        for wrong in (
            Outgoing(f"{root}.a", b"", expect=Expect(0)),
            Outgoing(f"{root}.c", b"", message_id="i"),
        ):
            with pytest.raises(Conflict):
                await bus.append_together([fine, wrong, Outgoing(f"{root}.c", b"")])
        with pytest.raises(Invalid) as caught:
            await bus.append_together([fine, Outgoing(f"{root}.c", b"x" * 2_000_000)])
        assert caught.value.code == "E_TOO_LARGE"
        with pytest.raises(Invalid) as caught:
            await bus.append_together([fine] * (TOGETHER_MAX + 1))
        assert caught.value.code == "E_LIMIT"
        found: list[Stored] = []
        await bus.replay(rig.names.stream("s"), [f"{root}.*"], found.append)
        assert [stored.subject for stored in found] == [f"{root}.a"]
        assert await bus.append_together([fine]) == [Appended(2)]

    async def test_messages_go_together_only_where_a_stream_stores_them_so(self, rig: Rig) -> None:
        bus, root = await made(rig)
        with pytest.raises(Invalid):
            await bus.append_together([Outgoing(f"{root}.a", b""), Outgoing(f"{root}.b", b"")])
        assert await bus.last(rig.names.stream("s"), f"{root}.>") is None
        with pytest.raises(BusUnavailable) as caught:
            await bus.append_together([Outgoing("nobody.a", b""), Outgoing("nobody.b", b"")])
        assert caught.value.code == "E_NO_STREAM"

    @pytest.mark.parametrize("count", [3, 700])
    async def test_a_lane_stores_in_order_what_is_few_and_what_is_many(
        self, rig: Rig, count: int
    ) -> None:
        bus, root = await made(rig, allow_together=True)
        lane = Lane(bus)
        working = asyncio.create_task(lane.work())
        try:
            taken = Outgoing(f"{root}.taken", b"", expect=Expect(9))
            refused = lane.put(taken)
            futures = [lane.put(Outgoing(f"{root}.a", b"%d" % n)) for n in range(count)]
            await rig.wait(lane.passed())
            assert all(future.done() for future in futures)
            with pytest.raises(Conflict):
                await refused
        finally:
            working.cancel()
        found: list[Stored] = []
        await bus.replay(rig.names.stream("s"), [f"{root}.*"], found.append)
        assert [stored.data for stored in found] == [b"%d" % n for n in range(count)]

    async def test_a_zombies_commits_are_refused(self, rig: Rig) -> None:
        zombie, root = await made(rig)
        fence = await zombie.append(f"{root}.own.3", b"zombie", expect=Expect(0))
        expect = Expect(fence.sequence, f"{root}.own.3")
        await zombie.append(f"{root}.log.3", b"commit", expect=expect, message_id="c1")
        successor = await rig.connect("successor")
        last = await successor.last(rig.names.stream("s"), f"{root}.own.3")
        assert last is not None
        taken = await successor.append(f"{root}.own.3", b"me", expect=Expect(last.sequence))
        flight = [
            await zombie.append_soon(f"{root}.log.3", b"late", expect=expect) for _ in range(50)
        ]
        results = await asyncio.gather(*flight, return_exceptions=True)
        assert all(isinstance(result, Conflict) for result in results)
        found: list[Stored] = []
        await successor.replay(rig.names.stream("s"), [f"{root}.log.3"], found.append)
        assert [stored.data for stored in found] == [b"commit"]
        await successor.append(
            f"{root}.log.3", b"mine", expect=Expect(taken.sequence, f"{root}.own.3")
        )

    async def test_of_racing_creators_one_wins(self, rig: Rig) -> None:
        buses = [await rig.connect(str(n)) for n in range(3)]
        await buses[0].ensure_stream(plain(rig.names))
        subject = f"{rig.names.workspace}.s.once"
        results = await asyncio.gather(
            *(bus.append(subject, b"", expect=Expect(0)) for bus in buses for _ in range(5)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, Appended) for result in results) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 14

    async def test_a_subject_that_holds_one_message_refuses_the_second(self, rig: Rig) -> None:
        bus, root = await made(
            rig, retention="workqueue", max_msgs_per_subject=1, discard_new_per_subject=True
        )
        await bus.append(f"{root}.job.1", b"", message_id="a")
        with pytest.raises(Conflict) as caught:
            await bus.append(f"{root}.job.1", b"", message_id="b")
        assert caught.value.code == "E_QUEUED"
        assert (await bus.append(f"{root}.job.1", b"", message_id="a")).duplicate
        await bus.append(f"{root}.job.2", b"")

    async def test_nothing_stores_an_unknown_subject(self, rig: Rig) -> None:
        bus = await rig.connect()
        with pytest.raises(BusUnavailable) as caught:
            await asyncio.wait_for(bus.append(f"{rig.names.workspace}.none", b"", timeout_s=60), 5)
        assert caught.value.code == "E_NO_STREAM"
        with pytest.raises(BusUnavailable) as caught:
            await bus.last(rig.names.stream("none"), f"{rig.names.workspace}.none")
        assert caught.value.code == "E_NO_STREAM"

    async def test_a_full_stream_refuses_or_forgets(self, rig: Rig) -> None:
        bus, root = await made(rig, max_bytes=64 * 1024)

        async def fill() -> None:
            for _ in range(100):
                await bus.append(f"{root}.a", b"x" * 1000)

        with pytest.raises(BusUnavailable) as caught:
            await fill()
        assert caught.value.code == "E_FULL"
        await bus.purge(rig.names.stream("s"), f"{root}.>")
        await bus.append(f"{root}.a", b"x" * 1000)

        ring = StreamSpec(rig.names.stream("ring"), (f"{rig.names.workspace}.ring",), 64 * 1024)
        await bus.ensure_stream(ring)
        for number in range(200):
            await bus.append(f"{rig.names.workspace}.ring", b"%1000d" % number)
        kept: list[int] = []
        await bus.replay(ring.name, ring.subjects, lambda stored: kept.append(stored.sequence))
        assert kept == list(range(kept[0], 201))
        assert 1 < len(kept) < 70

    async def test_a_message_too_large_for_its_stream_is_refused(self, rig: Rig) -> None:
        bus, root = await made(rig, max_msg_size=1000)
        await bus.append(f"{root}.a", b"x" * 500)
        with pytest.raises(Invalid) as caught:
            await bus.append(f"{root}.a", b"x" * 2000)
        assert caught.value.code == "E_TOO_LARGE"
        with pytest.raises(Invalid) as caught:
            await bus.append_soon(f"{root}.a", b"x" * (2 * 1024 * 1024))
        assert caught.value.code == "E_TOO_LARGE"

    async def test_appends_in_flight_keep_their_order_and_all_resolve(self, rig: Rig) -> None:
        bus, root = await made(rig)
        futures = [
            await bus.append_soon(
                f"{root}.a", b"%d" % number, expect=Expect(7) if number % 10 == 9 else None
            )
            for number in range(500)
        ]
        results = await asyncio.gather(*futures, return_exceptions=True)
        conflicts = [r for r in results if isinstance(r, Conflict)]
        sequences = [r.sequence for r in results if isinstance(r, Appended)]
        assert len(conflicts) == 50
        assert sequences == list(range(1, 451))

    async def test_an_append_that_nobody_acknowledges_is_unknown_and_yet_stored(
        self, rig: Rig
    ) -> None:
        bus, root = await made(rig, no_ack=True)
        appending = asyncio.ensure_future(bus.append(f"{root}.a", b"1", timeout_s=0.3))
        await rig.wait(asyncio.wait({appending}))
        with pytest.raises(BusUnavailable):
            appending.result()
        await bus.publish(f"{root}.a", b"2")
        await bus.flush()
        found: list[bytes] = []
        await bus.replay(rig.names.stream("s"), [], lambda stored: found.append(stored.data))
        assert found == [b"1", b"2"]

    async def test_a_plain_publish_is_stored_and_a_request_is_acknowledged(self, rig: Rig) -> None:
        bus, root = await made(rig)
        await bus.publish(f"{root}.a", b"1")
        answer = await bus.request(f"{root}.a", b"2")
        assert b'"seq":2' in answer.data.replace(b" ", b"")

    # -- making streams -------------------------------------------------------------------------
    async def test_ensuring_a_stream_may_race_and_repeat(self, rig: Rig) -> None:
        buses = [await rig.connect(str(n)) for n in range(4)]
        spec = plain(rig.names)
        await asyncio.gather(*(bus.ensure_stream(spec) for bus in buses for _ in range(3)))
        await buses[0].append(f"{rig.names.workspace}.s.a", b"")
        await asyncio.gather(*(bus.ensure_stream(spec) for bus in buses))
        assert await buses[1].last(spec.name, spec.subjects[0]) is not None

    async def test_ensuring_widens_and_never_shrinks(self, rig: Rig) -> None:
        bus, root = await made(rig, max_bytes=1024 * 1024)
        for number in range(60):
            await bus.append(f"{root}.a", b"%1000d" % number)
        await bus.ensure_stream(plain(rig.names, max_bytes=16 * 1024, max_msgs_per_subject=1))
        found: list[int] = []
        await bus.replay(rig.names.stream("s"), [], lambda stored: found.append(stored.sequence))
        assert len(found) == 60
        extra = f"{rig.names.workspace}.extra"
        await bus.ensure_stream(plain(rig.names, subjects=(extra,)))
        assert (await bus.append(extra, b"")).sequence == 61
        assert (await bus.append(f"{root}.a", b"")).sequence == 62

    async def test_a_stream_of_another_kind_is_refused(self, rig: Rig) -> None:
        bus, root = await made(rig)
        with pytest.raises(Invalid):
            await bus.ensure_stream(queue(rig.names))
        with pytest.raises(Invalid):  # overlaps
            await bus.ensure_stream(plain(rig.names, name=rig.names.stream("other")))
        await bus.append(f"{root}.a", b"")

    # -- reading --------------------------------------------------------------------------------
    async def test_last_knows_wildcards_and_absence(self, rig: Rig) -> None:
        bus, root = await made(rig)
        for number, key in enumerate("abcab"):
            await bus.append(f"{root}.{key}.x", b"%d" % number)
        stream = rig.names.stream("s")
        asked = [f"{root}.a.x", f"{root}.none.x", f"{root}.*.x", f"{root}.c.>", f"{root}.>"]
        found = await bus.last_many(stream, asked)
        assert [stored and stored.data for stored in found] == [b"3", None, b"4", b"2", b"4"]
        assert [stored and stored.sequence for stored in found] == [4, None, 5, 3, 5]
        assert await bus.last_many(stream, []) == []
        assert await bus.last(stream, f"{root}.none.>") is None

    async def test_one_message_is_read_by_its_sequence(self, rig: Rig) -> None:
        bus, root = await made(rig)
        for number in range(3):
            await bus.append(f"{root}.a", b"%d" % number, {"h": str(number)})
        stream = rig.names.stream("s")
        stored = await bus.stored_at(stream, 2)
        assert stored is not None
        assert (stored.data, stored.sequence, stored.headers) == (b"1", 2, {"h": "1"})
        await bus.purge(stream, f"{root}.a", up_to=3)
        assert await bus.stored_at(stream, 2) is None
        assert await bus.stored_at(stream, 99) is None

    async def test_last_works_without_direct_get(self, rig: Rig) -> None:
        bus, root = await made(rig, allow_direct=False)
        await bus.append(f"{root}.a", b"1", {"h": "v"})
        stream = rig.names.stream("s")
        stored = await bus.last(stream, f"{root}.*")
        assert stored is not None
        assert (stored.data, stored.sequence, stored.headers) == (b"1", 1, {"h": "v"})
        assert await bus.last(stream, f"{root}.none") is None

    async def test_replay_hands_over_what_is_stored_in_order(self, rig: Rig) -> None:
        bus, root = await made(rig)
        stream = rig.names.stream("s")
        found: list[Stored] = []
        assert await bus.replay(stream, [f"{root}.>"], found.append) == 0
        futures = [await bus.append_soon(f"{root}.{n % 3}", b"%d" % n) for n in range(5000)]
        await asyncio.gather(*futures)
        assert await bus.replay(stream, [f"{root}.>"], found.append) == 5000
        assert [stored.sequence for stored in found] == list(range(1, 5001))
        assert [int(stored.data) for stored in found] == list(range(5000))
        found.clear()
        await bus.replay(stream, [f"{root}.0", f"{root}.2"], found.append, after=4990)
        assert [stored.sequence for stored in found] == [4992, 4993, 4995, 4996, 4998, 4999]
        found.clear()
        assert await bus.replay(stream, [f"{root}.none"], found.append) == 5000
        assert await bus.replay(stream, [f"{root}.>"], found.append, after=5000) == 5000
        assert found == []

    async def test_an_error_of_a_replay_handler_is_raised(self, rig: Rig) -> None:
        bus, root = await made(rig)
        await bus.append(f"{root}.a", b"")

        def fail(stored: Stored) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await bus.replay(rig.names.stream("s"), [], fail)

    async def test_follow_goes_from_history_to_live_without_a_gap(self, rig: Rig) -> None:
        bus, root = await made(rig)
        writer = await rig.connect("writer")
        heard: Heard[int] = Heard()
        caught_up_at: list[int] = []

        async def hear(stored: Stored) -> None:
            heard.add(stored.sequence)

        async def caught_up() -> None:
            caught_up_at.append(len(heard.items))

        for _ in range(100):
            await writer.append(f"{root}.a", b"")
        following = await bus.follow(
            rig.names.stream("s"), [f"{root}.>"], hear, after=10, on_caught_up=caught_up
        )
        futures = [await writer.append_soon(f"{root}.b", b"") for _ in range(400)]
        await asyncio.gather(*futures)
        await rig.wait(heard.count(490))
        assert heard.items == list(range(11, 501))
        assert len(caught_up_at) == 1
        assert caught_up_at[0] >= 90
        await following.close()
        await writer.append(f"{root}.a", b"")
        await rig.pass_time(0.1)
        assert len(heard.items) == 490

    async def test_follow_of_an_empty_stream_is_caught_up_at_once(self, rig: Rig) -> None:
        bus, root = await made(rig)
        done = asyncio.Event()

        async def hear(stored: Stored) -> None:
            raise AssertionError

        async def caught_up() -> None:
            done.set()

        await bus.follow(rig.names.stream("s"), [f"{root}.>"], hear, on_caught_up=caught_up)
        await rig.wait(done.wait())

    async def test_follow_begins_with_the_newest_of_each_subject(self, rig: Rig) -> None:
        bus, root = await made(rig)
        for number in range(30):
            await bus.append(f"{root}.{number % 3}", b"%d" % number)
        heard: Heard[bytes] = Heard()

        async def hear(stored: Stored) -> None:
            heard.add(stored.data)

        await bus.follow(rig.names.stream("s"), [f"{root}.>"], hear, last_per_subject=True)
        await rig.wait(heard.count(3))
        await bus.append(f"{root}.0", b"live")
        await rig.wait(heard.count(4))
        assert heard.items == [b"27", b"28", b"29", b"live"]

    async def test_follow_of_news_skips_history(self, rig: Rig) -> None:
        bus, root = await made(rig)
        await bus.append(f"{root}.a", b"old")
        heard: Heard[bytes] = Heard()

        async def hear(stored: Stored) -> None:
            heard.add(stored.data)

        await bus.follow(rig.names.stream("s"), [f"{root}.>"], hear, new_only=True)
        await bus.append(f"{root}.a", b"new")
        await rig.wait(heard.count(1))
        assert heard.items == [b"new"]

    async def test_a_follower_that_fails_gets_the_message_again(self, rig: Rig) -> None:
        bus, root = await made(rig)
        heard: Heard[bytes] = Heard()

        async def hear(stored: Stored) -> None:
            heard.add(stored.data)
            if len(heard.items) == 2:
                raise RuntimeError("once")

        await bus.follow(rig.names.stream("s"), [f"{root}.>"], hear)
        for number in range(3):
            await bus.append(f"{root}.a", b"%d" % number)
        await rig.wait(heard.count(4))
        assert heard.items == [b"0", b"1", b"1", b"2"]

    async def test_stored_iterates_and_ends_with_its_loop(self, rig: Rig) -> None:
        bus, root = await made(rig)
        for number in range(5):
            await bus.append(f"{root}.a", b"%d" % number)
        found = []
        async with aclosing(bus.stored(rig.names.stream("s"), [f"{root}.>"], after=1)) as messages:  # type: ignore[type-var]
            async for stored in messages:
                found.append(stored.sequence)
                if stored.sequence == 5:
                    break
        assert found == [2, 3, 4, 5]

    async def test_purge_takes_subjects_and_a_bound(self, rig: Rig) -> None:
        bus, root = await made(rig)
        stream = rig.names.stream("s")
        for number in range(10):
            await bus.append(f"{root}.{number % 2}", b"")
        assert await bus.purge(stream, f"{root}.0", up_to=5) == 2
        assert await bus.purge(stream, f"{root}.*", up_to=3) == 1
        found: list[int] = []
        await bus.replay(stream, [], lambda stored: found.append(stored.sequence))
        assert found == [4, 5, 6, 7, 8, 9, 10]
        assert await bus.purge(stream, f"{root}.>") == 7
        assert (await bus.append(f"{root}.0", b"")).sequence == 11

    async def test_buckets_compare_and_set(self, rig: Rig) -> None:
        bus = await rig.connect()
        name = rig.names.bucket("b")
        await bus.ensure_stream(bucket_spec(name, max_bytes=1024 * 1024))
        bucket = Bucket(bus, name, dict[str, int])
        assert await bucket.get("k") is None
        first = await bucket.create("k", {"n": 1})
        with pytest.raises(Conflict):
            await bucket.create("k", {"n": 2})
        await bucket.update("k", {"n": 2}, first.sequence)
        with pytest.raises(Conflict):
            await bucket.update("k", {"n": 3}, first.sequence)
        found = await bucket.get("k")
        assert found is not None
        assert (found.value, found.revision) == ({"n": 2}, 2)
        await bucket.delete("k")
        assert await bucket.get_many(["k", "other"]) == [None, None]
        await bucket.create("k", {"n": 4})

    async def test_old_messages_are_forgotten(self, rig: Rig) -> None:
        bus, root = await made(rig, max_age_s=0.5, duplicate_window_s=0.2)
        await bus.append(f"{root}.a", b"")
        await rig.pass_time(1.5)
        assert await bus.last(rig.names.stream("s"), f"{root}.a") is None

    # -- timers ---------------------------------------------------------------------------------
    async def test_timers_fire_move_and_are_cancelled(self, rig: Rig) -> None:
        root = rig.names.workspace
        bus = await rig.connect()
        await bus.ensure_stream(
            queue(
                rig.names,
                subjects=(f"{root}.timer.>", f"{root}.due.>"),
                discard="old",
                allow_schedules=True,
                allow_ttl=True,
            )
        )
        due: Heard[tuple[bytes, float]] = Heard()

        async def hear(delivery: object) -> None:
            message = delivery.message  # type: ignore[attr-defined]
            due.add((message.data, message.at))
            assert message.subject == f"{root}.due.0.x"
            await delivery.ack()  # type: ignore[attr-defined]

        await bus.consume(reader(rig.names, filter_subjects=(f"{root}.due.>",)), hear)
        began = rig.now()

        async def schedule(timer: str, data: bytes, at: float) -> None:
            await (await bus.schedule(f"{root}.timer.0.{timer}", f"{root}.due.0.x", data, at))

        await schedule("a", b"late", began + 1.2)
        await schedule("b", b"moved too early", began + 0.2)
        await schedule("b", b"moved", began + 0.6)
        await schedule("c", b"cancelled", began + 0.5)
        await schedule("d", b"past", began - 100)
        assert await bus.purge(rig.names.stream("s"), f"{root}.timer.0.c") == 1
        await rig.wait(due.count(3))
        assert [data for data, _ in due.items] == [b"past", b"moved", b"late"]
        lateness = [at - began - w for (_, at), w in zip(due.items, (0, 0.6, 1.2), strict=True)]
        assert all(-0.01 < late < 0.5 for late in lateness), lateness

    async def test_a_schedule_needs_a_stream_that_allows_it(self, rig: Rig) -> None:
        bus, root = await made(rig)
        future = await bus.schedule(f"{root}.timer", f"{root}.due", b"", rig.now() + 1)
        with pytest.raises(PenstockError) as caught:
            await future
        assert not isinstance(caught.value, NotAllowed | BusUnavailable)
