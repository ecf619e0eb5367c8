"""Core NATS: publish, subscribe, request, serve, and denied subjects."""

import asyncio

import msgspec
import pytest
from tests.contract.bus_conformance import Heard, Rig

from penstock.bus import Received
from penstock.errors import BusUnavailable, Invalid, NotAllowed, NotFound, Refused


class CoreCases:
    """Run with a fixture `rig`."""

    async def test_a_message_reaches_every_subscriber_and_one_of_each_queue_group(
        self, rig: Rig
    ) -> None:
        one, two = await rig.connect("one"), await rig.connect("two")
        subject = f"{rig.names.workspace}.news.a"
        alone: Heard[str] = Heard()
        group: Heard[str] = Heard()

        async def hear_alone(message: Received) -> None:
            alone.add(message.data.decode())

        async def hear_in_group(message: Received) -> None:
            group.add(message.data.decode())

        await one.subscribe(f"{rig.names.workspace}.news.*", hear_alone)
        await two.subscribe(f"{rig.names.workspace}.news.>", hear_alone)
        await one.subscribe(subject, hear_in_group, queue="g")
        await two.subscribe(subject, hear_in_group, queue="g")
        for number in range(20):
            await one.publish(subject, str(number).encode())
        await one.flush()
        await rig.wait(alone.count(40))
        await rig.wait(group.count(20))
        assert sorted(alone.items) == sorted([str(n) for n in range(20)] * 2)
        assert sorted(group.items) == sorted(str(n) for n in range(20))

    async def test_headers_and_reply_arrive_as_they_were_sent(self, rig: Rig) -> None:
        bus = await rig.connect()
        heard: Heard[Received] = Heard()

        async def hear(message: Received) -> None:
            heard.add(message)

        subject = f"{rig.names.workspace}.h"
        await bus.subscribe(subject, hear)
        headers = {"ce-id": "1", "Traceparent": "00-äö-%20"}
        await bus.publish(subject, b"\x00\xff", headers, reply="somewhere.else")
        await rig.wait(heard.count(1))
        assert heard.items == [Received(subject, b"\x00\xff", headers, "somewhere.else")]

    async def test_a_reply_address_that_would_lend_our_rights_never_arrives(self, rig: Rig) -> None:
        bus, workspace = await rig.connect(), rig.names.workspace
        heard: Heard[Received] = Heard()

        async def hear(message: Received) -> None:
            heard.add(message)

        subject = rig.names.query("pipeline.list")
        await bus.subscribe(subject, hear)
        lent = (f"$JS.API.STREAM.DELETE.{workspace}-events", f"{workspace}.runlog.3", "$SYS.x")
        for reply in (*lent, "_INBOX.x"):
            await bus.publish(subject, b"{}", reply=reply)
        await rig.wait(heard.count(4))
        assert [message.reply for message in heard.items] == ["", "", "", "_INBOX.x"]

    async def test_a_service_is_not_asked_about_itself_into_its_own_workspace(
        self, rig: Rig
    ) -> None:
        bus = await rig.connect()
        heard: Heard[Received] = Heard()

        async def hear(message: Received) -> None:
            heard.add(message)

        log = f"{rig.names.workspace}.runlog.3"
        service = await bus.serve("lender", {rig.names.query("runs"): hear})
        await bus.subscribe(log, hear)
        await bus.subscribe("elsewhere", hear)
        await bus.publish("$SRV.PING", b"", reply=log)
        await bus.publish("$SRV.PING", b"", reply="elsewhere")
        await rig.wait(heard.count(1))
        assert {message.subject for message in heard.items} == {"elsewhere"}
        await service.close()

    async def test_a_handler_gets_messages_one_after_the_other_and_survives_its_errors(
        self, rig: Rig
    ) -> None:
        bus = await rig.connect()
        heard: Heard[int] = Heard()
        inside = 0

        async def hear(message: Received) -> None:
            nonlocal inside
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1
            number = int(message.data)
            heard.add(number)
            if number % 3 == 0:
                raise ValueError(number)

        subject = f"{rig.names.workspace}.order"
        await bus.subscribe(subject, hear)
        for number in range(50):
            await bus.publish(subject, str(number).encode())
        await rig.wait(heard.count(50))
        assert heard.items == list(range(50))

    async def test_a_closed_subscription_hears_nothing(self, rig: Rig) -> None:
        bus = await rig.connect()
        closed: Heard[bytes] = Heard()
        opened: Heard[bytes] = Heard()

        async def hear_closed(message: Received) -> None:
            closed.add(message.data)

        async def hear_opened(message: Received) -> None:
            opened.add(message.data)

        subject = f"{rig.names.workspace}.closing"
        subscription = await bus.subscribe(subject, hear_closed)
        await bus.subscribe(subject, hear_opened)
        await bus.publish(subject, b"1")
        await rig.wait(closed.count(1))
        await subscription.close()
        await bus.publish(subject, b"2")
        await rig.wait(opened.count(2))
        assert closed.items == [b"1"]

    async def test_a_request_is_answered(self, rig: Rig) -> None:
        bus, other = await rig.connect("asks"), await rig.connect("answers")

        async def answer(message: Received) -> None:
            await other.publish(message.reply, message.data * 2, {"x": "y"})

        subject = f"{rig.names.workspace}.double"
        await other.subscribe(subject, answer)
        answered = await bus.request(subject, b"ab")
        assert (answered.data, answered.headers) == (b"abab", {"x": "y"})

    async def test_a_request_to_nobody_fails_at_once(self, rig: Rig) -> None:
        bus = await rig.connect()
        with pytest.raises(NotFound) as caught:
            await asyncio.wait_for(
                bus.request(f"{rig.names.workspace}.nobody", b"", timeout_s=60), 5
            )
        assert caught.value.code == "E_NO_RESPONDER"
        assert caught.value.where.endswith(".nobody")

    async def test_a_request_without_an_answer_times_out(self, rig: Rig) -> None:
        bus = await rig.connect()

        async def ignore(message: Received) -> None:
            pass

        subject = f"{rig.names.workspace}.silent"
        await bus.subscribe(subject, ignore)
        asking = asyncio.ensure_future(bus.request(subject, b"", timeout_s=0.2))
        await rig.wait(asyncio.wait({asking}))
        with pytest.raises(BusUnavailable) as caught:
            asking.result()
        assert caught.value.code == "E_TIMEOUT"

    async def test_malformed_subjects_are_refused(self, rig: Rig) -> None:
        bus = await rig.connect()
        for subject in ("", "two words", "line\r\nbreak"):
            with pytest.raises(Invalid):
                await bus.publish(subject, b"")

    async def test_a_message_above_max_payload_is_refused_and_the_connection_lives(
        self, rig: Rig
    ) -> None:
        bus = await rig.connect()
        subject = f"{rig.names.workspace}.large"
        with pytest.raises(Invalid) as caught:
            await bus.publish(subject, b"x" * (1024 * 1024 + 1))
        assert caught.value.code == "E_TOO_LARGE"
        with pytest.raises(Invalid):  # headers count
            await bus.publish(subject, b"x" * (1024 * 1024 - 100), {"h": "y" * 200})
        with pytest.raises(Invalid):
            await bus.request(subject, b"x" * (1024 * 1024 + 1))
        await bus.flush()

    # -- micro services -------------------------------------------------------------------------
    async def test_a_service_answers_and_is_found(self, rig: Rig) -> None:
        bus, asker = await rig.connect("serves"), await rig.connect("asks")

        async def runs(message: Received) -> None:
            await bus.publish(message.reply, b"runs:" + message.data)

        subject = f"{rig.names.workspace}.query.runs"
        service = await bus.serve("scheduler", {subject: runs}, queue="q", metadata={"a": "b"})
        assert (await asker.request(subject, b"1")).data == b"runs:1"
        name = "$SRV.PING.scheduler"
        found = msgspec.json.decode((await asker.request(name, b"")).data)
        assert found["type"] == "io.nats.micro.v1.ping_response"
        assert (found["name"], found["metadata"]) == ("scheduler", {"a": "b"})
        stats = msgspec.json.decode((await asker.request("$SRV.STATS.scheduler", b"")).data)
        assert [(e["subject"], e["num_requests"]) for e in stats["endpoints"]] == [(subject, 1)]
        info = msgspec.json.decode((await asker.request("$SRV.INFO.scheduler", b"")).data)
        assert [e["queue_group"] for e in info["endpoints"]] == ["q"]
        await service.close()
        with pytest.raises(NotFound):
            await asker.request(subject, b"1")

    async def test_errors_of_an_endpoint_are_answered(self, rig: Rig) -> None:
        bus = await rig.connect()

        async def refuse(message: Received) -> None:
            raise Refused("no such run", code="E_RUN", where="run x", hint="look again")

        async def break_down(message: Received) -> None:
            raise KeyError("x")

        root = rig.names.workspace
        await bus.serve("bad", {f"{root}.refuse": refuse, f"{root}.break": break_down})
        refused = await bus.request(f"{root}.refuse", b"")
        assert msgspec.json.decode(refused.data) == {
            "error": {
                "code": "E_RUN",
                "message": "no such run",
                "where": "run x",
                "hint": "look again",
            }
        }
        assert refused.headers["Nats-Service-Error"] == "no such run"
        assert refused.headers["Nats-Service-Error-Code"]
        broken = await bus.request(f"{root}.break", b"")
        assert msgspec.json.decode(broken.data)["error"]["code"] == "E_INTERNAL"

    async def test_requests_to_a_service_run_side_by_side(self, rig: Rig) -> None:
        bus = await rig.connect()
        together = asyncio.Barrier(8)

        async def meet(message: Received) -> None:
            await together.wait()  # nobody passes unless all eight are inside
            await bus.publish(message.reply, b"met")

        subject = f"{rig.names.workspace}.meet"
        await bus.serve("meeting", {subject: meet})
        answers = asyncio.gather(*(bus.request(subject, b"") for _ in range(8)))
        await rig.wait(answers)
        assert [answer.data for answer in answers.result()] == [b"met"] * 8

    # -- permissions ----------------------------------------------------------------------------
    async def test_a_denied_subject_fails_the_call_that_used_it(self, rig: Rig) -> None:
        limited = await rig.limited()
        secret = f"{rig.names.workspace}.secret.Plan"

        async def hear(message: Received) -> None:
            pass

        with pytest.raises(NotAllowed) as caught:
            await asyncio.wait_for(limited.request(secret, b"", timeout_s=60), 5)
        assert secret in caught.value.message
        with pytest.raises(NotAllowed) as caught:
            await asyncio.wait_for(limited.append(secret, b"", timeout_s=60), 5)
        assert secret in caught.value.message

        async def publish() -> None:  # said at once, or when the server has answered
            await limited.publish(secret, b"")
            await limited.flush()

        with pytest.raises(NotAllowed):
            await publish()
        with pytest.raises(NotAllowed) as caught:
            await limited.subscribe(secret, hear)
        assert secret in caught.value.message
        with pytest.raises(NotAllowed) as caught:
            await asyncio.wait_for(limited.purge(rig.names.stream("s"), ">"), 5)
        assert "PURGE" in caught.value.message

    async def test_what_is_not_denied_still_works_after_a_denial(self, rig: Rig) -> None:
        limited = await rig.limited()
        with pytest.raises(NotAllowed):
            await limited.request(f"{rig.names.workspace}.secret.x", b"")
        heard: Heard[bytes] = Heard()

        async def hear(message: Received) -> None:
            heard.add(message.data)

        await limited.subscribe(f"{rig.names.workspace}.open", hear)
        await limited.publish(f"{rig.names.workspace}.open", b"1")
        await rig.wait(heard.count(1))
        await limited.flush()

    async def test_a_closed_connection_fails_every_call(self, rig: Rig) -> None:
        bus = await rig.connect()
        await bus.close()
        with pytest.raises(BusUnavailable):
            await bus.publish("x", b"")
        with pytest.raises(BusUnavailable):
            await bus.request("x", b"")
        with pytest.raises(BusUnavailable):
            await asyncio.wait_for(bus.append("x", b""), 5)
        await bus.close()
